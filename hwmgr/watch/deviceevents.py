"""What can happen to a function, as values; how a uevent, or a second look, tells of it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.inventory import VFInfo
    from hwmgr.model import Owner, PciAddress, Record
    from hwmgr.uevents import Uevent


class EventKind(StrEnum):
    """What happened. The netdev ones are seen from our network namespace."""

    ADD = "add"
    REMOVE = "remove"
    BIND = "bind"
    UNBIND = "unbind"
    NETDEV_ADD = "netdev-add"
    NETDEV_REMOVE = "netdev-remove"
    RENAME = "rename"
    NUMVFS = "numvfs"
    ATTACH = "attach"
    DETACH = "detach"
    STATE = "state"
    SETTINGS = "settings"


class Source(StrEnum):
    """What told of an event: the kernel, a file of the state directory, or a second look."""

    KERNEL = "kernel"
    RECORDS = "records"
    LOOK = "look"


@dataclass(frozen=True, slots=True)
class Function:
    """A PF or VF that is watched; ``index`` is None for a PF, ``num_vfs`` for a VF.

    ``info`` is what the inventory said of a VF, ``record`` the function's own record.
    """

    address: PciAddress
    pf_address: PciAddress
    pf_ifname: str | None
    index: int | None
    driver: str | None = None
    netdevs: tuple[str, ...] = ()
    num_vfs: int | None = None
    info: VFInfo | None = None
    record: Record | None = None

    @property
    def ifname(self) -> str | None:
        """The name of its first netdev in our namespace, None when it has none here."""
        return self.netdevs[0] if self.netdevs else None

    @property
    def owner(self) -> Owner | None:
        """Who holds it, also as part of its PF."""
        record = self.record or (self.info.record if self.info else None)
        return record.owner if record else None


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a function; ``was`` is what it replaces: a driver, a name, a state, a number.

    ``function`` is as it is afterwards (for REMOVE as it was); ``ifname`` the netdev it is about.
    """

    kind: EventKind
    function: Function
    was: str | int | None = None
    ifname: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """A change, when it was seen (seconds since the epoch), by what, and whose the function was."""

    time: float
    change: Change
    source: Source
    owner: Owner | None


def apply(known: Function, uevent: Uevent) -> Change | None:
    """Return what a uevent of a function that is there says; None when it says nothing new."""
    if uevent.subsystem == "pci":
        return _function_event(known, uevent)
    if uevent.subsystem == "net" and uevent.ifname is not None:
        return _netdev_event(known, uevent, uevent.ifname)
    return None


def device_changes(before: Function | None, after: Function | None) -> Iterator[Change]:
    """Yield the steps that lead from one look at a function to the next, as uevents would."""
    if after is None:
        if before is not None:
            yield Change(EventKind.REMOVE, before)
        return
    if before is None:
        yield Change(EventKind.ADD, after, ifname=after.ifname)
        return
    if before.num_vfs != after.num_vfs:
        yield Change(EventKind.NUMVFS, after, before.num_vfs)
    if before.driver != after.driver:
        kind = EventKind.BIND if after.driver else EventKind.UNBIND
        yield Change(kind, after, before.driver)
    gone = [n for n in before.netdevs if n not in after.netdevs]
    come = [n for n in after.netdevs if n not in before.netdevs]
    if len(gone) == len(come) == 1 and before.driver == after.driver:
        yield Change(EventKind.RENAME, after, gone[0], come[0])
        return
    for name in gone:
        yield Change(EventKind.NETDEV_REMOVE, after, ifname=name)
    for name in come:
        yield Change(EventKind.NETDEV_ADD, after, ifname=name)


def record_changes(before: Function | None, after: Function | None) -> Iterator[Change]:
    """Yield what became of a function's record between two looks."""
    old, new = before.record if before else None, after.record if after else None
    if _owner_of(old) == _owner_of(new):
        return
    if before is not None and old is not None:
        yield Change(EventKind.DETACH, after or replace(before, record=None))
    if after is not None and new is not None:
        yield Change(EventKind.ATTACH, after)


def state_changes(before: Function, after: Function) -> Iterator[Change]:
    """Yield what no uevent tells of a VF: another state, other settings."""
    if before.info is None or after.info is None:
        return
    if before.info.state is not after.info.state:
        yield Change(EventKind.STATE, after, str(before.info.state))
    old, new = before.info.settings, after.info.settings
    if None not in (old, new) and old != new:
        yield Change(EventKind.SETTINGS, after)


def _function_event(known: Function, uevent: Uevent) -> Change | None:
    if uevent.action == "remove":
        return Change(EventKind.REMOVE, known)
    if uevent.action == "bind" and uevent.driver not in (None, known.driver):
        return Change(EventKind.BIND, replace(known, driver=uevent.driver), known.driver)
    if uevent.action == "unbind" and known.driver is not None:
        return Change(EventKind.UNBIND, replace(known, driver=None), known.driver)
    return None


def _netdev_event(known: Function, uevent: Uevent, name: str) -> Change | None:
    names = known.netdevs
    if uevent.action == "add" and name not in names:
        after = replace(known, netdevs=(*names, name))
        return Change(EventKind.NETDEV_ADD, after, ifname=name)
    if uevent.action == "remove" and name in names:
        after = replace(known, netdevs=tuple(n for n in names if n != name))
        return Change(EventKind.NETDEV_REMOVE, after, ifname=name)
    old = uevent.old_ifname
    if uevent.action == "move" and old in names and name != old:
        after = replace(known, netdevs=tuple(name if n == old else n for n in names))
        return Change(EventKind.RENAME, after, old, name)
    return None


def _owner_of(record: Record | None) -> tuple[str, str, float] | None:
    owner = record.owner if record else None
    return None if owner is None else (owner.container_id, owner.ifname, owner.since)
