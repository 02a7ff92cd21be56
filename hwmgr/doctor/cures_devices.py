"""Cures that change the hardware of functions without an owner.

Each is an attachment that is being ended: a record says how the function is to be, durably and
before anything is touched, and hwmgr.restore makes it so and strikes the record. Whoever is killed
in between leaves an unfinished record, which the next repair goes on with. The caller holds the
locks and has looked again. Each returns in words what could not be done.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr import driver
from hwmgr.applyrecord import ApplyRecords
from hwmgr.doctor.cures_state import from_alias, plain_settings_of
from hwmgr.errors import BindError, SysfsError, UndoIncomplete
from hwmgr.inventory import look_at
from hwmgr.locate import await_netdevs, here, marked_name
from hwmgr.model import (
    USERSPACE_DRIVERS,
    Before,
    Kind,
    NetnsIdentity,
    Owner,
    PciAddress,
    Record,
    Stage,
    VFSettings,
    is_userspace,
)
from hwmgr.pci import device_path, find_pf, find_vf, list_vfs
from hwmgr.restore import give_up
from hwmgr.vfsettings import NO_MAC

if TYPE_CHECKING:
    from hwmgr.doctor.findings import Finding
    from hwmgr.model import VF
    from hwmgr.node import Node

_OWNER = "hwmgr-repair"
_NETDEV_SECONDS = 10.0


def take_home(node: Node, finding: Finding) -> list[str]:
    """Bring a netdev home from a namespace that has lost its name; its alias says what it was."""
    record = from_alias(node, PciAddress(finding.subject), finding.value)
    if record is None:
        return [f"{finding.subject}: its alias does not tell what it was"]
    _end(node, replace(record, stage=Stage.DETACHING), finding.value)
    return []


def reset_settings(node: Node, finding: Finding) -> list[str]:
    """Set a VF's settings to what every driver starts with, the spoof check to its siblings'."""
    vf = find_vf(node.sysfs, finding.subject)
    wanted = plain_settings_of(node, vf)
    if wanted is None:
        return [f"{vf.address}: its PF cannot be asked"]
    _end(node, _record(node, vf, Kind.VF, Before(vf.driver, vf.driver_override, wanted)))
    return []


def lift_mac(node: Node, finding: Finding) -> list[str]:
    """Lift an admin MAC that the VF does not have, and have the VF announce its own again."""
    return _mac(node, finding.subject, None)


def reset_mac(node: Node, finding: Finding) -> list[str]:
    """Give a VF a MAC that nobody has: locally administered, at random (IEEE 802, §8.4)."""
    fresh = bytes((0x02, *secrets.token_bytes(5))).hex(":")
    return _mac(node, finding.subject, fresh)


def _mac(node: Node, address: str, mac: str | None) -> list[str]:
    vf = find_vf(node.sysfs, address)
    now = look_at(node, vf).settings
    pinned = now.mac if now is not None else None
    netdevs = here(node, address)
    if not netdevs:
        before = Before(vf.driver, vf.driver_override, VFSettings(mac=mac or NO_MAC))
        _end(node, replace(_record(node, vf, Kind.VF, before), settings=VFSettings(mac=pinned)))
        return []
    wanted = tuple(replace(n, mac=mac or n.mac) for n in netdevs[:1])
    before = Before(vf.driver, vf.driver_override, VFSettings(mac=NO_MAC), wanted)
    _end(node, replace(_record(node, vf, Kind.VF, before), settings=VFSettings(mac=pinned)))
    return []


def rename(node: Node, finding: Finding) -> list[str]:
    """Give a netdev the name that its siblings' names foretell."""
    return _netdev(node, finding.subject, name=finding.value)


def set_down(node: Node, finding: Finding) -> list[str]:
    """Set an idle VF's netdev down."""
    return _netdev(node, finding.subject, up=False)


def clear_alias(node: Node, finding: Finding) -> list[str]:
    """Take our mark off a netdev that came home by itself, and give it the name in the mark."""
    netdevs = here(node, finding.subject)
    name = marked_name(netdevs[0]) if netdevs else ""
    with node.netlink.links() as links:
        other = links.find(name) if 0 < len(name) < 16 else None
        ours = {n.index for n in netdevs}
        free = 0 < len(name) < 16 and (other is None or other.index in ours)
    change: dict[str, object] = {"name": name} if free else {}
    return _netdev(node, finding.subject, alias=None, **change)


def _netdev(node: Node, address: str, **change: object) -> list[str]:
    vf = find_vf(node.sysfs, address)
    netdevs = here(node, address)
    if not netdevs:
        return [f"{address} has no netdev here"]
    wanted = replace(netdevs[0], **change)  # type: ignore[arg-type]
    before = Before(vf.driver, vf.driver_override, None, (wanted, *netdevs[1:]))
    _end(node, _record(node, vf, Kind.VF, before))
    return []


