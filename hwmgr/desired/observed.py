"""A PF and its VFs as they are: the facts that a plan is made from. Read-only."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwmgr.desired.hostuse import host_use
from hwmgr.devicefiles import device_files
from hwmgr.driver import no_iommu
from hwmgr.errors import NetlinkError, NoSuchDevice, RecordTorn
from hwmgr.inuse import OpenFiles
from hwmgr.inventory import inventory
from hwmgr.model import USERSPACE_DRIVERS, VFState, describe
from hwmgr.pci import device_path, find_pf, list_pfs
from hwmgr.representor import has_representors

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
    ``stuck`` names a process that has its device file open, until whose end no driver lets go.
    """

    vf: VF
    driver: str | None
    settings: VFSettings | None
    mtu: int | None
    mac: str | None
    holder: str | None = None
    record: Record | None = None
    stuck: str | None = None


@dataclass(frozen=True, slots=True)
class PfNow:
    """A PF; ``eswitch_mode`` is None where its driver has no embedded switch.

    ``mac`` is the hardware's own where that is known: a bond gives all its ports one MAC.
    ``holder`` says who has been given the whole PF, and then names, MTU and such are what they will
    be when it is given back. ``used`` is in words what the host uses it for, ``no_iommu`` why
    vfio-pci cannot take its VFs.
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
    used: tuple[str, ...] = ()
    no_iommu: str | None = None

    @property
    def label(self) -> str:
        """The PF's name for people."""
        return self.pf.ifname or self.pf.address


def observe(node: Node) -> list[PfNow]:
    """Return every PF of the node. Raises SysfsError, StateError, NetlinkError."""
    found = []
    for pf in list_pfs(node.sysfs):
        # One that goes while it is looked at is no more.
        with suppress(NoSuchDevice):
            found.append(observe_pf(node, pf.address))
    return found


def observe_pf(node: Node, address: str) -> PfNow:
    """Return one PF. Raises NoSuchDevice, SysfsError, StateError, NetlinkError."""
    pf = find_pf(node.sysfs, address)
    netdev = _netdev(node, pf)
    home = f"class/net/{pf.ifname}"
    flags = node.sysfs.read_int(f"{home}/flags") if pf.ifname else None
    autoprobe = node.sysfs.read(device_path(address, "sriov_drivers_autoprobe"))
    # What a holder of an earlier boot had set went with it; who has the VF now may not be that.
    infos = [i for i in inventory(node, [pf], this_boot=True) if _exists(node, i)]
    open_files = OpenFiles(node.proc)
    now = PfNow(
        pf=pf,
        altnames=netdev.altnames if netdev else (),
        mtu=node.sysfs.read_int(f"{home}/mtu") if pf.ifname else None,
        up=None if flags is None else bool(flags & _UP),
        mac=_mac(node, pf, netdev),
        eswitch_mode=_eswitch_mode(node, pf),
        autoprobe=None if autoprobe is None else autoprobe.strip() == "1",
        vfs=tuple(_vf(node, open_files, info) for info in infos),
        drivers=frozenset(node.sysfs.names("bus/pci/drivers")),
        used=host_use(node, netdev) if netdev else (),
        no_iommu=no_iommu(node.sysfs, address),
    )
    try:
        record = node.journal.read(pf.address)
    except RecordTorn as error:
        return replace(now, holder=str(error))
    if record is None or record.boot_id != node.boot_id:
        return now
    return _lent(now, record)


def _lent(now: PfNow, record: Record) -> PfNow:
    """Return a PF that somebody has as it will be when it is given back."""
    now = replace(now, holder=f"it is held as a whole by {describe(record)}")
    netdevs = record.before.netdevs
    if not netdevs or now.pf.netdevs:
        return now
    pf = replace(now.pf, netdevs=tuple(n.name for n in netdevs))
    one = netdevs[0]
    mac = now.mac or one.mac
    return replace(now, pf=pf, altnames=one.altnames, mtu=one.mtu, up=one.up, mac=mac)


def _mac(node: Node, pf: PF, netdev: Netdev | None) -> str | None:
    if pf.ifname is None:
        return None
    shown = node.sysfs.read_quiet(f"class/net/{pf.ifname}/address")
    if netdev is None or node.sysfs.read_int(f"class/net/{pf.ifname}/ifindex") != netdev.index:
        return shown
    try:
        with node.netlink.links() as links:
            return links.permanent_mac(netdev.index) or shown
    except NetlinkError:
        return shown


def _eswitch_mode(node: Node, pf: PF) -> str | None:
    """Return what devlink says (to root alone: EPERM), None of a driver without such a switch.

    A switch id says nothing: ice and mlx5 have one in legacy mode too.
    """
    try:
        return node.devlink.eswitch_mode(pf.address)
    except NetlinkError:
        return "switchdev" if has_representors(node.sysfs, pf.ifname or "") else "legacy"


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


def _exists(node: Node, info: VFInfo) -> bool:
    return node.sysfs.exists(device_path(info.vf.address))


def _torn(node: Node, address: PciAddress) -> bool:
    try:
        node.journal.read(address)
    except RecordTorn:
        return True
    return False


def _vf(node: Node, open_files: OpenFiles, info: VFInfo) -> VfNow:
    vf, record = info.vf, info.record
    if record is not None and record.address == vf.address:
        before = record.before
        leaked = " ('hwmgr repair' gives it back)" if info.state is VFState.LEAKED else ""
        netdev = before.netdevs[0] if before.netdevs else None
        return VfNow(
            vf=vf,
            driver=before.driver,
            settings=before.settings,
            mtu=(netdev.mtu or None) if netdev else None,
            mac=(netdev.mac or None) if netdev else None,
            holder=info.reason + leaked,
            record=record,
            stuck=_stuck(node, open_files, vf),
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
        stuck=_stuck(node, open_files, vf) if held else None,
    )


def _stuck(node: Node, open_files: OpenFiles, vf: VF) -> str | None:
    if vf.driver not in USERSPACE_DRIVERS:
        return None
    # /dev/vfio/vfio is every vfio user's.
    files = device_files(node.sysfs, vf.address, node.dev)
    files = tuple(f for f in files if not f.endswith("/vfio/vfio"))
    holder = open_files.holder(*files)
    return f"{holder} has {files[0]} open" if holder else None
