"""All that doctor judges by, gathered once: nothing here decides, and nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.doctor import facts_host, facts_spaces, facts_state
from hwmgr.doctor.facts_applied import applied_files, eswitch_modes
from hwmgr.errors import NetlinkError, NoSuchDevice
from hwmgr.inventory import inventory
from hwmgr.model import USERSPACE_DRIVERS, Kind, VFState
from hwmgr.pci import device_path, find_pf, list_pfs
from hwmgr.savedstate import Format
from hwmgr.sight import Sight

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from hwmgr.doctor.facts_applied import AppliedFile
    from hwmgr.doctor.facts_host import HugePages, Kubelet, Manager
    from hwmgr.doctor.facts_spaces import Space
    from hwmgr.doctor.facts_state import Claim, RecordFile, StateFacts
    from hwmgr.holders import NamespaceKey
    from hwmgr.inventory import VFInfo
    from hwmgr.iommugroups import Member
    from hwmgr.model import PF, Netdev, Record
    from hwmgr.node import Node
    from hwmgr.savedstate import SavedEntry


@dataclass(frozen=True, slots=True)
class Facts:
    """What is, on one node or about one PF of it.

    ``here`` has the netdevs of our namespace by PCI address, ``host`` all of them. ``spaces`` are
    other namespaces: those of owners, and all others as soon as something is missed. ``present``
    are the functions that exist, ``busy`` those that a call is working on, ``autoprobe`` the PFs
    whose new VFs get a driver. ``unjudged`` are recorded paths that mean nothing where we run.
    ``no_netdevs`` are VFs whose driver makes none: of an accelerator, or lent to a virtual machine.
    ``eswitch`` has the mode of a PF's embedded switch where apply wants one.
    """

    boot_id: str
    all_processes: bool
    pfs: tuple[PF, ...]
    vfs: tuple[VFInfo, ...]
    host: tuple[Netdev, ...]
    here: dict[str, tuple[Netdev, ...]]
    state: StateFacts
    spaces: dict[NamespaceKey, Space]
    present: frozenset[str]
    busy: frozenset[str]
    unjudged: frozenset[str]
    autoprobe: frozenset[str]
    no_netdevs: frozenset[str]
    drivers: frozenset[str]
    groups: dict[str, tuple[Member, ...]]
    noiommu: str | None
    hugepages: tuple[HugePages, ...]
    kubelet: Kubelet | None
    managers: dict[int, tuple[Manager, ...]]
    kept_drivers: dict[str, str]
    applied: tuple[AppliedFile, ...]
    eswitch: dict[str, str]

    def records(self) -> list[tuple[RecordFile, Record]]:
        """Return the records that are whole and in their place."""
        return [(f, f.record) for f in self.state.files if f.record is not None and f.fits]

    def record_of(self, address: str) -> Record | None:
        """Return the record of a function."""
        return next((r for _f, r in self.records() if r.address == address), None)

    def unrecorded(self) -> list[VFInfo]:
        """Return the VFs that no record tells of, not even a damaged one."""
        told = {file.address for file in self.state.files}
        return [i for i in self.vfs if i.record is None and i.vf.address not in told]

    def apply_is_unknown(self, pf_address: str) -> bool:
        """Tell whether apply has a record of a PF that cannot be read: nothing is left over then
        for certain."""
        return any(f.record is None and f.address == pf_address for f in self.applied)

    def idle(self) -> list[VFInfo]:
        """Return the VFs that nobody has, as far as is known: of these alone things are put right.

        A damaged record may be a living owner's, and so may another plugin's state file.
        """
        found = [i for i in self.unrecorded() if i.state is not VFState.FOREIGN]
        addresses = {info.vf.address for info in found}
        entries = (e for e in self.state.entries if e.address in addresses and e.container_id)
        kept = {entry.address for entry in entries if self.is_kept(entry)}
        return [info for info in found if info.vf.address not in kept]

    def is_kept(self, entry: SavedEntry) -> bool:
        """Tell whether somebody alive stands behind a state file, or might, as far as we can see.

        sriov-cni before 2.7 makes no claims, and leaves ours: that somebody has the function is all
        there is to see, and of a device without a netdev not even that.
        """
        address = entry.address or ""
        claim = self._claim_for(entry)
        if claim is not None and (claim.live or claim.unjudged):
            return True
        if any(i.vf.address == address and i.state is VFState.FOREIGN for i in self.vfs):
            return True
        if self.elsewhere(address) or self.is_unclaimed_device(entry):
            return True
        if not self.all_processes and (entry.netns_inode is not None or entry.mode is Kind.DPDK):
            return True
        if entry.netns_inode is not None and any(i == entry.netns_inode for _d, i in self.spaces):
            return True
        record = self.record_of(address)
        return record is not None and record.owner.container_id == entry.container_id

    def is_unclaimed_device(self, entry: SavedEntry) -> bool:
        """Tell a state file that does not show whether its container lives."""
        known = entry.netns_inode is not None or self._claim_for(entry) is not None
        return entry.mode is Kind.DPDK and not known

    def _claim_for(self, entry: SavedEntry) -> Claim | None:
        """Return the claim of a state file's function, unless it is one of another's record."""
        claim = self.state.claims.get(entry.address or "")
        record = self.record_of(entry.address or "")
        if claim is None or record is None or record.owner.container_id == entry.container_id:
            return claim
        return None if claim.path == record.owner.netns.path else claim

    def elsewhere(self, address: str) -> list[tuple[Space, Netdev]]:
        """Return where else a function's netdevs are."""
        return [(s, n) for s in self.spaces.values() for n in s.netdevs.get(address, ())]


