"""Writes the sysfs tree of a node with many VFs: some hundred thousand files within seconds."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MAC = "02:00:5e:{0:02x}:{1:02x}:{2:02x}"


@dataclass(frozen=True)
class Size:
    """How large the node is: X710-like PFs (`i40e`), their VFs on `iavf`, one netdev each."""

    pfs: int = 16
    vfs: int = 64

    def pf(self, number: int) -> str:
        """Return the address of a PF; each has two buses, for up to 488 VFs cross into the next."""
        return f"0000:{2 * number + 1:02x}:00.0"

    def vf(self, number: int, index: int) -> str:
        """Return the address of a VF: offset 16, stride 1."""
        rid = ((2 * number + 1) << 8) + 16 + index
        return f"0000:{rid >> 8:02x}:{(rid >> 3) & 31:02x}.{rid & 7}"


class _Writer:
    """Puts files and links below a root.

    Files of one content are hard links of one inode: a page of memory each would be gigabytes for
    16,384 VFs. So the tree is for reading, or for writers that replace a file by renaming.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._folders: set[str] = set()
        self._same: dict[object, str] = {}

    def folder(self, path: str) -> None:
        if path not in self._folders:
            os.makedirs(f"{self.root}/{path}", exist_ok=True)
            self._folders.add(path)

    def put(self, path: str, value: object) -> None:
        full = f"{self.root}/{path}"
        twin = self._same.get(value)
        if twin is not None and linked(twin, full):
            return
        with open(full, "xb", buffering=0) as file:
            file.write(f"{value}\n".encode())
        self._same[value] = full

    def fill(self, home: str, values: Mapping[str, object]) -> None:
        self.folder(home)
        for name, value in values.items():
            self.put(f"{home}/{name}", value)

    def link(self, path: str, target: str) -> None:
        """Link two places below the root, both given without links on their way."""
        up = "../" * path.count("/")
        os.symlink(up + target, f"{self.root}/{path}")


def linked(twin: str, full: str) -> bool:
    """Make a hard link; False where the file system allows no more names of one file (EMLINK)."""
    try:
        os.link(twin, full)
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
        return False
    return True


def write_tree(root: str, size: Size = Size()) -> None:
    """Write the tree to ``root``, an absent or empty folder. Raises FileExistsError."""
    if os.path.isdir(root) and os.listdir(root):
        raise FileExistsError(f"{root} is not empty: name a folder that is")
    writer = _Writer(root)
    for path in ("bus/pci/devices", "class/net", "kernel/iommu_groups"):
        writer.folder(path)
    for driver in ("i40e", "iavf", "vfio-pci"):
        controls = dict.fromkeys(("bind", "unbind", "new_id", "remove_id"), "")
        writer.fill(f"bus/pci/drivers/{driver}", controls)
    made = 0
    for number in range(size.pfs):
        pf = size.pf(number)
        home = _function(writer, pf, "1572", "i40e", made)
        writer.fill(
            home,
            {
                "sriov_totalvfs": max(size.vfs, 64),
                "sriov_numvfs": size.vfs,
                "sriov_offset": 16,
                "sriov_stride": 1,
                "sriov_vf_device": "154c",
                "sriov_drivers_autoprobe": 1,
            },
        )
        _netdev(writer, home, f"enp{2 * number + 1}s0", made)
        made += 1
        for index in range(size.vfs):
            vf = size.vf(number, index)
            vf_home = _function(writer, vf, "154c", "iavf", made)
            writer.link(f"{home}/virtfn{index}", vf_home)
            writer.link(f"{vf_home}/physfn", home)
            _netdev(writer, vf_home, f"enp{2 * number + 1}s0v{index}", made)
            made += 1


def _function(writer: _Writer, address: str, device: str, driver: str, number: int) -> str:
    home = f"devices/pci0000:00/{address}"
    writer.fill(
        home,
        {
            "vendor": "0x8086",
            "device": f"0x{device}",
            "class": "0x020000",
            "driver_override": "(null)",
            "numa_node": 0,
            "uevent": f"DRIVER={driver}\nPCI_CLASS=20000\nPCI_ID=8086:{device.upper()}\n"
            f"PCI_SLOT_NAME={address}",
        },
    )
    group = f"kernel/iommu_groups/{number}"
    writer.folder(f"{group}/devices")
    writer.put(f"{group}/type", "DMA")
    writer.link(f"{group}/devices/{address}", home)
    writer.link(f"{home}/iommu_group", group)
    writer.link(f"{home}/driver", f"bus/pci/drivers/{driver}")
    writer.link(f"{home}/subsystem", "bus/pci")
    writer.link(f"bus/pci/drivers/{driver}/{address}", home)
    writer.link(f"bus/pci/devices/{address}", home)
    return home


def _netdev(writer: _Writer, home: str, name: str, number: int) -> None:
    # Far above the indices of the machine that reads the tree.
    index = 1_000_000 + number
    folder = f"{home}/net/{name}"
    writer.fill(
        folder,
        {
            "ifindex": index,
            "iflink": index,
            "address": _MAC.format(number >> 16, number >> 8 & 255, number & 255),
            "mtu": 1500,
            "flags": "0x1002",
            "operstate": "down",
            "ifalias": "",
            "dev_port": 0,
            "type": 1,
            "uevent": f"INTERFACE={name}\nIFINDEX={index}",
        },
    )
    writer.link(f"{folder}/device", home)
    writer.link(f"{folder}/subsystem", "class/net")
    writer.link(f"class/net/{name}", folder)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/make-sysfs", description=__doc__)
    parser.add_argument(
        "folder", metavar="DIR", help="root of the tree (for --sysfs); tmpfs is best"
    )
    parser.add_argument("--pfs", type=int, default=16, help="how many PFs, 1 to 127 [%(default)s]")
    parser.add_argument("--vfs", type=int, default=64, help="VFs of each, 0 to 488 [%(default)s]")
    options = parser.parse_args(arguments)
    if not (1 <= options.pfs <= 127 and 0 <= options.vfs <= 488):
        parser.error("--pfs takes 1 to 127, --vfs 0 to 488")
    try:
        write_tree(options.folder, Size(options.pfs, options.vfs))
    except OSError as error:
        print(f"make-sysfs: {error}", file=sys.stderr)
        return 1
    return 0
