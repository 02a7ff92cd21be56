"""Watches the node's SR-IOV functions: uevents, the state directory, and a second look."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr.errors import NoSuchDevice, SysfsError
from hwmgr.pci import device_path
from hwmgr.representor import is_representor
from hwmgr.uevents import EventsLost
from hwmgr.watch.deviceevents import (
    Change,
    DeviceEvent,
    EventKind,
    Function,
    Source,
    apply,
    device_changes,
    record_changes,
    state_changes,
)
from hwmgr.watch.functions import expected_vfs, is_there, look, order_of, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hwmgr.model import PciAddress
    from hwmgr.node import Node
    from hwmgr.uevents import Monitor, Uevent

# inotify is not in the standard library; a stat per record four times a second costs nothing that
# can be measured, and the folders need not exist when the watch begins.
TICK_SECONDS = 0.25
# What sends no event: the namespace of a DPDK device's owner dies, a setting is made through the
# PF by others, a process opens a device file.
_LOOK_SECONDS = 5.0
# Events that are worked off before the node is looked at once for all of them.
_BATCH = 4096


class Watcher:
    """The functions of a node from one moment on; ``pfs`` limits it to these PFs and their VFs.

    Listening begins before the first look, so nothing falls between them. ``losses`` counts the
    steps in which the kernel said that it had dropped events.
    """

    def __init__(
        self,
        node: Node,
        monitor: Monitor,
        pfs: Iterable[PciAddress] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._monitor = monitor
        self._pfs = None if pfs is None else frozenset(pfs)
        self._monotonic = monotonic
        self.losses = 0
        self._stamps = self._read_stamps()
        self._looked_at = self._event_number()
        self._places: dict[PciAddress, tuple[PciAddress, int]] = {}
        self._looked = self._look()
        self._known = {a: f for a, f in self._looked.items() if is_there(f)}
        self._next_look = monotonic() + _LOOK_SECONDS

    @property
    def functions(self) -> list[Function]:
        """The functions as they are now, each PF before its VFs."""
        return sorted(self._known.values(), key=order_of)

    def step(self, timeout: float = TICK_SECONDS) -> list[DeviceEvent]:
        """Wait at most ``timeout`` s for something to happen and return it in its order.

        After a loss of events (ENOBUFS) the differences between before and now are returned.
        """
        uevents, lost = self._drain(timeout)
        self.losses += lost
        stamps = self._read_stamps()
        whole = lost or self._monotonic() >= self._next_look
        if not uevents and stamps == self._stamps and not whole:
            return []
        self._stamps = stamps
        told = [change for uevent in uevents for change in self._told_by(uevent)]
        # The events up to this number are in what is looked at, even if they are read later.
        number = self._event_number()
        try:
            looked = self._look()
        except (NoSuchDevice, SysfsError):
            # A device went while it was read; its event is on its way.
            self._next_look = 0.0
            return self._in_order(self._looked, told, [])
        differing: list[Change] = []
        if whole:
            self._next_look = self._monotonic() + _LOOK_SECONDS
            self._looked_at = number
            differing = self._differences(looked)
        self._take_over(looked, whole=whole)
        return self._in_order(looked, told, differing)

    def _drain(self, timeout: float) -> tuple[list[Uevent], bool]:
        """Return the events of PCI functions that have come, and whether some were lost.

        Others do not count: a node's veths come and go with every pod.
        """
        found: list[Uevent] = []
        lost = False
        for number in range(_BATCH):
            event = self._monitor.next(0 if number else timeout)
            if event is None:
                break
            if isinstance(event, EventsLost):
                lost = True
            elif event.address is not None:
                found.append(event)
        return found, lost

    def _told_by(self, uevent: Uevent) -> list[Change]:
        """Apply one uevent to what is known; return what it changed."""
        address = uevent.address
        if address is None or (uevent.number or self._looked_at + 1) <= self._looked_at:
            return []
        if uevent.subsystem == "net" and is_representor(self._node.sysfs, uevent.ifname or "-"):
            return []
        changes = []
        known = self._known.get(address)
        if known is None:
            known = self._newcomer(address)
            if known is None or uevent.action in ("remove", "unbind"):
                return []
            self._known[address] = known
            changes.append(Change(EventKind.ADD, known))
        if uevent.subsystem == "pci" and uevent.action == "change" and known.index is None:
            num_vfs = self._num_vfs(address)
            change = Change(EventKind.NUMVFS, replace(known, num_vfs=num_vfs), known.num_vfs)
            if num_vfs == known.num_vfs:
                return changes
        else:
            told = apply(known, uevent)
            if told is None:
                return changes
            change = told
        if change.kind is EventKind.REMOVE:
            del self._known[address]
        else:
            self._known[address] = change.function
        return [*changes, change]

    def _newcomer(self, address: PciAddress) -> Function | None:
        """Say which VF, or PF, a function is that was not there before; None for any other.

        A VF's address is known beforehand: its physfn link is made after its ``add`` was sent
        (drivers/pci/iov.c), and gone again if the VF is.
        """
        pf, index = self._places.get(address) or place_of(self._node, address)
        if pf is None or (self._pfs is not None and pf not in self._pfs):
            return None
        known_pf = self._known.get(pf)
        num_vfs = self._num_vfs(address) if index is None else None
        return Function(address, pf, known_pf.ifname if known_pf else None, index, num_vfs=num_vfs)

    def _look(self) -> dict[PciAddress, Function]:
        looked = look(self._node, self._pfs)
        for function in looked.values():
            if function.index is None:
                self._places.update(expected_vfs(self._node, function.address))
        return looked

    def _differences(self, looked: dict[PciAddress, Function]) -> list[Change]:
        found: list[Change] = []
        for address in sorted(self._known.keys() | looked.keys()):
            after = looked.get(address)
            if after is not None and not is_there(after):
                after = None
            found += device_changes(self._known.get(address), after)
        return sorted(found, key=lambda c: order_of(c.function))

    def _take_over(self, looked: dict[PciAddress, Function], *, whole: bool) -> None:
        """Keep what was looked at; driver and netdevs come from events, unless ``whole``."""
        if whole:
            self._known = {a: f for a, f in looked.items() if is_there(f)}
            return
        for address, known in self._known.items():
            new = looked.get(address)
            if new is not None:
                self._known[address] = replace(
                    known, pf_ifname=new.pf_ifname, info=new.info, record=new.record
                )

    def _in_order(
        self, looked: dict[PciAddress, Function], told: list[Change], differing: list[Change]
    ) -> list[DeviceEvent]:
        """Return events: records that were made, what happened to devices, records that went."""
        before, self._looked = self._looked, looked
        records = [
            change
            for address in sorted(before.keys() | looked.keys())
            for change in record_changes(before.get(address), looked.get(address))
        ]
        made = [c for c in records if c.kind is EventKind.ATTACH]
        struck = [c for c in records if c.kind is EventKind.DETACH]
        explained = {c.function.address for c in (*told, *differing, *records)}
        silent = [
            change
            for address in sorted(before.keys() & looked.keys())
            for change in state_changes(before[address], looked[address])
            if change.kind is EventKind.SETTINGS or address not in explained
        ]

        def event(change: Change, source: Source) -> DeviceEvent:
            """Add what was looked at; who held the function until just now is its owner too."""
            address = change.function.address
            now, then = looked.get(address), before.get(address)
            owner = (now.owner if now else None) or (then.owner if then else None)
            if now is not None:
                function = replace(change.function, info=now.info, record=now.record)
                change = replace(change, function=function)
            elif change.kind is EventKind.REMOVE:
                change = replace(change, function=replace(change.function, info=None))
            return DeviceEvent(self._node.clock(), change, source, owner)

        return [
            event(change, source)
            for source, changes in (
                (Source.RECORDS, made),
                (Source.KERNEL, told),
                (Source.LOOK, differing),
                (Source.RECORDS, struck),
                (Source.LOOK, silent),
            )
            for change in changes
        ]

    def _read_stamps(self) -> tuple[dict[str, tuple[int, int]], ...]:
        return tuple(self._node.state.stamps(folder) for folder in ("journal", "pci"))

    def _num_vfs(self, address: PciAddress) -> int | None:
        text = self._node.sysfs.read_quiet(device_path(address, "sriov_numvfs"))
        return int(text) if text else None

    def _event_number(self) -> int:
        return self._node.sysfs.read_int("kernel/uevent_seqnum") or 0
