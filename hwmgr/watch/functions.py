"""The functions that are watched: one look at all of them, and where an unknown one belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.errors import RecordTorn
from hwmgr.inventory import inventory
from hwmgr.model import PciAddress
from hwmgr.pci import device_path, list_pfs, vf_address, virtfn_indices
from hwmgr.watch.deviceevents import Function

if TYPE_CHECKING:
    from collections.abc import Collection

    from hwmgr.inventory import VFInfo
    from hwmgr.model import PF, Record
    from hwmgr.node import Node

Place = tuple[PciAddress, int]


def look(node: Node, pfs: Collection[PciAddress] | None) -> dict[PciAddress, Function]:
    """Return all functions, or some PFs (those that are there) and their VFs, by address.

    Records whose VF is gone are among them, see is_there(). Raises SysfsError, StateError.
    """
    chosen = [pf for pf in list_pfs(node.sysfs) if pfs is None or pf.address in pfs]
    found = {pf.address: _of_pf(node, pf) for pf in chosen}
    for info in inventory(node, None if pfs is None else chosen):
        found[info.vf.address] = _of_vf(info)
    return found


def is_there(function: Function) -> bool:
    """Tell a function from the line that the inventory has for a record of one that is gone."""
    return function.info is None or bool(function.info.vf.vendor)


def order_of(function: Function) -> tuple[int, str, int]:
    """Sort key: each PF before its VFs, these by index."""
    pf = function.pf_address
    return len(pf), pf, -1 if function.index is None else function.index


def place_of(
    node: Node, address: PciAddress
) -> Place | tuple[PciAddress, None] | tuple[None, None]:
    """Return the PF and the index of a VF, its own address and None of a PF, by sysfs."""
    sysfs = node.sysfs
    if sysfs.exists(device_path(address, "sriov_totalvfs")):
        return address, None
    physfn = sysfs.link_name(device_path(address, "physfn"))
    if physfn is None:
        return None, None
    for index in virtfn_indices(sysfs.names(device_path(physfn))):
        if sysfs.link_name(device_path(physfn, f"virtfn{index}")) == address:
            return PciAddress(physfn), index
    return None, None


def expected_vfs(node: Node, pf: PciAddress) -> dict[PciAddress, Place]:
    """Return the addresses of all VFs that a PF can have, by its offset and stride.

    Both may change with the number of VFs (SR-IOV 1.1, 3.3.9), which no driver in use makes of it;
    what is not among them is found by its physfn.
    """
    facts = [
        node.sysfs.read_quiet(device_path(pf, name))
        for name in ("sriov_offset", "sriov_stride", "sriov_totalvfs")
    ]
    offset, stride, total = (int(text) if text else 0 for text in facts)
    if not offset:
        return {}
    return {vf_address(pf, offset, stride, index): (pf, index) for index in range(total)}


def _of_pf(node: Node, pf: PF) -> Function:
    record: Record | None
    try:
        record = node.journal.read(pf.address)
    except RecordTorn:
        record = None
    return Function(
        address=pf.address,
        pf_address=pf.address,
        pf_ifname=pf.ifname,
        index=None,
        driver=pf.driver,
        netdevs=pf.netdevs,
        num_vfs=pf.num_vfs,
        record=record,
    )


def _of_vf(info: VFInfo) -> Function:
    vf, record = info.vf, info.record
    return Function(
        address=vf.address,
        pf_address=vf.pf_address,
        pf_ifname=info.pf_ifname,
        index=vf.index,
        driver=vf.driver,
        netdevs=vf.netdevs,
        info=info,
        record=record if record is not None and record.address == vf.address else None,
    )
