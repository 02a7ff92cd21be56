"""The node's VFs with their state: facts gathered once, decided one by one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from hwmgr import claims
from hwmgr.applyrecord import ApplyRecords, Given
from hwmgr.devicefiles import holder_files
from hwmgr.errors import NetlinkError, NoSuchDevice, RecordTorn
from hwmgr.inuse import Namespaces, OpenFiles, routed_netdevs
from hwmgr.model import VF, PciAddress, VFState, is_userspace
from hwmgr.pci import list_vfs, survey
from hwmgr.sight import Sight
from hwmgr.vfstate import Facts, HostNetdev, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hwmgr.links import Links
    from hwmgr.model import PF, NetnsIdentity, Record, VFSettings
    from hwmgr.node import Node

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class VFInfo:
    """A VF as the administrator sees it; ``record`` is its own, or that of its PF given away whole.

    ``settings`` is what the PF's driver says now, None when it cannot be asked. ``given`` is what
    apply has made of it, which is not left over.
    """

    vf: VF
    pf_ifname: str | None
    settings: VFSettings | None
    record: Record | None
    state: VFState
    reason: str
    given: Given = field(default_factory=Given)


class _Host:
    """What is asked of the host once, whatever the number of VFs."""

    def __init__(self, node: Node, links: Links, sight: Sight) -> None:
        self._sight = sight
        self.namespaces = Namespaces(node.proc)
        self.open_files = OpenFiles(node.proc)
        self._sysfs = node.sysfs
        self._links = links
        self._netdevs = {netdev.name: netdev for netdev in _asked(links.list) or ()}
        with_address = _asked(links.addresses) or {}
        self._addressed = {n.name for n in self._netdevs.values() if n.index in with_address}
        self._routed = routed_netdevs(node.proc)

    def alive(self, netns: NetnsIdentity) -> bool:
        """Tell whether a namespace lives, for all that can be seen from here."""
        return self.namespaces.alive(netns) or self._sight.says_nothing(netns.path)

    def uses(self, name: str) -> tuple[bool, bool]:
        """Tell whether a netdev has an address, and whether it has a route.

        Its index and name must be this kernel's: a sysfs tree elsewhere may have them by chance.
        """
        addressed, routed = name in self._addressed, name in self._routed
        if not addressed and not routed:
            return False, False
        netdev = self._netdevs.get(name)
        index = self._sysfs.read_int(f"class/net/{name}/ifindex")
        ours = netdev is not None and index == netdev.index
        return addressed and ours, routed and ours

    def settings(self, pf: PF) -> Mapping[int, VFSettings]:
        """Return what the PF's driver says of its VFs, nothing where it cannot be asked."""
        netdev = self._netdevs.get(pf.ifname or "")
        # A sysfs tree that is not this kernel's has names that mean something else here.
        if netdev is None or not pf.num_vfs or netdev.parent not in (None, pf.address):
            return {}
        return _asked(lambda: self._links.vf_settings(netdev.index)) or {}


def inventory(
    node: Node, pfs: Iterable[PF] | None = None, *, this_boot: bool = False
) -> list[VFInfo]:
    """Return every VF of the node, or of some PFs, in the order of PF address and index.

    Touches nothing. A record whose VF is gone has a line too. ``this_boot`` looks past records of
    an earlier one, at what VFs are in use for now. Raises SysfsError, StateError.
    """
    sysfs = node.sysfs
    chosen = survey(sysfs) if pfs is None else ((pf, list_vfs(sysfs, pf.address)) for pf in pfs)
    sight = Sight(node.proc, node.all_processes)
    kept = _kept(node, sight, this_boot=this_boot)
    found: list[VFInfo] = []
    known: set[str] = set()
    with node.netlink.links() as links:
        host = _Host(node, links, sight)
        for pf, vfs in chosen:
            known.add(pf.address)
            settings = host.settings(pf) if vfs else {}
            given = ApplyRecords(node.state).given(pf.address, node.boot_id)
            for vf in vfs:
                facts = _facts(node, host, kept, vf, settings.get(vf.index))
                facts = replace(facts, given=given[vf.index]) if vf.index in given else facts
                state, reason = decide(facts)
                record = facts.record or facts.pf_record
                had = facts.given or Given()
                found.append(VFInfo(vf, pf.ifname, facts.settings, record, state, reason, had))
    there = known.union(info.vf.address for info in found)
    for record in kept.records.values():
        wanted = pfs is None or record.pf_address in known
        if wanted and record.index is not None and record.address not in there:
            found.append(_gone(record))
    return found


