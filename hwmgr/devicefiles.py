"""The files under /dev by which a process drives a function: /dev/uioN, /dev/vfio/<group>."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hwmgr.driver import current_driver
from hwmgr.errors import BindError
from hwmgr.model import is_vfio
from hwmgr.pci import device_path

if TYPE_CHECKING:
    from hwmgr.node import Node
    from hwmgr.sysfs import Sysfs

_DEVICE_FILE_SECONDS = 10.0


def device_files(sysfs: Sysfs, address: str, dev: str = "/dev") -> tuple[str, ...]:
    """Return the device files of a function on a userspace driver; () for any other driver.

    vfio: the group's own file and the container's (Documentation/driver-api/vfio.rst). A group
    without IOMMU is named ``noiommu-<N>``.
    """
    driver = current_driver(sysfs, address)
    if is_vfio(driver):
        group = sysfs.link_name(device_path(address, "iommu_group"))
        if group is None:
            return ()
        name = (sysfs.read(f"kernel/iommu_groups/{group}/name") or "").strip()
        prefix = "noiommu-" if name == "vfio-noiommu" else ""
        return f"{dev}/vfio/{prefix}{group}", f"{dev}/vfio/vfio"
    if driver in ("igb_uio", "uio_pci_generic"):
        return tuple(f"{dev}/{name}" for name in sorted(sysfs.names(device_path(address, "uio"))))
    return ()


def wait_for(node: Node, address: str) -> tuple[str, ...]:
    """Return the device files once they exist: devtmpfs makes them after the driver has bound.

    Raises BindError when they do not appear within 10 s.
    """

    def present() -> tuple[str, ...] | None:
        files = device_files(node.sysfs, address, node.dev)
        return files if files and all(os.path.exists(f) for f in files) else None

    files = node.udev.wait(present, _DEVICE_FILE_SECONDS)
    if files is None:
        expected = device_files(node.sysfs, address, node.dev)
        name = current_driver(node.sysfs, address)
        message = f"no device file appeared for {name} ({', '.join(expected) or 'none is named'})"
        raise BindError(address, name, message)
    return files
