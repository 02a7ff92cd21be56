"""Binding a PCI function to a driver natively: driver_override, unbind, bind, read back."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from hwmgr.errors import BindError, SysfsError
from hwmgr.model import USERSPACE_DRIVERS
from hwmgr.pci import device_path, parse_override

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmgr.sysfs import Sysfs


def _nowhere(_name: str) -> None:
    return


# These stay on their kernel driver: DPDK runs beside it ("bifurcated"; guides of mlx4, mlx5, mana).
BIFURCATED_DRIVERS = frozenset({"mlx4_core", "mlx5_core", "mana"})
_MELLANOX = "0x15b3"


def current_driver(sysfs: Sysfs, address: str) -> str | None:
    """Return the driver that holds a function, None when none does."""
    return sysfs.link_name(device_path(address, "driver"))


def current_override(sysfs: Sysfs, address: str) -> str | None:
    """Return ``driver_override``, None when it is not set."""
    return parse_override(sysfs.read(device_path(address, "driver_override")))


def check_bindable(sysfs: Sysfs, address: str, driver: str) -> None:
    """Raise BindError when binding cannot work, before anything has been touched."""
    held_by = current_driver(sysfs, address)
    bifurcated = held_by in BIFURCATED_DRIVERS or (
        held_by is None
        and driver in USERSPACE_DRIVERS
        and sysfs.read(device_path(address, "vendor")) == _MELLANOX
    )
    if bifurcated and driver != held_by:
        who = held_by or "a Mellanox NIC"
        message = (
            f"{who} runs DPDK beside the kernel driver and is never rebound to {driver}: leave it"
            " there, and give the program its netdev and its /dev/infiniband/uverbs<N>"
        )
        raise BindError(address, driver, message)
    if not _plain(driver) or not sysfs.exists(f"bus/pci/drivers/{driver}"):
        message = f"the driver {driver!r} is not loaded; load its module (modprobe {driver})"
        raise BindError(address, driver, message if _plain(driver) else "not a driver's name")
    missing = no_iommu(sysfs, address) if driver == "vfio-pci" else None
    if missing is not None:
        raise BindError(address, driver, missing)


def no_iommu(sysfs: Sysfs, address: str) -> str | None:
    """Say what vfio-pci misses to take a function, None when it could."""
    if sysfs.exists(device_path(address, "iommu_group")):
        return None
    parameter = "module/vfio/parameters/enable_unsafe_noiommu_mode"
    unsafe = sysfs.read_quiet(parameter)
    if unsafe in ("Y", "1"):
        return None
    switch = "modprobe vfio enable_unsafe_noiommu_mode=1"
    if unsafe is not None:
        switch = f"echo 1 > /sys/{parameter}"
    return (
        "vfio-pci needs an IOMMU group, and there is none: enable VT-d or AMD-Vi in the firmware"
        " and boot with intel_iommu=on or amd_iommu=on; or do without, whereupon a program that has"
        f" a VF can reach all memory ({switch})"
    )


def bind(
    sysfs: Sysfs, address: str, driver: str, checkpoint: Callable[[str], None] = _nowhere
) -> None:
    """Give a function to a driver, without leaving a driver_override behind.

    Success is what the ``driver`` link says afterwards: a write to ``bind`` reports ENODEV also
    when a concurrent probe was faster. Raises BindError.
    """
    if current_driver(sysfs, address) == driver:
        return
    unbind(sysfs, address)
    checkpoint("bind.unbound")
    failure = ""
    code = 0
    write_override(sysfs, address, driver)
    checkpoint("bind.override")
    try:
        sysfs.write(f"bus/pci/drivers/{driver}/bind", address)
    except SysfsError as error:
        failure, code = str(error), error.errno
    checkpoint("bind.bound")
    write_override(sysfs, address, None)
    if current_driver(sysfs, address) != driver:
        hint = _BIND_HINTS.get(code, "see the kernel log")
        message = f"{driver} did not take it ({failure or 'no error was given'}); {hint}"
        raise BindError(address, driver, message, code)


_BIND_HINTS = {
    errno.ENODEV: "the driver declined the device",
    errno.EINVAL: "vfio-pci needs an IOMMU group",
    errno.EPERM: "kernel lockdown or a read-only /sys forbids it",
    errno.ENOENT: "the driver's module is not loaded",
}


def unbind(sysfs: Sysfs, address: str) -> None:
    """Take a function from its driver; one without a driver is fine. Raises BindError.

    The write blocks while a process holds the device (vfio) or its netdev has references.
    """
    driver = current_driver(sysfs, address)
    if driver is None:
        return
    try:
        sysfs.write(f"bus/pci/drivers/{driver}/unbind", address)
    except SysfsError as error:
        if current_driver(sysfs, address) is not None:
            raise BindError(address, driver, f"unbinding: {error}", error.errno) from error
    if current_driver(sysfs, address) == driver:
        raise BindError(address, driver, f"{driver} did not let go of it; see dmesg")


def restore(
    sysfs: Sysfs,
    address: str,
    driver: str | None,
    override: str | None,
    checkpoint: Callable[[str], None] = _nowhere,
) -> None:
    """Give a function back to the driver it had, and its driver_override too. Raises BindError."""
    if driver is None:
        unbind(sysfs, address)
    else:
        bind(sysfs, address, driver, checkpoint)
    if current_override(sysfs, address) != override:
        write_override(sysfs, address, override)


def write_override(sysfs: Sysfs, address: str, driver: str | None) -> None:
    """Set or clear ``driver_override``: an empty line clears it (drivers/base/driver.c).

    Raises BindError where the kernel has no driver_override (before 3.16).
    """
    try:
        sysfs.write(device_path(address, "driver_override"), driver or "\n")
    except SysfsError as error:
        raise BindError(address, driver, str(error), error.errno) from error


def _plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and "/" not in name and "\0" not in name
