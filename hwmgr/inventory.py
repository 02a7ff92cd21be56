"""The node's PFs and VFs with their state: facts gathered once, decided one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwmgr import claims
from hwmgr.applyrecord import ApplyRecords
from hwmgr.devicefiles import device_files
from hwmgr.errors import NetlinkError, RecordTorn
from hwmgr.inuse import Namespaces, OpenFiles, routed_netdevs
from hwmgr.model import USERSPACE_DRIVERS, VF, PciAddress, VFState
from hwmgr.pci import list_pfs, list_vfs
from hwmgr.vfstate import Facts, HostNetdev, decide

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hwmgr.links import Links
    from hwmgr.model import PF, Record, VFSettings
    from hwmgr.node import Node


@dataclass(frozen=True, slots=True)
class VFInfo:
    """A VF as the administrator sees it; ``record`` is its own, or that of its PF given away whole.

    ``settings`` is what the PF's driver says now, None when it cannot be asked.
    """

    vf: VF
    pf_ifname: str | None
    settings: VFSettings | None
    record: Record | None
    state: VFState
    reason: str


@dataclass(frozen=True, slots=True)
class PFInfo:
    """A PF as the administrator sees it; ``mtu`` in bytes, ``link_state`` as in operstate."""

    pf: PF
    free_vfs: int
    eswitch_mode: str | None
    mtu: int | None
    mac: str | None
    link_state: str | None


class _Host:
    """What is asked of the host once, whatever the number of VFs."""

    def __init__(self, node: Node, links: Links) -> None:
        self.namespaces = Namespaces(node.proc)
        self.open_files = OpenFiles(node.proc)
        self._links = links
        self._addressed = _addressed(links)
        self._routed = routed_netdevs(node.proc)
        self._names: dict[int, str] | None = None

    def uses(self, index: int | None, name: str) -> tuple[bool, bool]:
        """Tell whether a netdev has an address, and whether it has a route.

        Its index and name must be this kernel's: a sysfs tree elsewhere may have them by chance.
        """
        addressed, routed = index in self._addressed, name in self._routed
        if not addressed and not routed:
            return False, False
        if self._names is None:
            self._names = {n.index: n.name for n in self._links.list()}
        ours = index is not None and self._names.get(index) == name
        return addressed and ours, routed and ours


def inventory(node: Node, pfs: Iterable[PF] | None = None) -> list[VFInfo]:
    """Return every VF of the node, or of some PFs, in the order of PF address and index.

    Touches nothing. A record whose VF is gone has a line too. Raises SysfsError, StateError.
    """
    everything = pfs is None
    chosen = list_pfs(node.sysfs) if pfs is None else list(pfs)
    records, torn = _records(node)
    claimed = _live_claims(node)
    found: list[VFInfo] = []
    with node.netlink.links() as links:
        host = _Host(node, links)
        for pf in chosen:
            settings = _settings(links, pf)
            given = ApplyRecords(node.state).given(pf.address, node.boot_id)
            for vf in list_vfs(node.sysfs, pf.address):
                facts = Facts(
                    vf=vf,
                    settings=settings.get(vf.index),
                    record=records.get(vf.address),
                    pf_record=records.get(pf.address),
                    torn=torn.get(vf.address),
                    claim=claimed.get(vf.address),
                    given=given.get(vf.index),
                )
                found.append(_decided(node, host, facts, pf.ifname))
    addresses = {pf.address for pf in chosen}
    known = {info.vf.address for info in found} | addresses
    for record in records.values():
        wanted = everything or record.pf_address in addresses
        if wanted and record.index is not None and record.address not in known:
            found.append(_gone(record))
    return found


def look_at(node: Node, vf: VF) -> VFInfo:
    """Return one VF with its state, as inventory() would."""
    from hwmgr.pci import find_pf

    pf = find_pf(node.sysfs, vf.pf_address)
    return next(i for i in inventory(node, [pf]) if i.vf.address == vf.address)


def pf_inventory(node: Node) -> list[PFInfo]:
    """Return every PF of the node with what its netdev shows and how many of its VFs are free."""
    pfs = list_pfs(node.sysfs)
    free: dict[str, int] = {}
    for info in inventory(node, pfs):
        if info.state is VFState.FREE:
            free[info.vf.pf_address] = free.get(info.vf.pf_address, 0) + 1
    return [_pf_info(node, pf, free.get(pf.address, 0)) for pf in pfs]


def _pf_info(node: Node, pf: PF, free: int) -> PFInfo:
    sysfs, home = node.sysfs, f"class/net/{pf.ifname}"
    if pf.ifname is None:
        return PFInfo(pf, free, None, None, None, None)
    # Only a PF in switchdev mode has a switch id (switchdev ports alone do, net/core/dev.c).
    switch = sysfs.read_quiet(f"{home}/phys_switch_id")
    return PFInfo(
        pf=pf,
        free_vfs=free,
        eswitch_mode="switchdev" if switch else "legacy",
        mtu=sysfs.read_int(f"{home}/mtu"),
        mac=sysfs.read_quiet(f"{home}/address"),
        link_state=sysfs.read_quiet(f"{home}/operstate"),
    )


def _records(node: Node) -> tuple[dict[str, Record], dict[str, str]]:
    records: dict[str, Record] = {}
    torn: dict[str, str] = {}
    for address in node.journal.addresses():
        try:
            record = node.journal.read(address)
        except RecordTorn as error:
            torn[address] = error.reason
            continue
        if record is not None:
            records[address] = record
    return records, torn


def _live_claims(node: Node) -> dict[str, str]:
    found = {}
    for address in claims.addresses(node.state):
        path = claims.claimed_by(node.state, address)
        if path and claims.is_live(path):
            found[address] = path
    return found


def _addressed(links: Links) -> frozenset[int]:
    try:
        return frozenset(links.addresses())
    except NetlinkError:
        return frozenset()


def _settings(links: Links, pf: PF) -> Mapping[int, VFSettings]:
    if pf.ifname is None or not pf.num_vfs:
        return {}
    try:
        netdev = links.find(pf.ifname)
        # A sysfs tree that is not this kernel's has names that mean something else here.
        if netdev is None or netdev.parent not in (None, pf.address):
            return {}
        return links.vf_settings(netdev.index)
    except NetlinkError:
        return {}


def _decided(node: Node, host: _Host, facts: Facts, pf_ifname: str | None) -> VFInfo:
    record = facts.record or facts.pf_record
    if record is not None:
        facts = replace(
            facts,
            same_boot=record.boot_id == node.boot_id,
            owner_alive=host.namespaces.alive(record.owner.netns),
        )
    elif facts.torn is None:
        facts = replace(
            facts,
            netdevs=tuple(_host_netdevs(node, host, facts.vf)),
            holder=_holder(node, host, facts.vf),
        )
    state, reason = decide(facts)
    return VFInfo(facts.vf, pf_ifname, facts.settings, record, state, reason)


def _host_netdevs(node: Node, host: _Host, vf: VF) -> Iterator[HostNetdev]:
    for name in vf.netdevs:
        home = f"class/net/{name}"
        addressed, routed = host.uses(node.sysfs.read_int(f"{home}/ifindex"), name)
        yield HostNetdev(
            name=name,
            alias=node.sysfs.read_quiet(f"{home}/ifalias") or "",
            master=node.sysfs.link_name(f"{home}/master"),
            addressed=addressed,
            routed=routed,
        )


def _holder(node: Node, host: _Host, vf: VF) -> str | None:
    if vf.driver not in USERSPACE_DRIVERS:
        return None
    files = device_files(node.sysfs, vf.address, node.dev)
    # /dev/vfio/vfio is every vfio user's.
    return host.open_files.holder(*(f for f in files if not f.endswith("/vfio/vfio")))


def _gone(record: Record) -> VFInfo:
    vf = VF(
        address=PciAddress(record.address),
        pf_address=record.pf_address,
        index=record.index or 0,
        driver=None,
        driver_override=None,
        netdevs=(),
        vendor="",
        device="",
        numa_node=None,
        iommu_group=None,
    )
    reason = "it has a record, but there is no such device; see 'hwmgr repair'"
    return VFInfo(vf, record.pf_ifname, None, record, VFState.BROKEN, reason)
