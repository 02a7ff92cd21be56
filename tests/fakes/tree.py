"""Writes sysfs trees as a kernel shows them: PCI functions, drivers, netdevs, IOMMU groups."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import dataclass

from hwmgr.pci import device_path, vf_address


@dataclass(frozen=True, slots=True)
class Shown:
    """What sysfs shows of one netdev."""

    index: int
    name: str
    mac: str
    mtu: int = 1500
    up: bool = False
    alias: str | None = None
    port: int = 0
    switch_id: str | None = None
    port_name: str | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """One PF and its VFs, to be built; the ids decide which drivers take them."""

    address: str = "0000:01:00.0"
    ifname: str = "eth1"
    driver: str = "igb"
    vf_driver: str | None = "igbvf"
    vendor: str = "8086"
    device: str = "10c9"
    vf_device: str = "10ca"
    total: int = 7
    vfs: int = 7
    offset: int = 128
    stride: int = 2
    numa_node: int = -1
    iommu: bool = True
    ports: int = 1
    switch_id: str | None = None

    def vf(self, index: int) -> str:
        """Return the address of a VF."""
        from hwmgr.model import PciAddress

        return vf_address(PciAddress(self.address), self.offset, self.stride, index)


class Tree:
    """A sysfs tree below ``root``; paths are relative to it."""

    def __init__(self, root: str) -> None:
        self.root = root

    def full(self, path: str) -> str:
        return f"{self.root}/{path}"

    def put(self, path: str, value: object) -> None:
        """Write an attribute whole, as a kernel shows it, by rename: readers never see half."""
        full = self.full(path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        name = f".{os.getpid()}.{threading.get_ident()}.{os.path.basename(path)}"
        temporary = f"{self.root}/{name}"
        with open(temporary, "w") as file:
            file.write(f"{value}\n")
        os.rename(temporary, full)

    def link(self, path: str, target: str) -> None:
        """Make a relative link from ``path`` to ``target``, both below the root."""
        full = self.full(path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        relative = os.path.relpath(self.full(target), os.path.dirname(os.path.realpath(full)))
        if relative.endswith(".."):
            # The kernel's links end with the name of what they lead to (sysfs_do_create_link()).
            relative = f"{relative}/../{os.path.basename(target)}"
        os.symlink(relative, full)

    def remove(self, path: str) -> None:
        full = self.full(path)
        if os.path.isdir(full) and not os.path.islink(full):
            shutil.rmtree(full)
        elif os.path.lexists(full):
            os.unlink(full)

    def add_driver(self, name: str, module: str | None = None) -> None:
        """Load a driver: its folder with the four write-only files."""
        if os.path.isdir(self.full(f"bus/pci/drivers/{name}")):
            return
        for file in ("bind", "unbind", "new_id", "remove_id"):
            self.put(f"bus/pci/drivers/{name}/{file}", "")
        self.put(f"module/{module or name.replace('-', '_')}/initstate", "live")

    def add_function(self, address: str, vendor: str, device: str, *, group: int | None) -> None:
        """Add an unbound network function."""
        domain = address.split(":")[0]
        home = f"devices/pci{domain}:00/{address}"
        for name, value in (
            ("vendor", f"0x{vendor}"),
            ("device", f"0x{device}"),
            ("class", "0x020000"),
            ("driver_override", "(null)"),
            ("numa_node", "-1"),
            (
                "uevent",
                f"PCI_CLASS=20000\nPCI_ID={vendor.upper()}:{device.upper()}\nPCI_SLOT_NAME={address}",
            ),
        ):
            self.put(f"{home}/{name}", value)
        self.link(device_path(address), home)
        os.makedirs(self.full("bus/pci"), exist_ok=True)
        self.link(f"{home}/subsystem", "bus/pci")
        if group is not None:
            os.makedirs(self.full(f"kernel/iommu_groups/{group}/devices"), exist_ok=True)
            self.put(f"kernel/iommu_groups/{group}/type", "DMA")
            self.link(f"kernel/iommu_groups/{group}/devices/{address}", home)
            self.link(f"{home}/iommu_group", f"kernel/iommu_groups/{group}")

    def remove_function(self, address: str) -> None:
        home = os.path.relpath(os.path.realpath(self.full(device_path(address))), self.root)
        group = self.full(f"{home}/iommu_group")
        if os.path.islink(group):
            shutil.rmtree(os.path.realpath(group))
        self.remove(device_path(address))
        self.remove(home)

    def next_group(self) -> int:
        folder = self.full("kernel/iommu_groups")
        return (
            max((int(n) for n in os.listdir(folder)), default=-1) + 1
            if os.path.isdir(folder)
            else 0
        )

    def functions(self) -> list[str]:
        folder = self.full("bus/pci/devices")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def show_netdev(self, address: str, shown: Shown) -> None:
        """Show a netdev under its function and under class/net."""
        home = os.path.relpath(os.path.realpath(self.full(device_path(address))), self.root)
        folder = f"{home}/net/{shown.name}"
        flags = 0x1003 if shown.up else 0x1002
        values: list[tuple[str, object]] = [
            ("ifindex", shown.index),
            ("iflink", shown.index),
            ("address", shown.mac),
            ("mtu", shown.mtu),
            ("flags", hex(flags)),
            ("operstate", "up" if shown.up else "down"),
            ("ifalias", shown.alias or ""),
            ("dev_port", shown.port),
            ("type", 1),
            ("uevent", f"INTERFACE={shown.name}\nIFINDEX={shown.index}"),
        ]
        if shown.switch_id is not None:
            values.append(("phys_switch_id", shown.switch_id))
        if shown.port_name is not None:
            values.append(("phys_port_name", shown.port_name))
        for name, value in values:
            self.put(f"{folder}/{name}", value)
        if not os.path.islink(self.full(f"{folder}/device")):
            self.link(f"{folder}/device", home)
            os.makedirs(self.full("class/net"), exist_ok=True)
            self.link(f"{folder}/subsystem", "class/net")
            self.link(f"class/net/{shown.name}", folder)

    def hide_netdev(self, address: str, name: str) -> None:
        """Take a netdev out of sight; the empty ``net`` folder stays, as it does on a kernel."""
        self.remove(f"class/net/{name}")
        self.remove(device_path(address, f"net/{name}"))

    def snapshot(self) -> dict[str, str]:
        """Return every file and link with its content."""
        found = {}
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                full = os.path.join(folder, name)
                path = os.path.relpath(full, self.root)
                if os.path.islink(full):
                    found[path] = "-> " + os.readlink(full)
                elif name in files:
                    with open(full) as file:
                        found[path] = file.read()
        return found