def gather(node: Node, pf_address: str | None = None, held: Collection[str] = ()) -> Facts:
    """Gather the facts of a node; with ``pf_address`` only what concerns that PF and its VFs.

    ``held`` are functions whose locks the caller has. Raises SysfsError, StateError.
    """
    everything = pf_address is None
    pfs = list_pfs(node.sysfs) if pf_address is None else _one(node, pf_address)
    sight = Sight(node.proc, node.all_processes)
    state = facts_state.gather_state(node, sight)
    vfs = inventory(node) if everything else inventory(node, pfs)
    records = [f.record for f in state.files if f.record is not None]
    if not everything:
        records = [r for r in records if r.pf_address == pf_address]
    host = _host_netdevs(node)
    parents = any(netdev.parent for netdev in host)
    spaces = facts_spaces.of_owners(node, records, parents=parents)
    lost = [r for r in records if _lost(node, r, spaces)]
    if lost or _strays(state, records) or any(_is_elsewhere(vf) for vf in vfs):
        spaces = facts_spaces.merged(spaces, facts_spaces.all_of_them(node, parents=parents))
    applied = tuple(f for f in applied_files(node) if everything or f.address == pf_address)
    userspace = [v.vf.iommu_group for v in vfs if v.vf.driver == "vfio-pci" and v.vf.iommu_group]
    return Facts(
        boot_id=node.boot_id,
        all_processes=sight.all_processes,
        pfs=tuple(pfs),
        vfs=tuple(vfs),
        host=host,
        here=_by_address(host, pfs, vfs),
        state=state,
        spaces=spaces,
        present=frozenset(node.sysfs.names("bus/pci/devices")),
        busy=frozenset(
            r.address
            for r in records
            if r.address not in held and facts_state.is_busy(node, r.address)
        ),
        unjudged=frozenset(p for r in lost if sight.says_nothing(p := r.owner.netns.path)),
        autoprobe=frozenset(p.address for p in pfs if _autoprobe(node, p)),
        no_netdevs=frozenset(
            i.vf.address
            for i in vfs
            if _is_elsewhere(i) and facts_host.makes_none(node.sysfs, i.vf)
        ),
        drivers=frozenset(node.sysfs.names("bus/pci/drivers")),
        groups=facts_host.groups(node.sysfs, userspace),
        noiommu=facts_host.noiommu(node.sysfs),
        hugepages=facts_host.hugepages(node.sysfs),
        kubelet=facts_host.kubelet(node.kubelet),
        managers=facts_host.managers(node.run),
        kept_drivers=facts_host.kept_drivers(node.etc),
        applied=applied,
        eswitch=eswitch_modes(node, applied),
    )


def _one(node: Node, address: str) -> list[PF]:
    try:
        return [find_pf(node.sysfs, address)]
    except NoSuchDevice:
        return []


def _host_netdevs(node: Node) -> tuple[Netdev, ...]:
    try:
        with node.netlink.links() as links:
            return tuple(links.list())
    except NetlinkError as error:
        node.log(str(error))
        return ()


def _by_address(
    host: tuple[Netdev, ...], pfs: Iterable[PF], vfs: Iterable[VFInfo]
) -> dict[str, tuple[Netdev, ...]]:
    """Match netdevs and functions by the parent that the kernel names, else by sysfs' names."""
    functions: list[tuple[str, tuple[str, ...]]] = [(pf.address, pf.netdevs) for pf in pfs]
    functions += [(info.vf.address, info.vf.netdevs) for info in vfs]
    by_name = {netdev.name: netdev for netdev in host}
    found: dict[str, tuple[Netdev, ...]] = {}
    for address, names in functions:
        ours = [by_name[name] for name in names if name in by_name]
        # A sysfs tree of another machine has names that mean something else here.
        found[address] = tuple(n for n in ours if n.parent in (None, address))
    return found


def _lost(node: Node, record: Record, spaces: dict[NamespaceKey, Space]) -> bool:
    netns = record.owner.netns
    return record.boot_id == node.boot_id and (netns.dev, netns.inode) not in spaces


def _is_elsewhere(info: VFInfo) -> bool:
    vf = info.vf
    kernel = vf.driver is not None and vf.driver not in USERSPACE_DRIVERS
    return info.record is None and kernel and not vf.netdevs and info.state is VFState.FOREIGN


def _strays(state: StateFacts, records: list[Record]) -> bool:
    """Tell whether a state file in a namespace's folder has no record: is that namespace alive?"""
    belonging = {path for record in records for path in record.saved_files}
    seed = [e for e in state.entries if e.format is Format.SEED and e.netns_inode]
    return any(e.path not in belonging for e in seed)


def _autoprobe(node: Node, pf: PF) -> bool:
    return node.sysfs.read_quiet(device_path(pf.address, "sriov_drivers_autoprobe")) != "0"
