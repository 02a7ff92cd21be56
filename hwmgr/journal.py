"""The journal: a durable record per PCI function in use, written before it is touched."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from hwmgr.errors import RecordTorn
from hwmgr.model import (
    Before,
    Kind,
    LinkState,
    Netdev,
    NetnsIdentity,
    Owner,
    PciAddress,
    Record,
    Stage,
    VFSettings,
    VlanProto,
)
from hwmgr.pci import address_key, parse_address
from hwmgr.plausible import check_record

if TYPE_CHECKING:
    from hwmgr.store import StateDir

SCHEMA = 1
_FOLDER = "journal"
_SUFFIX = ".json"


class Journal:
    """The records of one state directory, by PCI address.

    The caller holds the lock of the function (see hwmgr.locks) when it writes or removes.
    """

    def __init__(self, state: StateDir) -> None:
        self._state = state

    def read(self, address: str) -> Record | None:
        """Return the record of a function, None when nobody holds it; raises RecordTorn."""
        names = (_FOLDER, address + _SUFFIX)
        value = self._state.read_json(*names)
        return None if value is None else decode(value, self._state.path(*names))

    def has(self, address: str) -> bool:
        """Tell whether a function has a record, whole or torn."""
        return os.path.lexists(self._state.path(_FOLDER, address + _SUFFIX))

    def write(self, record: Record) -> None:
        """Write a record durably, in place of an older one."""
        self._state.write_json(encode(record), _FOLDER, record.address + _SUFFIX)

    def remove(self, address: str) -> None:
        """Strike a record durably."""
        self._state.remove(_FOLDER, address + _SUFFIX)

    def addresses(self) -> list[PciAddress]:
        """Return the addresses that have a record, also those whose record is torn."""
        found = []
        for name in self._state.list(_FOLDER):
            address = parse_address(name.removesuffix(_SUFFIX))
            if address is not None and name.endswith(_SUFFIX):
                found.append(address)
        return sorted(found, key=address_key)

    def records(self) -> list[Record]:
        """Return every record that parses."""
        found = []
        for address in self.addresses():
            try:
                record = self.read(address)
            except RecordTorn:
                continue
            if record is not None:
                found.append(record)
        return found

    def owned_by(self, container_id: str, ifname: str | None = None) -> list[Record]:
        """Return what a container holds, all of it or as one interface.

        The text is searched first: decoding is what costs on a node with a thousand records.
        """
        found = []
        for address in self.addresses():
            try:
                data = self._state.read_bytes(_FOLDER, address + _SUFFIX)
                if data is None or container_id.encode() not in data:
                    continue
                record = self.read(address)
            except RecordTorn:
                continue
            if record is None or record.owner.container_id != container_id:
                continue
            if ifname is None or record.owner.ifname == ifname:
                found.append(record)
        return found

    def set_aside(self, address: str) -> None:
        """Move a torn record out of the way, so that its function can be used again.

        It goes to ``journal-torn/`` and stays there for the administrator to read.
        """
        self._state.set_aside(_FOLDER, address + _SUFFIX)


def encode(record: Record) -> dict[str, object]:
    """Return a record as JSON data."""
    value = asdict(record)
    value["schema"] = SCHEMA
    return value


def decode(value: object, path: str) -> Record:
    """Return JSON data as a record; raises RecordTorn, naming ``path``, when it is not one."""
    try:
        return _decode(cast("dict[str, Any]", value))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordTorn(path, f"{type(error).__name__}: {error}") from error


def _decode(value: dict[str, Any]) -> Record:
    fields = dict(value)
    schema = fields.pop("schema")
    if schema != SCHEMA:
        raise ValueError(f"schema {schema}, this version knows {SCHEMA}")
    owner = dict(fields["owner"])
    owner["netns"] = NetnsIdentity(**owner["netns"])
    record = Record(
        **{
            **fields,
            "address": PciAddress(fields["address"]),
            "pf_address": PciAddress(fields["pf_address"]),
            "kind": Kind(fields["kind"]),
            "stage": Stage(fields["stage"]),
            "owner": Owner(**owner),
            "before": decode_before(fields["before"]),
            "settings": decode_settings(fields["settings"]) or VFSettings(),
            "saved_files": tuple(fields["saved_files"]),
        }
    )
    check_record(record)
    return record


def decode_before(value: dict[str, Any]) -> Before:
    """Return JSON data as what a function was; raises KeyError, TypeError, ValueError."""
    fields = dict(value)
    fields["settings"] = decode_settings(fields["settings"])
    fields["netdevs"] = tuple(_netdev(n) for n in fields["netdevs"])
    return Before(**fields)


def decode_settings(value: dict[str, Any] | None) -> VFSettings | None:
    """Return JSON data as settings of a VF; raises KeyError, TypeError, ValueError."""
    if value is None:
        return None
    fields = dict(value)
    if fields["proto"] is not None:
        fields["proto"] = VlanProto(fields["proto"])
    if fields["link_state"] is not None:
        fields["link_state"] = LinkState(fields["link_state"])
    return VFSettings(**fields)


def _netdev(value: dict[str, Any]) -> Netdev:
    tuples = {"altnames": tuple(value["altnames"]), "addresses": tuple(value["addresses"])}
    return Netdev(**{**value, **tuples})
