"""Whether a record that parses is one of ours: the types of its fields, and names that are names.

A record decides what is done as root: a path in it is removed, a driver's name becomes a path in
sysfs. So one with anything else in it counts as damaged, whoever wrote it. No I/O.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hwmgr.pci import parse_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hwmgr.model import Before, Netdev, Record, VFSettings

_Types = type | tuple[type, ...]
_NONE = type(None)
_TEXT: _Types = (str, _NONE)
_NUMBER: _Types = (int, _NONE)
_FLAG: _Types = (bool, _NONE)

_RECORD: Mapping[str, _Types] = {
    "address": str, "boot_id": str, "pf_address": str, "pf_ifname": _TEXT, "index": _NUMBER,
    "driver": _TEXT, "note": dict,
}  # fmt: skip
_OWNER: Mapping[str, _Types] = {
    "container_id": str, "ifname": str, "since": (int, float), "network": _TEXT,
    "pod_namespace": _TEXT, "pod_name": _TEXT, "pod_uid": _TEXT,
}  # fmt: skip
_NETNS: Mapping[str, _Types] = {"path": str, "dev": int, "inode": int}
_BEFORE: Mapping[str, _Types] = {"driver": _TEXT, "driver_override": _TEXT}
_SETTINGS: Mapping[str, _Types] = {
    "mac": _TEXT, "vlan": _NUMBER, "qos": _NUMBER, "min_rate": _NUMBER, "max_rate": _NUMBER,
    "spoofchk": _FLAG, "trust": _FLAG,
}  # fmt: skip
_NETDEV: Mapping[str, _Types] = {
    "index": int, "name": str, "mac": str, "mtu": int, "up": bool, "alias": _TEXT,
    "master": _NUMBER, "parent": _TEXT,
}  # fmt: skip


def check_record(record: Record) -> None:
    """Raise ValueError or TypeError for a field that no program of ours would have written."""
    _typed(record, _RECORD)
    _typed(record.owner, _OWNER)
    _typed(record.owner.netns, _NETNS)
    for address in (record.address, record.pf_address):
        if parse_address(address) != address:
            raise ValueError(f"{address!r} is no PCI address")
    _texts(record.saved_files, "saved_files")
    for path in record.saved_files:
        # What a companion file is called: hwmgr.seedstate and hwmgr.sriovcni_state.
        folder, name = os.path.split(path)
        own = f"{record.owner.container_id}-"
        if not record.owner.container_id or not name.startswith(own) or os.path.pardir in folder:
            raise ValueError(f"{path!r} is no state file of container {record.owner.container_id}")
    _driver(record.driver)
    _settings(record.settings)
    check_before(record.before)


def check_before(before: Before) -> None:
    """Raise ValueError or TypeError for what no function can have been."""
    _typed(before, _BEFORE)
    _driver(before.driver)
    _driver(before.driver_override)
    if before.settings is not None:
        _settings(before.settings)
    for netdev in before.netdevs:
        _netdev(netdev)


def _netdev(netdev: Netdev) -> None:
    _typed(netdev, _NETDEV)
    _texts(netdev.altnames, "altnames")
    _texts(netdev.addresses, "addresses")
    if not _plain(netdev.name):
        raise ValueError(f"{netdev.name!r} is no name of a netdev")


def _settings(settings: VFSettings) -> None:
    _typed(settings, _SETTINGS)


def _driver(name: str | None) -> None:
    if name is not None and not _plain(name):
        raise ValueError(f"{name!r} is no name of a driver")


def _typed(value: object, wanted: Mapping[str, _Types]) -> None:
    for name, types in wanted.items():
        found = getattr(value, name)
        if not isinstance(found, types):
            raise TypeError(f"{name} is {found!r}")


def _texts(values: Iterable[object], what: str) -> None:
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"{what} has {value!r}")


def _plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and "/" not in name and "\0" not in name
