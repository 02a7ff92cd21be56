"""What ``hwmgr apply`` remembers of each PF, as facts for doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from hwmgr import applyrecord
from hwmgr.errors import NetlinkError, RecordTorn
from hwmgr.pci import parse_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hwmgr.applyrecord import ApplyRecord
    from hwmgr.node import Node

FOLDER = "applied"
_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class AppliedFile:
    """One apply record: ``problem`` says why it is none, ``schema`` is its number.

    ``address`` is the PF that its name says, None for a name that is no such. ``busy``: an apply is
    at work on that PF.
    """

    name: str
    path: str
    address: str | None
    record: ApplyRecord | None = None
    problem: str | None = None
    schema: object = applyrecord.SCHEMA
    busy: bool = False


def applied_files(node: Node) -> Iterator[AppliedFile]:
    """Yield every file among the apply records."""
    state = node.state
    for name in state.list(FOLDER):
        path = state.path(FOLDER, name)
        stem = name.removesuffix(_SUFFIX)
        address = parse_address(stem) if name == f"{parse_address(stem)}{_SUFFIX}" else None
        busy = address is not None and state.is_locked("locks", "pf", f"{address}.lock")
        try:
            value = state.read_json(FOLDER, name)
        except RecordTorn as error:
            yield AppliedFile(name, path, address, problem=error.reason, busy=busy)
            continue
        known = applyrecord.SCHEMA
        schema = value.get("schema", known) if isinstance(value, dict) else known
        try:
            record = applyrecord.decode(cast("dict[str, Any]", value))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"{type(error).__name__}: {error}"
            yield AppliedFile(name, path, address, None, problem, schema, busy)
            continue
        if record.address == address:
            yield AppliedFile(name, path, address, record, busy=busy)
        else:
            problem = f"it is the record of {record.address}"
            yield AppliedFile(name, path, address, problem=problem, busy=busy)


def eswitch_modes(node: Node, files: Iterable[AppliedFile]) -> dict[str, str]:
    """Return the mode of the embedded switch of each PF that apply wants one of, by address."""
    found: dict[str, str] = {}
    for record in (f.record for f in files if f.record is not None):
        wanted = record.wanted_pf
        asked = wanted is not None and wanted.eswitch_mode is not None
        if asked or any(s.attribute == "eswitchMode" for s in record.steps):
            try:
                found[record.address] = node.devlink.eswitch_mode(record.address) or "legacy"
            except NetlinkError as error:
                # EPERM: devlink answers root alone.
                node.log(str(error))
    return found