def look_at(node: Node, vf: VF) -> VFInfo:
    """Return one VF with its state, as inventory() would."""
    from hwmgr.pci import find_pf

    pf = find_pf(node.sysfs, vf.pf_address)
    return of_vf(inventory(node, [pf]), vf.address)


def of_vf(infos: Iterable[VFInfo], address: str) -> VFInfo:
    """Return what was found out of one VF; raises NoSuchDevice for one that went meanwhile."""
    for info in infos:
        if info.vf.address == address:
            return info
    raise NoSuchDevice(address, "its PF has lost it just now; see 'hwmgr vf list'")


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the state directory says, by PCI address; ``torn`` is why a record cannot be read."""

    records: Mapping[str, Record]
    torn: Mapping[str, str]
    claims: Mapping[str, str]


def _kept(node: Node, sight: Sight, *, this_boot: bool) -> _Kept:
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
    past = {a: r for a, r in records.items() if this_boot and r.boot_id != node.boot_id}
    records = {a: r for a, r in records.items() if a not in past}
    live = {}
    for claimed in claims.addresses(node.state):
        try:
            path = claims.claimed_by(node.state, claimed)
        except RecordTorn:
            continue
        # The path of a claim that went with its record may stand for another's namespace by now.
        if claimed in past and past[claimed].owner.netns.path == path:
            continue
        if path and (sight.namespace(path) or sight.says_nothing(path)):
            live[claimed] = path
    return _Kept(records, torn, live)


def _asked(question: Callable[[], _Answer]) -> _Answer | None:
    """Return what rtnetlink answers, None where it refuses: the rest is worth showing."""
    try:
        return question()
    except NetlinkError:
        return None


def _facts(node: Node, host: _Host, kept: _Kept, vf: VF, settings: VFSettings | None) -> Facts:
    own, of_pf = kept.records.get(vf.address), kept.records.get(vf.pf_address)
    torn, claim = kept.torn.get(vf.address), kept.claims.get(vf.address)
    record = own or of_pf
    if record is not None:
        return Facts(
            vf=vf,
            settings=settings,
            record=own,
            pf_record=of_pf,
            torn=torn,
            same_boot=record.boot_id == node.boot_id,
            owner_alive=host.alive(record.owner.netns),
            claim=claim,
        )
    if torn is not None:
        return Facts(vf=vf, settings=settings, torn=torn, claim=claim)
    return Facts(
        vf=vf,
        netdevs=tuple([_host_netdev(node, host, name) for name in vf.netdevs]),
        settings=settings,
        claim=claim,
        holder=_holder(node, host, vf),
    )


def _host_netdev(node: Node, host: _Host, name: str) -> HostNetdev:
    home = f"class/net/{name}"
    addressed, routed = host.uses(name)
    return HostNetdev(
        name=name,
        alias=node.sysfs.read_quiet(f"{home}/ifalias") or "",
        master=node.sysfs.link_name(f"{home}/master"),
        addressed=addressed,
        routed=routed,
    )


def _holder(node: Node, host: _Host, vf: VF) -> str | None:
    if not is_userspace(vf.driver):
        return None
    return host.open_files.holder(*holder_files(node.sysfs, vf.address, node.dev))


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
