"""Undo: bring a function back to what its record says it was, from wherever it is now.

Nothing here depends on how far an attachment came. Each part compares what is with what was and
changes what differs, so it may be run after a crash at any step, and again.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr import claims, driver, netdev, vfsettings
from hwmgr.devicefiles import holder_files
from hwmgr.errors import HwmgrError, NetlinkError, StateError, UndoIncomplete
from hwmgr.holders import Holders
from hwmgr.inuse import OpenFiles
from hwmgr.locate import await_netdevs, here, inside, open_kept
from hwmgr.model import Kind, Stage, VFSettings
from hwmgr.pci import device_path
from hwmgr.store import StateDir
from hwmgr.successor import successor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hwmgr.links import Links
    from hwmgr.model import Netdev, Record
    from hwmgr.node import Node

_NETDEV_SECONDS = 10.0


def give_up(node: Node, record: Record, netns_path: str | None = None) -> None:
    """End an attachment: give the hardware back, then strike claim, saved files and record.

    The caller holds the locks. The record is struck last and only when the function is verified as
    it was, so that whatever ends this early, a later call goes on. After a reboot the hardware has
    forgotten everything and is not touched, and neither is what somebody else has been given since.
    Raises UndoIncomplete.

    A netdev that is home but cannot have an attribute back (its name is somebody else's by now)
    holds up the first call only: a pod must be able to go.
    """
    if record.boot_id == node.boot_id and node.sysfs.exists(device_path(record.address)):
        holders = Holders(node.proc)
        with _owner_opened(node, record, netns_path, holders) as owner_fd:
            other = successor(node, record, owner_fd, holders)
            if other is None:
                _give_back(node, record, owner_fd)
            else:
                node.log(f"{record.address} is left alone: {other}")
    node.checkpoint("detach.restored")
    strike(node, record)


@contextmanager
def _owner_opened(
    node: Node, record: Record, netns_path: str | None, holders: Holders
) -> Iterator[int | None]:
    """Open the owner's namespace for as long as netdevs have to be fetched from it, if it is."""
    home = len(here(node, record.address)) >= len(record.before.netdevs)
    if home or record.kind is Kind.DPDK:
        yield None
        return
    fd = open_kept(record.owner.netns, holders, netns_path)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def _give_back(node: Node, record: Record, owner_fd: int | None) -> None:
    tried_before = record.stage is Stage.DETACHING
    _note_detaching(node, record)
    node.checkpoint("detach.intended")
    held, unlike = hardware(node, record, owner_fd)
    if held or (unlike and not tried_before):
        raise UndoIncomplete(record.address, held + unlike)
    for text in unlike:
        node.log(f"{record.address} is given up as it is: {text}")


def strike(node: Node, record: Record) -> None:
    """Forget an attachment: its saved files, its claim, its record, which goes last."""
    for path in record.saved_files:
        _remove_saved(path)
    node.checkpoint("detach.unsaved")
    claims.release(node.state, record.address, record.owner.netns.path)
    node.checkpoint("detach.unclaimed")
    node.journal.remove(record.address)
    node.checkpoint("detach.struck")


def _note_detaching(node: Node, record: Record) -> None:
    """Say in the record that it is being undone; on a full disk the record of before serves too."""
    if record.stage is Stage.DETACHING:
        return
    try:
        node.journal.write(replace(record, stage=Stage.DETACHING))
    except StateError as error:
        node.log(f"{record.address}: {error}")


def hardware(
    node: Node, record: Record, owner_fd: int | None = None
) -> tuple[list[str], list[str]]:
    """Give driver, settings and netdevs back, these out of the owner's namespace if it is open.

    Returns in words what is still held, and what is home but not as it was.
    """

    def part(function: Callable[..., list[str]], *arguments: object) -> list[str]:
        try:
            return function(*arguments)
        except HwmgrError as error:
            return [str(error)]

    driven = part(_driven, node, record)
    if driven:
        return driven, []
    # A driver that probes should find the admin MAC that it had; what fails now is tried again.
    part(_settings, node, record, record.settings.mac)
    node.checkpoint("detach.settings")
    held = part(_driver, node, record)
    node.checkpoint("detach.driver")
    held += part(_come_home, node, record, owner_fd)
    node.checkpoint("detach.home")
    unlike = part(_netdevs, node, record)
    node.checkpoint("detach.netdevs")
    # A VF's own MAC is its admin MAC too on some drivers (igb), so look again when it is back.
    held += part(_settings, node, record, None)
    return held, unlike


def _settings(node: Node, record: Record, pinned: str | None) -> list[str]:
    """Give the PF-side settings back that were changed by us or by the pod (a trusted VF can).

    ``pinned`` is the admin MAC that was set for the attachment and is to be lifted.
    """
    before = record.before.settings
    if before is None or record.index is None:
        return []
    pf_netdevs = here(node, record.pf_address)
    if not pf_netdevs:
        return [f"PF {record.pf_address} has no netdev here; its VF settings are out of reach"]
    # Setting an admin MAC pins it, so one that only the pod changed is left to the netdev's turn.
    netdev_first = record.kind is Kind.VF and record.settings.mac is None
    if netdev_first and not here(node, record.address):
        before = replace(before, mac=None)
    problems: list[str] = []
    with node.netlink.links() as links:
        for pf_netdev in pf_netdevs[: max(1, len(record.before.netdevs))]:
            index = pf_netdev.index
            problems += vfsettings.give_back(links, index, record.index, before, pinned)
    return problems


def _driven(node: Node, record: Record) -> list[str]:
    """Say which process keeps vfio-pci from being unbound: that write would block, unkillable.

    It may be somebody's whom another plugin has given the device to, so all is left as it is.
    """
    now = driver.current_driver(node.sysfs, record.address)
    if record.kind is not Kind.DPDK or now == record.before.driver:
        return []
    files = [f for f in holder_files(node.sysfs, record.address, node.dev) if "/vfio/" in f]
    holder = OpenFiles(node.proc).holder(*files)
    if holder is None:
        return []
    return [f"{record.address}: {holder} has {' or '.join(files)} open; end it first"]


def _driver(node: Node, record: Record) -> list[str]:
    if record.kind is not Kind.DPDK:
        return []
    before = record.before
    driver.restore(
        node.sysfs, record.address, before.driver, before.driver_override, node.checkpoint
    )
    return []


def _come_home(node: Node, record: Record, owner_fd: int | None) -> list[str]:
    """Bring the netdevs into our namespace; where they cannot be found, have them made anew."""
    expected = len(record.before.netdevs)
    if len(here(node, record.address)) >= expected:
        return []
    if owner_fd is not None:
        _fetch(node, record, owner_fd)
    if await_netdevs(node, record.address, _NETDEV_SECONDS, expected):
        return []
    if record.kind is Kind.PF:
        return [f"the netdev of PF {record.address} is in no namespace that can be reached"]
    # A namespace that only a descriptor holds cannot be named. A new probe makes a new netdev
    # here, and the VF is ours by our record.
    driver.unbind(node.sysfs, record.address)
    driver.restore(node.sysfs, record.address, record.before.driver, record.before.driver_override)
    if not await_netdevs(node, record.address, _NETDEV_SECONDS, expected):
        return [f"no netdev of {record.address} appeared within {_NETDEV_SECONDS:.0f} s"]
    return []


def _fetch(node: Node, record: Record, owner_fd: int) -> None:
    names = [n.name for n in record.before.netdevs]
    found = sorted(inside(node, owner_fd, record.address), key=lambda n: n.name.endswith("d1"))
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for one, name in zip(found, names, strict=False):
            netdev.bring_home(node, one, owner_fd, home, name)
    finally:
        os.close(home)


def _settled(node: Node, found: tuple[Netdev, ...]) -> bool:
    return all(node.udev.settled(one.index) for one in found)


def _netdevs(node: Node, record: Record) -> list[str]:
    """Give each netdev here the attributes that it had, and look whether it has them."""
    wanted = record.before.netdevs
    if not wanted:
        return []
    # udevd renames a netdev that appears, by its own policy; what it does is awaited, not raced.
    node.udev.wait(lambda: _settled(node, here(node, record.address)) or None, _NETDEV_SECONDS)
    found = here(node, record.address)
    if len(found) < len(wanted):
        return [f"{record.address} has {len(found)} netdevs here, it had {len(wanted)}"]
    problems: list[str] = []
    with node.netlink.links() as links:
        for now, before in _pairs(found, wanted):
            problems += _effective_mac(node, links, record, now, before)
            problems += netdev.give_back(links, now, before)
    for now, before in _pairs(here(node, record.address), wanted):
        problems += _differences(now, before)
    return problems


def _pairs(found: tuple[Netdev, ...], wanted: tuple[Netdev, ...]) -> list[tuple[Netdev, Netdev]]:
    by_name = {n.name: n for n in found}
    if all(w.name in by_name for w in wanted):
        return [(by_name[w.name], w) for w in wanted]
    return list(zip(found, wanted, strict=False))


def _effective_mac(
    node: Node, links: Links, record: Record, now: Netdev, before: Netdev
) -> list[str]:
    """Set the MAC that the netdev had.

    A VF may not change its MAC while the PF has pinned one and it is not trusted (EADDRNOTAVAIL on
    igb, EPERM on ixgbe and i40e), not even to the same value; so the pin is lifted meanwhile.
    """
    if not before.mac or (before.mac == now.mac and not _unannounced(node, links, record)):
        return []
    try:
        netdev.set_mac(node, links, now.index, before.mac)
    except NetlinkError as error:
        settings = record.before.settings
        if settings is None or record.index is None or settings.mac is None:
            return [str(error)]
        return _under_lifted_pin(node, links, record, now, before)
    return []


def _unannounced(node: Node, links: Links, record: Record) -> bool:
    """Tell whether lifting our pin has left the PF without a MAC for the VF."""
    pf_netdevs = here(node, record.pf_address)
    if record.settings.mac is None or record.index is None or not pf_netdevs:
        return False
    now = links.vf_settings(pf_netdevs[0].index).get(record.index)
    return now is not None and now.mac == vfsettings.NO_MAC


def _under_lifted_pin(
    node: Node, links: Links, record: Record, now: Netdev, before: Netdev
) -> list[str]:
    index, settings = record.index, record.before.settings
    pf_netdevs = here(node, record.pf_address)
    if index is None or settings is None or not pf_netdevs:
        return [f"MAC {before.mac} cannot be set on {now.name}: the PF is not here"]
    pf_index = pf_netdevs[0].index
    try:
        links.set_vf(pf_index, index, vfsettings.unpinned())
        netdev.set_mac(node, links, now.index, before.mac)
    except NetlinkError as error:
        return [str(error)]
    finally:
        # Where it shows the VF's own MAC as its admin MAC (igb) there is no difference to see, and
        # yet nothing holds the VF to it any more: pin it again.
        if settings.mac not in (None, vfsettings.NO_MAC):
            links.set_vf(pf_index, index, VFSettings(mac=settings.mac))
        vfsettings.give_back(links, pf_index, index, settings)
    return []


def _differences(now: Netdev, before: Netdev) -> list[str]:
    problems = []
    for attribute in ("name", "mac", "mtu", "up", "alias"):
        have, had = getattr(now, attribute), getattr(before, attribute)
        if have != had and not (attribute in ("mac", "mtu") and not had):
            problems.append(f"{attribute} of {before.name} is {have}, it was {had}")
    lost = [address for address in before.addresses if address not in now.addresses]
    if lost:
        problems.append(f"{before.name} has lost {', '.join(lost)}")
    return problems


def _remove_saved(path: str) -> None:
    folder, name = os.path.split(path)
    StateDir(folder).remove(name)
    parent, inode = os.path.split(folder)
    if inode.isdigit():
        StateDir(parent).remove_folder_if_empty(inode)
