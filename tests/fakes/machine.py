"""A whole node of fakes: simulated sysfs, rtnetlink in memory, a real state directory."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hwmgr.node import Node
from hwmgr.store import StateDir
from tests.fakes.namespaces import Namespace
from tests.fakes.netlink import FakeNetlink
from tests.fakes.runner import FakeRunner
from tests.fakes.udev import FakeUdev

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.kernel_sim import KernelSim
    from tests.fakes.tree import Nic

BOOT = "3c2b1a00-0000-4000-8000-000000000001"


@dataclass
class Machine:
    """The fakes of one node, and the node itself."""

    sim: KernelSim
    netlink: FakeNetlink
    udev: FakeUdev
    runner: FakeRunner
    state: StateDir
    node: Node
    nics: tuple[Nic, ...]
    logged: list[str] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)
    _namespaces: list[Namespace] = field(default_factory=list)

    def namespace(self) -> Namespace:
        """Make a pod's namespace; it is closed with the machine."""
        made = Namespace()
        self._namespaces.append(made)
        return made

    def kill(self, namespace: Namespace) -> None:
        """End a namespace: its hardware comes back to the host."""
        key = namespace.key
        namespace.close()
        self.netlink.namespace_died(key)

    def rebooted(self) -> Node:
        """Return the node with another boot id; what the hardware holds is the caller's affair."""
        return replace_node(self.node, boot_id=BOOT.replace("1a00", "2b00"))

    def snapshot(self) -> dict[str, object]:
        """Return all that the host can see: sysfs, netdevs, VF settings."""
        found: dict[str, object] = {
            path: text
            for path, text in self.sim.tree.snapshot().items()
            if not path.endswith(("/ifindex", "/iflink")) and "IFINDEX" not in text
        }
        for name, netdev in self.netlink.space().items():
            found[f"netdev {name}"] = replace(
                netdev, index=0, altnames=tuple(sorted(netdev.altnames))
            )
        for nic in self.nics:
            found[f"settings {nic.address}"] = self.sim.vf_side.get(nic.address)
        return found

    def close(self) -> None:
        for namespace in self._namespaces:
            namespace.close()


def replace_node(node: Node, **change: object) -> Node:
    """Return a node with other doors (dataclasses.replace refuses its derived fields)."""
    names = (
        "sysfs", "netlink", "udev", "runner", "state", "boot_id", "clock", "dpdk_tools",
        "checkpoint", "log", "modprobes", "proc", "dev", "devlink", "run", "etc", "kubelet",
        "all_processes",
    )  # fmt: skip
    return Node(**{**{name: getattr(node, name) for name in names}, **change})


def build(
    base: str,
    *nics: Nic,
    netlink: FakeNetlink | None = None,
    checkpoint: Callable[[str], None] | None = None,
) -> Machine:
    """Build a machine with these cards in a folder."""
    net = netlink or FakeNetlink()
    sim = net.machine(base)
    for nic in nics:
        sim.add_nic(nic)
    udev, runner, state = FakeUdev(), FakeRunner(), StateDir(f"{base}/state")
    os.makedirs(f"{base}/proc/self", exist_ok=True)
    logged: list[str] = []
    checkpoints: list[str] = []
    node = Node(
        sysfs=sim,
        netlink=net,
        udev=udev,
        runner=runner,
        state=state,
        boot_id=BOOT,
        clock=udev.clock,
        checkpoint=checkpoint or checkpoints.append,
        log=logged.append,
        proc=f"{base}/proc",
        dev=sim.dev,
        run=f"{base}/run",
        etc=f"{base}/etc",
        kubelet=f"{base}/kubelet",
        all_processes=True,
    )
    return Machine(sim, net, udev, runner, state, node, nics, logged, checkpoints)
