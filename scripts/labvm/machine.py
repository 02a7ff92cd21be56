"""The machine: which QEMU devices it has, and where on its buses."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from labvm.cache import Image

QEMU = "qemu-system-x86_64"
MEMORY = 2048
PORTS = ("control", "stdin", "stdout", "stderr")
KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet loglevel=4 panic=-1 intel_iommu=on iommu=pt mitigations=off"
    # The hypervisor gives an emulated processor time in slices: neither watchdog means anything.
    " nowatchdog tsc=reliable random.trust_cpu=on"
    # On a busy host a halted processor of TCG's has slept through its timer, which is set once and
    # then no more ("Possible timer handling issue", kernel/rcu/tree_stall.h): a tick comes again.
    " nohz=off highres=off"
)


@dataclass(frozen=True, slots=True)
class Disks:
    """The raw disks of one run: `parcel` takes the checkout in, `results` brings results back.

    With `state`, which keeps what the guest writes, it boots systemd; without, its own small init.
    """

    parcel: Path
    results: Path
    state: Path | None = None


def arguments(image: Image, disks: Disks, console: Path, *, numa: bool) -> list[str]:
    """Return QEMU's command line, without the sockets of its ports and what starts a restore."""
    # tcg: a host that is a virtual machine may have a /dev/kvm that does not boot this kernel.
    argv = [QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    argv += ["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]
    argv += ["-m", f"{MEMORY}M", "-kernel", str(image.kernel), "-initrd", str(image.initrd)]
    words = KERNEL_ARGUMENTS + (" lab.systemd" if disks.state else "")
    argv += ["-append", words, "-serial", f"file:{console}"]
    argv += ["-device", "intel-iommu,intremap=on,caching-mode=on"]
    argv += _disk("root", image.root, "0x8", readonly=True)
    argv += _disk("parcel", disks.parcel, "0x9", readonly=True)
    argv += _disk("results", disks.results, "0xa", readonly=False)
    if disks.state:
        argv += _disk("state", disks.state, "0xe", readonly=False)
    argv += ["-device", "virtio-serial-pci,id=ports,bus=pcie.0,addr=0xb,max_ports=8"]
    argv += _numa_root_ports() if numa else _root_ports()
    # All NICs hang on one hub that leads nowhere else. Addresses are locally administered.
    for number, device in enumerate(
        (
            "igb,bus=slot0,romfile=",
            "igb,bus=slot1,romfile=",
            "virtio-net-pci,bus=pcie.0,addr=0x5,romfile=",
        ),
        start=1,
    ):
        argv += ["-netdev", f"hubport,id=net{number},hubid=0"]
        argv += ["-device", f"{device},netdev=net{number},mac=02:00:00:00:00:{number:02x}"]
    return argv


def _disk(name: str, path: Path, address: str, *, readonly: bool) -> list[str]:
    mode = "readonly=on" if readonly else "cache=unsafe"
    return [
        "-drive",
        f"id={name},file={path},format=raw,if=none,{mode}",
        "-device",
        f"virtio-blk-pci,bus=pcie.0,addr={address},drive={name},serial=lab-{name}",
    ]


def _root_ports() -> list[str]:
    argv = []
    for number in range(2):
        argv += [
            "-device",
            f"pcie-root-port,id=slot{number},bus=pcie.0,addr={3 + number:#x}"
            f",chassis={number + 1},slot={number + 1}",
        ]
    return argv


def _numa_root_ports() -> list[str]:
    """Two NUMA nodes with a processor, half of the memory and a NIC each."""
    argv = []
    for node in range(2):
        bridge = f"pxb-pcie,id=bridge{node},bus_nr={16 * (node + 1)},numa_node={node}"
        bridge += f",bus=pcie.0,addr={0xC + node:#x}"
        argv += ["-object", f"memory-backend-ram,id=memory{node},size={MEMORY // 2}M"]
        argv += ["-numa", f"node,nodeid={node},cpus={node},memdev=memory{node}"]
        argv += ["-device", bridge]
        argv += [
            "-device",
            f"pcie-root-port,id=slot{node},bus=bridge{node},chassis={node + 1},slot={node + 1}",
        ]
    return argv


def port_arguments(descriptors: dict[str, int]) -> list[str]:
    """Return the arguments that give QEMU the sockets of its monitor and of the guest's ports."""
    argv = ["-chardev", f"socket,id=monitor,fd={descriptors['monitor']}"]
    argv += ["-mon", "chardev=monitor,mode=control"]
    for name in PORTS:
        argv += ["-chardev", f"socket,id=port-{name},fd={descriptors[name]}"]
        argv += ["-device", f"virtserialport,bus=ports.0,chardev=port-{name},name=lab.{name}"]
    return argv


def snapshot_key(image: Image, *, numa: bool) -> str:
    """Return what a snapshot must have been made with to fit: this machine, by this QEMU."""
    version = subprocess.run([QEMU, "--version"], stdout=subprocess.PIPE, check=True).stdout
    none = Disks(image.folder, image.folder)
    shape = "\0".join(arguments(image, none, image.folder, numa=numa))
    digest = hashlib.sha256(version + shape.encode()).hexdigest()[:12]
    return f"numa-{digest}" if numa else digest
