"""The multus executable, but its ``sriov`` finds the simulated card of a Bench (veth for VFs).

VETH_BASE is the Bench's folder, VETH_WIRE the namespace with the other ends; KUBELET and DEVINFO
are the folders of a kubelet and of device information.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from hwmgr import nodeconfig
from hwmgr.node import Node, read_boot_id
from hwmgr.run import KernelRunner
from hwmgr.store import StateDir
from multus.clock import SystemClock
from multus.commands import Engine
from multus.devices.choice import Devices, KubeletDevices
from multus.devices.deviceinfo import DeviceInfo
from multus.hardware import plugin_on
from multus.wiring import real_doors, serve_process
from tests.fakes.udev import FakeUdev
from tests.functional.harness import VethNetlink, VethPlant, VethSysfs

if TYPE_CHECKING:
    from hwmgr.nodeconfig import NodeConfig
    from multus.delegates import PluginRunner
    from multus.doors import Doors
    from multus.pods import Pod


def sriov(config: NodeConfig) -> PluginRunner:
    host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    plant = VethPlant(host, os.open(os.environ["VETH_WIRE"], os.O_RDONLY | os.O_CLOEXEC))
    plant.sim = sim = VethSysfs(os.environ["VETH_BASE"], plant)
    node = Node(
        sysfs=sim,
        netlink=VethNetlink(sim),
        udev=FakeUdev(),
        runner=KernelRunner(),
        state=StateDir(config.state_dir),
        boot_id=read_boot_id(),
        dpdk_tools=(),
        dev=sim.dev,
    )
    return plugin_on(node, node.runner, os.environ, config.allowed_dirs)


def doors(config: NodeConfig) -> Doors:
    def devices(pod: Pod) -> Devices:
        source = KubeletDevices(clock, f"{kubelet}/kubelet.sock", f"{kubelet}/checkpoint")
        ids = partial(source.of_pod, pod.raw, pod.cluster, clock.monotonic() + 10)
        return Devices(ids, strict=True)

    clock, kubelet = SystemClock(), os.environ["KUBELET"]
    real = real_doors(os.environ, config, in_process={"sriov": lambda: sriov(config)})
    return replace(real, devices=devices, device_info=DeviceInfo(os.environ["DEVINFO"]))


def main() -> int:
    config = nodeconfig.load(os.environ)
    return serve_process(lambda: Engine(doors(config)))


if __name__ == "__main__":
    sys.exit(main())
