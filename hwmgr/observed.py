"""A PF and its VFs as they are: the facts that a plan is made from. Read-only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.errors import NetlinkError, RecordTorn
from hwmgr.inventory import inventory
from hwmgr.model import USERSPACE_DRIVERS, VFState, describe
from hwmgr.pci import device_path, find_pf, list_pfs

if TYPE_CHECKING:
    from hwmgr.inventory import VFInfo
    from hwmgr.model import PF, VF, Netdev, PciAddress, Record, VFSettings
    from hwmgr.node import Node

_UP = 1  # IFF_UP


@dataclass(frozen=True, slots=True)
class VfNow:
    """A VF: ``holder`` says who has it, None when nobody does; ``record`` is that holder's.

    Of a VF that has a record all else is what it will be once it is given back, since what it
    is meanwhile is its holder's affair. ``mtu`` and ``mac`` are its netdev's, None without one.
    """

    vf: VF
    driver: str | None
    settings: VFSettings | None
    mtu: int | None
    mac: str | None
    holder: str | None = None
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class PfNow:
    """A PF; ``eswitch_mode`` is None where its driver has no embedded switch.

    ``holder`` says who has been given the whole PF.
    """

    pf: PF
    altnames: tuple[str, ...]
    mtu: int | None
    up: bool | None
    mac: str | None
    eswitch_mode: str | None
    autoprobe: bool | None
    vfs: tuple[VfNow, ...]
    drivers: frozenset[str]
    holder: str | None = None

    @property
    def label(self) -> str:
        """The PF's name for people."""
        return self.pf.ifname or self.pf.address


def observe(node: Node) -> list[PfNow]:
    """Return every PF of the node. Raises SysfsError, StateError, NetlinkError."""
    return [observe_pf(node, pf.address) for pf in list_pfs(node.sysfs)]


def observe_pf(node: Node, address: str) -> PfNow:
    """Return one PF. Raises NoSuchDevice, SysfsError, StateError, NetlinkError."""
    pf = find_pf(node.sysfs, address)
    netdev = _netdev(node, pf)
    home = f"class/net/{pf.ifname}"
    flags = node.sysfs.read_int(f"{home}/flags") if pf.ifname else None
    autoprobe = node.sysfs.read(device_path(address, "sriov_drivers_autoprobe"))
    return PfNow(
        pf=pf,
        altnames=netdev.altnames if netdev else (),
        mtu=node.sysfs.read_int(f"{home}/mtu") if pf.ifname else None,
        up=None if flags is None else bool(flags & _UP),
        mac=node.sysfs.read_quiet(f"{home}/address") if pf.ifname else None,
        eswitch_mode=_eswitch_mode(node, pf),
        autoprobe=None if autoprobe is None else autoprobe.strip() == "1",
        vfs=tuple(
            # What a holder of an earlier boot had set went with it; who has the VF now may not.
            _vf(node, info)
            for info in inventory(node, [pf], this_boot=True)
            if _exists(node, info)
        ),
        drivers=frozenset(node.sysfs.names("bus/pci/drivers")),
        holder=_holder_of_pf(node, pf.address),
    )


def _eswitch_mode(node: Node, pf: PF) -> str | None:
    """Return what devlink says; a PF's netdev has a switch id in switchdev mode alone.

    Only root may ask devlink (EPERM).
    """
    switch = node.sysfs.read_quiet(f"class/net/{pf.ifname}/phys_switch_id") if pf.ifname else None
    try:
        mode = node.devlink.eswitch_mode(pf.address)
    except NetlinkError:
        mode = "legacy"
    return "switchdev" if switch else mode


def _netdev(node: Node, pf: PF) -> Netdev | None:
    if pf.ifname is None:
        return None
    try:
        with node.netlink.links() as links:
            found = links.find(pf.ifname)
    except NetlinkError:
        return None
    # A sysfs tree that is not this kernel's has names that mean something else here.
    return found if found is not None and found.parent in (None, pf.address) else None


def _holder_of_pf(node: Node, address: PciAddress) -> str | None:
    try:
        record = node.journal.read(address)
    except RecordTorn as error:
        return str(error)
    if record is None or record.boot_id != node.boot_id:
        return None
    return f"it is held as a whole by {describe(record)}"


def _exists(node: Node, info: VFInfo) -> bool:
    return node.sysfs.exists(device_path(info.vf.address))


def _torn(node: Node, address: PciAddress) -> bool:
    try:
        node.journal.read(address)
    except RecordTorn:
        return True
    return False


def _vf(node: Node, info: VFInfo) -> VfNow:
    vf, record = info.vf, info.record
    if record is not None and record.address == vf.address:
        before = record.before
        netdev = before.netdevs[0] if before.netdevs else None
        return VfNow(
            vf=vf,
            driver=before.driver,
            settings=before.settings,
            mtu=(netdev.mtu or None) if netdev else None,
            mac=(netdev.mac or None) if netdev else None,
            holder=info.reason,
            record=record,
        )
    held = record is not None or info.state is VFState.FOREIGN or _torn(node, vf.address)
    home = f"class/net/{vf.ifname}"
    shown = vf.ifname is not None and vf.driver not in USERSPACE_DRIVERS
    return VfNow(
        vf=vf,
        driver=vf.driver,
        settings=info.settings,
        mtu=node.sysfs.read_int(f"{home}/mtu") if shown else None,
        mac=node.sysfs.read_quiet(f"{home}/address") if shown else None,
        holder=info.reason if held else None,
        record=record,
    )
