"""Which function an attachment gets: locked, nobody else's, and described as it is now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr import allocate, claims, driver
from hwmgr.errors import DeviceBusy
from hwmgr.locate import here
from hwmgr.model import USERSPACE_DRIVERS, Before, Kind, PciAddress, describe
from hwmgr.pci import find_pf, find_vf, list_vfs, pf_named
from hwmgr.sight import Life

if TYPE_CHECKING:
    from contextlib import ExitStack

    from hwmgr.model import PF, VF, AttachRequest
    from hwmgr.node import Node


@dataclass(frozen=True, slots=True)
class Chosen:
    """The function that an attachment gets; ``index`` None for a PF."""

    address: PciAddress
    pf: PF
    index: int | None
    driver: str | None
    driver_override: str | None


def select(node: Node, request: AttachRequest, locks: ExitStack) -> Chosen:
    """Choose and lock what is asked for; the locks of PF and function go into ``locks``.

    Raises NoSuchDevice, DeviceBusy, NoFreeVF, RequestError, LockTimeout.
    """
    whole_pf = request.whole_pf or request.kind is Kind.PF
    if whole_pf or request.device is None:
        pf = pf_named(node.sysfs, request.device or request.pf_name or "")
    else:
        pf = find_pf(node.sysfs, find_vf(node.sysfs, request.device).pf_address)
    locks.enter_context(node.locks.pf(pf.address))
    if whole_pf:
        locks.enter_context(node.locks.function(pf.address))
        return _select_pf(node, request, pf)
    if request.device is None:
        vf = allocate.choose(
            node,
            pf,
            l2=request.l2 or request.kind is Kind.DPDK,
            container_id=request.container_id,
            ifname=request.ifname,
            locks=locks,
        )
    else:
        vf = find_vf(node.sysfs, request.device)
        locks.enter_context(node.locks.function(vf.address))
        allocate.take(node, vf.address, pf.address, request.container_id, request.ifname)
    # A dead owner's leavings may just have been given back: read it as it is now.
    vf = find_vf(node.sysfs, vf.address)
    _refuse_in_use(node, vf)
    return Chosen(vf.address, pf, vf.index, vf.driver, vf.driver_override)


def _select_pf(node: Node, request: AttachRequest, pf: PF) -> Chosen:
    """Take a whole PF; while a VF of it is somebody's it must stay, or none could be managed."""
    allocate.take(node, pf.address, pf.address, request.container_id, request.ifname)
    for vf in list_vfs(node.sysfs, pf.address):
        record = node.journal.read(vf.address)
        claim = claims.claimed_by(node.state, vf.address)
        if record is not None and allocate.owner_alive(node, record):
            holder = describe(record)
        elif claim is not None and allocate.claim_life(node, claim) is not Life.GONE:
            holder = f"namespace {claim}"
        elif vf.driver is not None and not vf.netdevs and vf.driver not in USERSPACE_DRIVERS:
            holder = "another namespace"
        else:
            continue
        message = f"its VF {vf.address} is in use by {holder}; a PF goes only as a whole"
        raise DeviceBusy(pf.address, message, holder)
    if request.kind is Kind.DPDK and pf.num_vfs:
        message = (
            f"it has {pf.num_vfs} VFs, which rebinding destroys; write 0 to sriov_numvfs first"
        )
        raise DeviceBusy(pf.address, message)
    override = driver.current_override(node.sysfs, pf.address)
    return Chosen(pf.address, pf, None, pf.driver, override)


def _refuse_in_use(node: Node, vf: VF) -> None:
    for one in here(node, vf.address):
        if one.master is not None:
            message = f"its netdev {one.name} is enslaved on the host (to link {one.master})"
            raise DeviceBusy(vf.address, message)


def capture(node: Node, chosen: Chosen) -> Before:
    """Describe a function as it is before anything is changed."""
    settings = None
    pf_netdevs = here(node, chosen.pf.address)
    if chosen.index is not None and pf_netdevs:
        with node.netlink.links() as links:
            settings = links.vf_settings(pf_netdevs[0].index).get(chosen.index)
    return Before(
        driver=chosen.driver,
        driver_override=chosen.driver_override,
        settings=settings,
        netdevs=here(node, chosen.address),
    )
