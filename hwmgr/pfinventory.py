"""The node's PFs: what their netdevs show, the mode of their switch, how many VFs are free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.errors import NetlinkError
from hwmgr.inventory import inventory
from hwmgr.model import VFState
from hwmgr.pci import list_pfs
from hwmgr.representor import has_representors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwmgr.inventory import VFInfo
    from hwmgr.model import PF
    from hwmgr.node import Node


@dataclass(frozen=True, slots=True)
class PFInfo:
    """A PF as the administrator sees it; ``mtu`` in bytes, ``link_state`` as in operstate.

    ``mode_told_by`` is ``devlink``, or ``sysfs`` where the mode follows from what is there.
    """

    pf: PF
    free_vfs: int
    eswitch_mode: str | None
    mtu: int | None
    mac: str | None
    link_state: str | None
    mode_told_by: str | None = None


def pf_inventory(node: Node, vfs: Iterable[VFInfo] | None = None) -> list[PFInfo]:
    """Return every PF of the node with what its netdev shows and how many of its VFs are free.

    ``vfs`` is what inventory() gave, if it has been asked already.
    """
    pfs = list_pfs(node.sysfs)
    free: dict[str, int] = {}
    for info in inventory(node, pfs) if vfs is None else vfs:
        if info.state is VFState.FREE:
            free[info.vf.pf_address] = free.get(info.vf.pf_address, 0) + 1
    return [_pf_info(node, pf, free.get(pf.address, 0)) for pf in pfs]


def _pf_info(node: Node, pf: PF, free: int) -> PFInfo:
    sysfs, home = node.sysfs, f"class/net/{pf.ifname}"
    if pf.ifname is None:
        return PFInfo(pf, free, None, None, None, None)
    mode, told_by = _eswitch_mode(node, pf, pf.ifname)
    return PFInfo(
        pf=pf,
        free_vfs=free,
        eswitch_mode=mode,
        mode_told_by=told_by,
        mtu=sysfs.read_int(f"{home}/mtu"),
        mac=sysfs.read_quiet(f"{home}/address"),
        link_state=sysfs.read_quiet(f"{home}/operstate"),
    )


def _eswitch_mode(node: Node, pf: PF, ifname: str) -> tuple[str | None, str]:
    """Return the mode and who tells it: devlink, or sysfs where devlink does not.

    A driver that devlink has no mode of has no such switch. A recorded tree cannot be asked; there
    a PF without VFs may be in either mode.
    """
    try:
        mode = node.devlink.eswitch_mode(pf.address)
    except NetlinkError:
        mode = None
    if mode is not None:
        return mode, "devlink"
    if has_representors(node.sysfs, ifname):
        return "switchdev", "sysfs"
    unknown = not pf.num_vfs and node.sysfs.read_quiet(f"class/net/{ifname}/phys_switch_id")
    return None if unknown else "legacy", "sysfs"
