"""What the state directory holds, as facts for doctor: records, claims, files of killed writes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr import claims
from hwmgr.doctor.facts_temporaries import temporaries
from hwmgr.errors import RecordTorn
from hwmgr.journal import SCHEMA
from hwmgr.journal import decode as decode_record
from hwmgr.pci import parse_address
from hwmgr.savedstate import all_entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.doctor.facts_temporaries import Temporary
    from hwmgr.holders import NamespaceKey
    from hwmgr.model import Record
    from hwmgr.node import Node
    from hwmgr.savedstate import SavedEntry
    from hwmgr.sight import Sight
    from hwmgr.store import StateDir

_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class RecordFile:
    """One file of the journal: ``problem`` says why it is no record, ``schema`` is its number.

    ``address`` is what its name says, None for a name that is no address as records have it.
    """

    name: str
    path: str
    address: str | None
    record: Record | None = None
    problem: str | None = None
    schema: object = SCHEMA

    @property
    def fits(self) -> bool:
        """Tell whether the record is of the function that the file is named after."""
        return self.record is not None and self.record.address == self.address


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim file: the path in it, and the namespace that this leads to, None when to none.

    ``unjudged``: that it leads to none means nothing where we run.
    """

    path: str
    key: NamespaceKey | None
    unjudged: bool = False

    @property
    def live(self) -> bool:
        """Tell whether the path still is a namespace."""
        return self.key is not None


@dataclass(frozen=True, slots=True)
class StateFacts:
    """All of the state directory that doctor looks at; ``torn_claims`` by file name, with why."""

    root: str
    mode: int
    files: tuple[RecordFile, ...]
    claims: dict[str, Claim]
    torn_claims: dict[str, str]
    entries: tuple[SavedEntry, ...]
    temporaries: tuple[Temporary, ...]


def gather_state(node: Node, sight: Sight, *, everything: bool = True) -> StateFacts:
    """Read the state directory; without ``everything`` only records and claims. Writes nothing."""
    state = node.state
    found: dict[str, Claim] = {}
    torn: dict[str, str] = {}
    for address in claims.addresses(state):
        try:
            path = claims.claimed_by(state, address)
        except RecordTorn as error:
            torn[address] = error.reason
            continue
        if path is not None:
            key = sight.namespace(path)
            found[address] = Claim(path, key, key is None and sight.says_nothing(path))
    return StateFacts(
        root=state.root,
        mode=_mode(state.root),
        files=tuple(_record_files(state)),
        claims=found,
        torn_claims=torn,
        entries=tuple(all_entries(state)) if everything else (),
        temporaries=tuple(temporaries(node, sight)) if everything else (),
    )


def is_busy(node: Node, address: str) -> bool:
    """Tell whether a call is working on a function; what is no address is none."""
    return parse_address(address) is not None and node.state.is_locked(
        "pci", "vf_lock", address + ".lock"
    )


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode & 0o7777
    except OSError:
        return 0o700


def _record_files(state: StateDir) -> Iterator[RecordFile]:
    for name in state.list("journal"):
        path = state.path("journal", name)
        if name == "containers":
            # The other plane's: multus.intents.
            continue
        stem = name.removesuffix(_SUFFIX)
        address = parse_address(stem) if name == f"{parse_address(stem)}{_SUFFIX}" else None
        try:
            value = state.read_json("journal", name)
        except RecordTorn as error:
            yield RecordFile(name, path, address, problem=error.reason)
            continue
        schema = value.get("schema") if isinstance(value, dict) else SCHEMA
        try:
            record = decode_record(value, path)
        except RecordTorn as error:
            yield RecordFile(name, path, address, problem=error.reason, schema=schema)
            continue
        yield RecordFile(name, path, address, record)
