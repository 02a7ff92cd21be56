"""What the host says beside PCI and netlink, as facts for doctor: memory, kubelet, managers."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.iommugroups import members
from hwmgr.pci import device_path, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwmgr.iommugroups import Member
    from hwmgr.model import VF
    from hwmgr.sysfs import Sysfs

CHECKPOINT = "device-plugins/kubelet_internal_checkpoint"
SOCKETS = ("device-plugins/kubelet.sock", "pod-resources/kubelet.sock")
_ETHERNET_CLASS = "0x0200"
# The others it has before it decides, or when the netdev is gone (networkd-link.h: LinkState).
_NOT_NETWORKDS = (None, "unmanaged", "pending", "initialized", "linger")


@dataclass(frozen=True, slots=True)
class HugePages:
    """One size of huge pages: the size in kB, how many there are and how many are unused."""

    size: int
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Kubelet:
    """Kubelet's folder: ``missing`` are paths where a socket should be.

    ``advertised`` are the PCI addresses that device plugins offer to pods.
    """

    folder: str
    missing: tuple[str, ...]
    problem: str | None
    advertised: frozenset[str]


@dataclass(frozen=True, slots=True)
class Manager:
    """A network manager that takes a netdev for its own: its state file says so."""

    name: str
    path: str
    says: str


def hugepages(sysfs: Sysfs) -> tuple[HugePages, ...]:
    """Return the sizes of huge pages that the kernel has (Documentation/admin-guide/mm)."""
    found = []
    for name in sorted(sysfs.names("kernel/mm/hugepages")):
        size = name.removeprefix("hugepages-").removesuffix("kB")
        home = f"kernel/mm/hugepages/{name}"
        if size.isdigit():
            total = sysfs.read_int(f"{home}/nr_hugepages") or 0
            free = sysfs.read_int(f"{home}/free_hugepages") or 0
            found.append(HugePages(int(size), total, free))
    return tuple(found)


def kubelet(folder: str) -> Kubelet | None:
    """Return what kubelet's folder shows, None where there is no kubelet."""
    if not os.path.isdir(folder):
        return None
    missing = [f"{folder}/{name}" for name in SOCKETS if not _is_socket(f"{folder}/{name}")]
    problem, advertised = _checkpoint(f"{folder}/{CHECKPOINT}")
    return Kubelet(folder, tuple(missing), problem, advertised)


def groups(sysfs: Sysfs, wanted: Iterable[str]) -> dict[str, tuple[Member, ...]]:
    """Return the members of IOMMU groups."""
    return {group: members(sysfs, group) for group in sorted(set(wanted))}


def managers(run: str) -> dict[int, tuple[Manager, ...]]:
    """Return by ifindex who manages a netdev: NetworkManager, systemd-networkd, or both."""
    found: dict[int, tuple[Manager, ...]] = {}
    for folder, name, key, ours in (
        (f"{run}/NetworkManager/devices", "NetworkManager", "managed", ("true", "yes", "1")),
        (f"{run}/systemd/netif/links", "systemd-networkd", "ADMIN_STATE", None),
    ):
        for file in _names(folder):
            said = _value(f"{folder}/{file}", key) if file.isdigit() else None
            held = said in ours if ours else said not in _NOT_NETWORKDS
            if held:
                one = Manager(name, f"{folder}/{file}", f"{key}={said}")
                found[int(file)] = (*found.get(int(file), ()), one)
    return found


def kept_drivers(etc: str) -> dict[str, str]:
    """Return by PCI address the file in which driverctl keeps a driver for it."""
    folder = f"{etc}/driverctl.d"
    return {
        address: f"{folder}/{name}"
        for name in _names(folder)
        if (address := parse_address(name.removeprefix("pci-"))) is not None
    }


def makes_none(sysfs: Sysfs, vf: VF) -> bool:
    """Tell whether a VF has no netdev by its nature or by its driver's.

    Not every function with VFs is a NIC, and a vendor's variant of vfio-pci (mlx5_vfio_pci,
    drivers/vfio/pci) has lent it to a virtual machine.
    """
    kind = sysfs.read_quiet(device_path(vf.address, "class")) or _ETHERNET_CLASS
    lent = "vfio" in (vf.driver or "") or sysfs.exists(device_path(vf.address, "vfio-dev"))
    return lent or not kind.startswith(_ETHERNET_CLASS)


def noiommu(sysfs: Sysfs) -> str | None:
    """Return ``enable_unsafe_noiommu_mode`` of vfio, None where the module is not loaded."""
    return sysfs.read_quiet("module/vfio/parameters/enable_unsafe_noiommu_mode")


def _checkpoint(path: str) -> tuple[str | None, frozenset[str]]:
    try:
        with open(path, "rb") as file:
            data = json.load(file)["Data"]["RegisteredDevices"] or {}
        ids = [i for given in data.values() for i in given]
    except FileNotFoundError:
        return None, frozenset()
    except OSError as error:
        return error.strerror or str(error), frozenset()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}", frozenset()
    return None, frozenset(a for i in ids if (a := parse_address(str(i))) is not None)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _value(path: str, key: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition("=")
                if name.strip() == key:
                    return value.strip()
    except OSError:
        return None
    return None
