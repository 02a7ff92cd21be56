"""The files under /dev by which a process drives a function: of uio, of vfio's groups, devices."""

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


def holder_files(sysfs: Sysfs, address: str, dev: str = "/dev") -> tuple[str, ...]:
    """Return the files of which a process has one open that drives a function.

    Not vfio's container, which is every user's; but its file of the device itself (Linux 6.6, with
    iommufd), which such a user opens in place of the group's.
    """
    files = [f for f in device_files(sysfs, address, dev) if not f.endswith("/vfio/vfio")]
    return (*files, *vfio_device_files(sysfs, address, dev))


def vfio_device_files(sysfs: Sysfs, address: str, dev: str = "/dev") -> tuple[str, ...]:
    """Return /dev/vfio/devices/vfio<N> of a function, where the kernel makes it.

    Before it did, the folder was there without a device number (drivers/vfio/device_cdev.c).
    """
    home = device_path(address, "vfio-dev")
    names = [n for n in sorted(sysfs.names(home)) if sysfs.exists(f"{home}/{n}/dev")]
    return tuple(f"{dev}/vfio/devices/{name}" for name in names)


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
