"""Reads a fixture's tree anew, by the kernel's ABI documents alone: nothing of hwmgr is used.

What it says is compared with what hwmgr says, and with each fixture's expected.json, so that none
of the three can be wrong alone (Documentation/ABI/testing/sysfs-bus-pci, sysfs-class-net).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# Vendor, device of the PF, of its VFs, their drivers, first VF's distance: pci.ids, and each
# driver's table of devices in Linux.
CARDS = {
    "8086:10c9": ("8086:10ca", "igb", "igbvf"),
    "8086:10fb": ("8086:10ed", "ixgbe", "ixgbevf"),
    "8086:1572": ("8086:154c", "i40e", "iavf"),
    "8086:1592": ("8086:1889", "ice", "iavf"),
    "15b3:1003": ("15b3:1004", "mlx4_core", "mlx4_core"),
    "15b3:1013": ("15b3:1014", "mlx5_core", "mlx5_core"),
    "15b3:1017": ("15b3:1018", "mlx5_core", "mlx5_core"),
    "15b3:101d": ("15b3:101e", "mlx5_core", "mlx5_core"),
}
FOR_PROGRAMS = ("vfio-pci", "igb_uio", "uio_pci_generic")
ARPHRD_INFINIBAND = "32"


def text(path: Path) -> str | None:
    try:
        return path.read_text().rstrip("\n")
    except FileNotFoundError:
        return None


def leads_to(path: Path) -> str | None:
    return path.readlink().name if path.is_symlink() else None


def entries(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir()) if path.is_dir() else []


class Plain:
    """One tree."""

    def __init__(self, sys: Path) -> None:
        self.sys = sys
        self.devices = sys / "bus/pci/devices"

    def pfs(self) -> dict[str, dict[str, Any]]:
        """Return the functions that can have VFs."""
        found = (a for a in entries(self.devices) if (self.devices / a / "sriov_totalvfs").exists())
        return {address: self.pf(self.devices / address) for address in found}

    def pf(self, home: Path) -> dict[str, Any]:
        vfs = {int(n[6:]): leads_to(home / n) for n in entries(home) if re.match(r"virtfn\d", n)}
        return {
            "ids": self.ids(home),
            "driver": leads_to(home / "driver"),
            "netdevs": sorted(n for n in entries(home / "net") if not self.represents(n)),
            "total": int(text(home / "sriov_totalvfs") or ""),
            "num": int(text(home / "sriov_numvfs") or ""),
            "numa": self.numa(home),
            "vfs": dict(sorted(vfs.items())),
        }

    def vf(self, address: str) -> dict[str, Any]:
        home = self.devices / address
        return {
            "ids": self.ids(home),
            "driver": leads_to(home / "driver"),
            "netdevs": entries(home / "net"),
            "numa": self.numa(home),
            "group": leads_to(home / "iommu_group"),
            "rdma": entries(home / "infiniband"),
            "files": self.device_files(home),
            "state": self.state(home),
        }

    def state(self, home: Path) -> str:
        """Return the state of a VF of which there is no record, as docs/cli.md has the states."""
        driver, netdevs = leads_to(home / "driver"), entries(home / "net")
        if driver is None:
            return "broken"
        if driver not in FOR_PROGRAMS and not netdevs:
            return "foreign"
        overridden = text(home / "driver_override") not in (None, "(null)", "")
        returned_badly = any(re.match(r"dev\d", name) for name in netdevs)
        return "dirty" if driver in FOR_PROGRAMS or overridden or returned_badly else "free"

    def device_files(self, home: Path) -> list[str]:
        driver, group = leads_to(home / "driver"), leads_to(home / "iommu_group")
        files = [f"/dev/infiniband/{name}" for name in entries(home / "infiniband_verbs")]
        if driver == "vfio-pci" and group is not None:
            unsafe = text(self.sys / f"kernel/iommu_groups/{group}/name") == "vfio-noiommu"
            files = [f"/dev/vfio/{'noiommu-' if unsafe else ''}{group}", "/dev/vfio/vfio", *files]
        elif driver in FOR_PROGRAMS:
            files = [f"/dev/{name}" for name in entries(home / "uio")] + files
        return files

    def represents(self, netdev: str) -> bool:
        return bool(re.search(r"pf\d+[vs]f\d+$", text(self.net(netdev) / "phys_port_name") or ""))

    def representor(self, pf: str, index: int) -> str | None:
        """Return the netdev of the PF's own function that has the VF's number."""
        names = entries(self.devices / pf / "net")
        wanted = rf"pf\d+vf{index}$"
        ports = ((n, text(self.net(n) / "phys_port_name") or "") for n in names)
        return next((n for n, port in ports if re.match(wanted, port)), None)

    def mode(self, pf: str) -> str:
        """Return switchdev for a PF that has the netdev of another's port."""
        names = entries(self.devices / pf / "net")
        return "switchdev" if any(map(self.represents, names)) else "legacy"

    def net(self, name: str) -> Path:
        return self.sys / "class/net" / name

    def numa(self, home: Path) -> int | None:
        node = int(text(home / "numa_node") or "-1")
        return None if node < 0 else node

    def ids(self, home: Path) -> str:
        return ":".join((text(home / name) or "")[2:] for name in ("vendor", "device"))

    def implausible(self) -> list[str]:
        """Return what no kernel would show."""
        return [
            fault
            for address in entries(self.devices)
            for fault in (*self._of_function(address), *self._of_netdevs(address))
        ] + [fault for address, pf in self.pfs().items() for fault in self._of_pf(address, pf)]

    def _of_function(self, address: str) -> list[str]:
        home, faults = self.devices / address, []
        told = dict(line.split("=", 1) for line in (text(home / "uevent") or "").splitlines())
        if told.get("PCI_ID", "").lower() != self.ids(home):
            faults.append(f"{address}: uevent has another PCI_ID")
        if int(told.get("PCI_CLASS", "0"), 16) != int(text(home / "class") or "0", 16):
            faults.append(f"{address}: uevent has another PCI_CLASS")
        group = leads_to(home / "iommu_group")
        if group and address not in entries(self.sys / f"kernel/iommu_groups/{group}/devices"):
            faults.append(f"{address}: its group does not have it")
        driver = leads_to(home / "driver")
        if driver and address not in entries(self.sys / f"bus/pci/drivers/{driver}"):
            faults.append(f"{address}: its driver does not have it")
        return faults

    def _of_netdevs(self, address: str) -> list[str]:
        home, faults = self.devices / address, []
        infiniband = (text(home / "class") or "")[:6] == "0x0207"
        for name in entries(home / "net"):
            if not (self.net(name) / "device").resolve().samefile(home):
                faults.append(f"{name}: class/net leads elsewhere")
            kind, mac = text(self.net(name) / "type"), text(self.net(name) / "address") or ""
            if (kind == ARPHRD_INFINIBAND) != infiniband:
                faults.append(f"{name}: type {kind} on class {text(home / 'class')}")
            if len(mac.split(":")) != (20 if infiniband else 6):
                faults.append(f"{name}: address {mac}")
        return faults

    def _of_pf(self, address: str, pf: dict[str, Any]) -> list[str]:
        home, faults = self.devices / address, []
        vf_ids, driver, vf_driver = CARDS[pf["ids"]]
        if pf["driver"] != driver:
            faults.append(f"{address}: {pf['ids']} on {pf['driver']}")
        if len(pf["vfs"]) != pf["num"] or pf["num"] > pf["total"]:
            faults.append(f"{address}: {len(pf['vfs'])} VFs, {pf['num']} of {pf['total']}")
        domain, bus, slot = address.split(":")
        device, function = slot.split(".")
        own = int(bus, 16) * 256 + int(device, 16) * 8 + int(function)
        offset, stride = (int(text(home / f"sriov_{n}") or "") for n in ("offset", "stride"))
        for index, vf in pf["vfs"].items():
            place = own + offset + index * stride
            expected = f"{domain}:{place >> 8:02x}:{place >> 3 & 31:02x}.{place & 7}"
            if vf != expected or leads_to(self.devices / expected / "physfn") != address:
                faults.append(f"{address}: VF {index} is {vf}")
            is_on = leads_to(self.devices / expected / "driver")
            if self.ids(self.devices / expected) != vf_ids or is_on not in (
                vf_driver, None, *FOR_PROGRAMS,
            ):  # fmt: skip
                faults.append(f"{vf}: {self.ids(self.devices / expected)} on {is_on}")
        return faults
