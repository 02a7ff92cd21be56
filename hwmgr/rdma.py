"""RDMA devices of a PCI function in sysfs. Read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.pci import device_path

if TYPE_CHECKING:
    from hwmgr.sysfs import Sysfs


def rdma_devices(sysfs: Sysfs, address: str) -> tuple[str, ...]:
    """Return the names of a function's RDMA devices, as ``rdma link`` has them.

    They stay in sight when the function's netdev is in another namespace, unless the node keeps
    RDMA devices by namespace too (``rdma system set netns exclusive``).
    """
    return tuple(sorted(sysfs.names(device_path(address, "infiniband"))))


def verbs_files(sysfs: Sysfs, address: str, dev: str = "/dev") -> tuple[str, ...]:
    """Return the device files by which a process uses them (``/dev/infiniband/uverbs<N>``)."""
    names = sysfs.names(device_path(address, "infiniband_verbs"))
    return tuple(f"{dev}/infiniband/{name}" for name in sorted(names))
