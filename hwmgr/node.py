"""One node as a value: its doors, its state directory, its boot. Passed in, never global."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hwmgr.devbind import DISTRIBUTION_TOOLS
from hwmgr.devlink import NoDevlink
from hwmgr.journal import Journal
from hwmgr.locks import Locks

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmgr.devlink import Devlink
    from hwmgr.links import Netlink
    from hwmgr.run import Runner
    from hwmgr.store import StateDir
    from hwmgr.sysfs import Sysfs
    from hwmgr.udev import Udev


_MODPROBES = ("/usr/sbin/modprobe", "/sbin/modprobe")


def _nowhere(_text: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class Node:
    """What every operation of the device plane works on.

    ``checkpoint`` is called after each durable step with its name (tests end the process there);
    ``log`` takes one line for the administrator; ``proc`` is where processes are looked for;
    ``modprobes`` are the programs that may load a driver's module, none where the tree is not this
    kernel's. ``run`` and ``etc`` are where other programs tell what they do, ``kubelet`` is
    kubelet's folder; ``all_processes`` tells whether ``proc`` shows every process of the host,
    None: look there.
    """

    sysfs: Sysfs
    netlink: Netlink
    udev: Udev
    runner: Runner
    state: StateDir
    boot_id: str
    clock: Callable[[], float] = time.time
    dpdk_tools: tuple[str, ...] = DISTRIBUTION_TOOLS
    modprobes: tuple[str, ...] = ()
    checkpoint: Callable[[str], None] = _nowhere
    log: Callable[[str], None] = _nowhere
    proc: str = "/proc"
    dev: str = "/dev"
    devlink: Devlink = field(default_factory=NoDevlink)
    run: str = "/run"
    etc: str = "/etc"
    kubelet: str = "/var/lib/kubelet"
    all_processes: bool | None = None
    journal: Journal = field(init=False)
    locks: Locks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "journal", Journal(self.state))
        object.__setattr__(self, "locks", Locks(self.state))


def read_boot_id(proc: str = "/proc") -> str:
    """Return the kernel's id of this boot (Documentation/admin-guide/sysctl/kernel.rst)."""
    with open(f"{proc}/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def real_node(
    *,
    sysfs_root: str = "/sys",
    state_dir: str = "/var/lib/cni/sriov",
    dpdk_tools: tuple[str, ...] = DISTRIBUTION_TOOLS,
    log: Callable[[str], None] = _nowhere,
    netlink: Netlink | None = None,
) -> Node:
    """Return this machine. Loads no client library: the doors do so when they are used.

    ``netlink`` is for a process that makes many of them, and keeps one that is warm.
    """
    from hwmgr.devlink import KernelDevlink
    from hwmgr.netlink import KernelNetlink
    from hwmgr.run import KernelRunner
    from hwmgr.store import StateDir
    from hwmgr.sysfs import Sysfs
    from hwmgr.udev import KernelUdev

    return Node(
        sysfs=Sysfs(sysfs_root),
        netlink=netlink or KernelNetlink(),
        udev=KernelUdev(),
        runner=KernelRunner(),
        state=StateDir(state_dir),
        boot_id=read_boot_id(),
        dpdk_tools=dpdk_tools,
        log=log,
        modprobes=_MODPROBES if sysfs_root == "/sys" else (),
        # A tree elsewhere has addresses that mean something else to this kernel.
        devlink=KernelDevlink() if sysfs_root == "/sys" else NoDevlink(),
    )
