"""Steps on a PF: the number of its VFs, the mode of its switch, its netdev; with deadlines."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from hwmgr.desired.state import numvfs_writes
from hwmgr.errors import ApplyIncomplete, SysfsError
from hwmgr.locate import await_netdevs, here
from hwmgr.pci import device_path, virtfn_indices

if TYPE_CHECKING:
    from hwmgr.model import Netdev
    from hwmgr.node import Node

VFS_SECONDS = 120.0
_NETDEV_SECONDS = 30.0
_HINTS = {
    errno.EBUSY: "the kernel changes the number only from and to 0, and a VF may be in use",
    errno.ENOENT: "its driver makes no VFs, or it has no driver",
    errno.ENOMEM: "no room for VFs; boot with pci=realloc or enable SR-IOV in the firmware",
    errno.EIO: "no room for VFs; boot with pci=realloc or enable SR-IOV in the firmware",
}


def set_number(node: Node, pf: str, wanted: int, *, anew: bool = False) -> None:
    """Have a PF make that many VFs, and wait for all of them; ``anew`` also where they are as many.

    Raises SysfsError, WriteHangs, ApplyIncomplete.
    """
    path = device_path(pf, "sriov_numvfs")
    now = node.sysfs.read_int(path) or 0
    for number in [0, wanted] if anew and now == wanted and now else numvfs_writes(now, wanted):
        try:
            node.sysfs.write(path, str(number))
        except SysfsError as error:
            if error.errno in _HINTS:
                error.add_note(_HINTS[error.errno])
            raise
        node.checkpoint(f"apply.numvfs.{'none' if number == 0 else 'made'}")
        _wait_for_vfs(node, pf, number)


def set_autoprobe(node: Node, pf: str, wanted: bool) -> None:
    """Say whether drivers are offered the VFs that a PF will make. Raises SysfsError."""
    node.sysfs.write(device_path(pf, "sriov_drivers_autoprobe"), "1" if wanted else "0")


def set_mode(node: Node, pf: str, mode: str, seconds: float) -> None:
    """Set the mode of a PF's embedded switch; its VFs are removed first, since ice demands it.

    mlx5 makes the PF's netdev anew, so that is waited for. Raises SysfsError, NetlinkError,
    ApplyIncomplete.
    """
    set_number(node, pf, 0)
    node.devlink.set_eswitch_mode(pf, mode, seconds)
    node.checkpoint("apply.eswitch")
    if not await_netdevs(node, pf, _NETDEV_SECONDS):
        raise ApplyIncomplete([f"the netdev of {pf} has not come back in {mode} mode"])


def set_mtu(node: Node, pf: str, mtu: int) -> None:
    """Set the MTU of a PF's netdevs, in bytes. Raises NetlinkError."""
    for netdev in _netdevs(node, pf):
        with node.netlink.links() as links:
            links.set_mtu(netdev.index, mtu)


def set_up(node: Node, pf: str, *, up: bool) -> None:
    """Set a PF's netdevs up or down. Raises NetlinkError."""
    for netdev in _netdevs(node, pf):
        with node.netlink.links() as links:
            links.set_up(netdev.index, up=up)


def _netdevs(node: Node, pf: str) -> tuple[Netdev, ...]:
    found = here(node, pf)
    if not found:
        raise ApplyIncomplete([f"PF {pf} has no netdev here"])
    return found


def _wait_for_vfs(node: Node, pf: str, number: int) -> None:
    """Wait for the links between a PF and its VFs: the write may return before they are there."""

    def there() -> bool | None:
        indices = virtfn_indices(node.sysfs.names(device_path(pf)))
        if len(indices) != number:
            return None
        vfs = [node.sysfs.link_name(device_path(pf, f"virtfn{i}")) for i in indices]
        return True if all(v and node.sysfs.exists(device_path(v, "physfn")) for v in vfs) else None

    if node.udev.wait(there, VFS_SECONDS) is None:
        found = len(virtfn_indices(node.sysfs.names(device_path(pf))))
        raise ApplyIncomplete([f"{pf} shows {found} VFs after {VFS_SECONDS:.0f} s, not {number}"])