def clear_override(node: Node, finding: Finding) -> list[str]:
    """Clear driver_override; the driver stays."""
    vf = find_vf(node.sysfs, finding.subject)
    _end(node, _record(node, vf, Kind.DPDK, Before(driver=vf.driver)))
    return []


def probe(node: Node, finding: Finding) -> list[str]:
    """Give a VF to the driver that apply gave it, else its siblings', else one that matches."""
    vf = find_vf(node.sysfs, finding.subject)
    given = _given_driver(node, vf)
    if given is not None:
        _end(node, _record(node, vf, Kind.DPDK, Before(driver=given)))
        return [] if is_userspace(given) else _netdev_back(node, vf.address)
    usual = _usual_driver(node, vf)
    if usual is not None:
        _end(node, _record(node, vf, Kind.DPDK, Before(driver=usual)))
        return _netdev_back(node, vf.address)
    record = _record(node, vf, Kind.DPDK, Before(driver=vf.driver))
    node.journal.write(record)
    node.checkpoint("repair.intended")
    driver.unbind(node.sysfs, vf.address)
    driver.write_override(node.sysfs, vf.address, None)
    try:
        node.sysfs.write("bus/pci/drivers_probe", vf.address)
    except SysfsError as error:
        raise BindError(vf.address, None, str(error), error.errno) from error
    node.journal.remove(vf.address)
    if driver.current_driver(node.sysfs, vf.address) is None:
        return [f"{vf.address}: no driver took it; load its kernel driver's module"]
    return _netdev_back(node, vf.address)


def rebind(node: Node, finding: Finding) -> list[str]:
    """Unbind and bind a VF's driver: the kernel destroys its netdev wherever it is, and makes a
    new one here."""
    vf = find_vf(node.sysfs, finding.subject)
    record = _record(node, vf, Kind.DPDK, Before(vf.driver, vf.driver_override))
    node.journal.write(record)
    node.checkpoint("repair.intended")
    driver.unbind(node.sysfs, vf.address)
    node.checkpoint("repair.unbound")
    give_up(node, record)
    return _netdev_back(node, vf.address)


def set_up(node: Node, finding: Finding) -> list[str]:
    """Set a PF's netdev up."""
    with node.netlink.links() as links:
        for netdev in here(node, finding.subject):
            if not netdev.up:
                links.set_up(netdev.index, up=True)
    return []


def _end(node: Node, record: Record, netns_path: str | None = None) -> None:
    node.journal.write(record)
    node.checkpoint("repair.intended")
    try:
        give_up(node, record, netns_path)
    except UndoIncomplete:
        # What nobody owned must not stay taken because a driver refuses a setting; doctor finds
        # what is left of it by looking at the hardware.
        if record.owner.container_id == _OWNER:
            node.journal.remove(record.address)
        raise


def _record(node: Node, vf: VF, kind: Kind, before: Before) -> Record:
    """Return the record of an attachment to nobody, which is being ended."""
    pf = find_pf(node.sysfs, vf.pf_address)
    owner = Owner(_OWNER, vf.address, NetnsIdentity("", 0, 0), since=node.clock())
    return Record(
        address=vf.address,
        kind=kind,
        stage=Stage.DETACHING,
        boot_id=node.boot_id,
        owner=owner,
        pf_address=vf.pf_address,
        pf_ifname=pf.ifname,
        index=vf.index,
        before=before,
    )


def _given_driver(node: Node, vf: VF) -> str | None:
    """Return the driver that ``hwmgr apply`` has named for a VF, None when it named none."""
    given = ApplyRecords(node.state).given(vf.pf_address, node.boot_id).get(vf.index)
    return given.driver if given and given.driver not in (None, "default", "none") else None


def _usual_driver(node: Node, vf: VF) -> str | None:
    """Return the kernel driver that most VFs of the PF have."""
    counts: dict[str, int] = {}
    for other in list_vfs(node.sysfs, vf.pf_address):
        name = other.driver
        if name is not None and name not in USERSPACE_DRIVERS and other.address != vf.address:
            counts[name] = counts.get(name, 0) + 1
    best = max(counts, key=lambda name: counts[name], default=None)
    if best is None or not node.sysfs.exists(device_path(vf.address)):
        return None
    return best


def _netdev_back(node: Node, address: str) -> list[str]:
    """Wait for the netdev of a new probe, and for udev to have named it."""
    if await_netdevs(node, address, _NETDEV_SECONDS):
        return []
    return [f"no netdev of {address} appeared within {_NETDEV_SECONDS:.0f} s"]
