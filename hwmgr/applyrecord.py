"""What apply did to a PF, what was there before and what is wanted: a durable record.

It is written before each change. The first "before" of an attribute stays until it has been
reverted, however often is applied. What was as the file wants it already has no "before".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from hwmgr.errors import RecordTorn, RecordUnusable, StateError
from hwmgr.journal import decode_before, decode_settings
from hwmgr.model import Before, PciAddress, VFSettings
from hwmgr.pci import address_key, parse_address
from hwmgr.plausible import check_before

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwmgr.store import StateDir

SCHEMA = 2
READABLE = (1, SCHEMA)
_FOLDER = "applied"
_REVERTED = "reverted"
_SUFFIX = ".json"


class ApplyStage(StrEnum):
    """How far it has come; written before the step it names."""

    APPLYING = "applying"
    APPLIED = "applied"
    REVERTING = "reverting"


@dataclass(frozen=True, slots=True)
class PfAttributes:
    """A PF as it was, or as it is wanted; None: not touched, or left alone.

    ``up`` and ``autoprobe`` are flags, ``mtu`` bytes.
    """

    num_vfs: int | None = None
    mtu: int | None = None
    up: bool | None = None
    eswitch_mode: str | None = None
    autoprobe: bool | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """What a VF got by apply, or is wanted to have: nothing that is left over, however unusual.

    None: left alone.
    """

    driver: str | None = None
    settings: VFSettings = field(default_factory=VFSettings)

    def with_settings(self, change: VFSettings) -> Given:
        """Return it with one more setting."""
        new = {
            f.name: value for f in fields(change) if (value := getattr(change, f.name)) is not None
        }
        return replace(self, settings=replace(self.settings, **new))

    def overlaid(self, other: Given) -> Given:
        """Return it with what another one says, where that says anything."""
        return replace(self.with_settings(other.settings), driver=other.driver or self.driver)


@dataclass(frozen=True, slots=True)
class DoneStep:
    """One change: of the PF (``index`` None) or of a VF; ``done`` once the hardware shows it."""

    index: int | None
    attribute: str
    now: object
    then: object
    done: bool = False


@dataclass(frozen=True, slots=True)
class ApplyRecord:
    """The record of one PF.

    ``unprobed``: VFs were made that no driver has been offered yet. ``given`` is what VFs
    got, by index. ``wanted`` and ``wanted_pf`` are what the file said at the end of the last
    apply, whether it had to be changed or not; None: no apply has come to its end.
    ``steps`` are those of the last apply that changed anything.
    ``since`` is when the first of them was, in seconds since the epoch.
    """

    address: PciAddress
    boot_id: str
    stage: ApplyStage
    source: str
    since: float
    before: PfAttributes = PfAttributes()
    vfs: Mapping[int, Before] | None = None
    given: Mapping[int, Given] | None = None
    wanted: Mapping[int, Given] | None = None
    wanted_pf: PfAttributes | None = None
    unprobed: bool = False
    steps: tuple[DoneStep, ...] = ()

    def gave(self, index: int) -> Given:
        """Return what a VF has been given."""
        return (self.given or {}).get(index, Given())

    def meant(self) -> Mapping[int, Given]:
        """Return what VFs are meant to have: what they got, and what is wanted of them."""
        wanted = self.wanted or {}
        indices = {**(self.given or {}), **wanted}
        return {i: self.gave(i).overlaid(wanted.get(i, Given())) for i in indices}

    def keeping(self, **first: object) -> ApplyRecord:
        """Return it with what the PF was, for the attributes that have no value yet."""
        new = {k: v for k, v in first.items() if getattr(self.before, k) is None}
        return replace(self, before=replace(self.before, **cast("dict[str, Any]", new)))

    def keeping_vfs(self, found: Mapping[int, Before]) -> ApplyRecord:
        """Return it with what VFs were, for those that have no value yet.

        Once their number has been changed those that are there are our own.
        """
        if self.before.num_vfs is not None:
            return self
        return replace(self, vfs={**found, **(self.vfs or {})})


class ApplyRecords:
    """The apply records of one state directory; the caller has the lock of the PF."""

    def __init__(self, state: StateDir) -> None:
        self._state = state

    def read(self, address: str) -> ApplyRecord | None:
        """Return the record of a PF, None when nothing was applied; raises RecordUnusable."""
        names = (_FOLDER, address + _SUFFIX)
        path = self._state.path(*names)
        try:
            value = self._state.read_json(*names)
        except RecordTorn as error:
            raise RecordUnusable(address, path, error.reason) from error
        except StateError as error:  # It may be whole: not ours to read, or too many files open.
            raise RecordUnusable(address, path, "", error.message) from error
        if value is None:
            return None
        if isinstance(value, dict) and value.get("schema", SCHEMA) not in READABLE:
            what = f"has schema {value['schema']}, this version knows {SCHEMA}"
            message = f"record {path} {what}; use the version of hwmgr that wrote it"
            raise RecordUnusable(address, path, "", message)
        try:
            return _of(address, cast("dict[str, Any]", value))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordUnusable(address, path, repr(error)) from error

    def given(self, address: str, boot_id: str) -> Mapping[int, Given]:
        """Return what VFs are meant to have in this boot; a damaged record tells nothing."""
        try:
            record = self.read(address)
        except StateError:
            return {}
        return record.meant() if record is not None and record.boot_id == boot_id else {}

    def write(self, record: ApplyRecord) -> None:
        """Write a record durably, in place of an older one."""
        self._state.write_json(_encode(record), _FOLDER, record.address + _SUFFIX)

    def remove(self, address: str) -> None:
        """Strike a record durably."""
        self._state.remove(_FOLDER, address + _SUFFIX)

    def is_reverted(self, address: str, boot_id: str) -> bool:
        """Tell whether a PF was, or is to be, as it was before apply, and nothing came since."""
        try:
            record = self.read(address)
            marked = self._state.read_json(_REVERTED, address + _SUFFIX)
        except StateError:
            return False
        if record is not None and record.boot_id == boot_id:
            return record.stage is ApplyStage.REVERTING
        return marked == {"boot_id": boot_id}

    def note_reverted(self, address: str, boot_id: str) -> None:
        """Have it known that a PF was reverted: what happens at new VFs is not for this one."""
        self._state.write_json({"boot_id": boot_id}, _REVERTED, address + _SUFFIX)

    def forget_reverted(self, address: str) -> None:
        """Have a PF be as others are again."""
        self._state.remove(_REVERTED, address + _SUFFIX)

    def addresses(self) -> list[PciAddress]:
        """Return the PFs that have a record, also those whose record is torn."""
        names = [n for n in self._state.list(_FOLDER) if n.endswith(_SUFFIX)]
        found = [parse_address(name.removesuffix(_SUFFIX)) for name in names]
        return sorted((a for a in found if a is not None), key=address_key)


def _encode(record: ApplyRecord) -> dict[str, object]:
    return {**asdict(record), "schema": SCHEMA}


def decode(value: dict[str, Any]) -> ApplyRecord:
    """Return JSON data as a record; raises KeyError, TypeError, ValueError, AttributeError."""
    found = dict(value)
    schema = found.pop("schema")
    if schema not in READABLE:
        raise ValueError(f"schema {schema}, this version knows {SCHEMA}")
    vfs, wanted_pf = found["vfs"], found.get("wanted_pf")
    record = ApplyRecord(
        **{
            **found,
            "address": PciAddress(found["address"]),
            "stage": ApplyStage(found["stage"]),
            "before": PfAttributes(**found["before"]),
            "vfs": None if vfs is None else {int(i): decode_before(b) for i, b in vfs.items()},
            "given": _by_index(found["given"]),
            "wanted": _by_index(found.get("wanted")),
            "wanted_pf": None if wanted_pf is None else PfAttributes(**wanted_pf),
            "steps": tuple(DoneStep(**step) for step in found["steps"]),
        }
    )
    for text in (record.address, record.boot_id, record.source):
        if not isinstance(text, str):
            raise TypeError(f"{text!r} is no text")
    for before in (record.vfs or {}).values():
        check_before(before)
    return record


def _of(address: str, value: dict[str, Any]) -> ApplyRecord:
    found = decode(value)
    if found.address != address:
        raise ValueError(f"it is the record of {found.address}")
    return found


def _by_index(value: dict[str, Any] | None) -> Mapping[int, Given] | None:
    return None if value is None else {int(i): _given(given) for i, given in value.items()}


def _given(value: dict[str, Any]) -> Given:
    settings = decode_settings(value["settings"]) or VFSettings()
    check_before(Before(value["driver"], None, settings))
    return Given(value["driver"], settings)
