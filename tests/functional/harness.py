"""A node on real rtnetlink: veth ends stand for VFs and PFs of a simulated sysfs.

The host is a network namespace of its own, the other veth ends lie in a third one. What veth has
not (VF settings, a pinned MAC, the PCI parent) is answered from files, so that processes share it.
"""

from __future__ import annotations

import errno
import os
import re
import zlib
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, cast

from hwmgr.errors import NetlinkError
from hwmgr.model import Netdev
from hwmgr.netlink import KernelNetlink
from hwmgr.netns import entered
from hwmgr.node import Node
from hwmgr.pci import device_path, virtfn_indices
from hwmgr.store import StateDir
from hwmgr.sysfs import Folder
from tests.fakes.kernel_sim import KernelSim
from tests.fakes.machine import BOOT
from tests.fakes.namespaces import Namespace
from tests.fakes.runner import Devbind, FakeRunner
from tests.fakes.udev import FakeUdev
from tests.fakes.vf_side import NO_MAC
from tests.functional import rawlinks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hwmgr.links import Links
    from hwmgr.model import VFSettings
    from hwmgr.udev import Udev
    from tests.fakes.tree import Nic

_NET_FOLDER = re.compile(r"^bus/pci/devices/(?P<address>[^/]+)/net$")
_NET_FILE = re.compile(r"^class/net/(?P<name>[^/]+)/(?P<file>.+)$")
TXQLEN = 1000


def group_of(address: str) -> int:
    """Return the link group that marks a netdev as one of this function; moves do not change it."""
    return zlib.crc32(address.encode()) & 0x7FFFFFFF


class VethSysfs(KernelSim):
    """A KernelSim whose ``net`` folders show what is in this thread's namespace."""

    def folder(self, path: str) -> Folder | None:
        return _ByPath(self, path) if self.exists(path) else None

    def names(self, path: str) -> list[str]:
        if (found := _NET_FOLDER.match(path)) is not None:
            group = group_of(found["address"])
            return [link.name for link in rawlinks.links() if link.group == group]
        if path == "class/net":
            return [link.name for link in rawlinks.links()]
        return super().names(path)

    def link_name(self, path: str) -> str | None:
        found = _NET_FILE.match(path)
        if found is None or found["file"] != "device":
            return super().link_name(path)
        link = self._link(found["name"])
        return None if link is None else self.function_of(link.group)

    def read(self, path: str) -> str | None:
        if (found := _NET_FILE.match(path)) is None:
            return super().read(path)
        link = self._link(found["name"])
        values: dict[str, object] = {}
        if link is not None:
            values = {"dev_port": link.port, "ifindex": link.index, "mtu": link.mtu}
            values["address"] = link.mac
        value = values.get(found["file"])
        return None if value is None else str(value)

    def function_of(self, group: int) -> str | None:
        """Return the function that a link group marks."""
        return next((a for a in self.tree.functions() if group_of(a) == group), None)

    def vf_of(self, function: str) -> tuple[str, int] | None:
        """Return PF and index of a VF, None for a PF."""
        pf = self.link_name(device_path(function, "physfn"))
        if pf is None:
            return None
        for index in virtfn_indices(self.names(device_path(pf))):
            if self.link_name(device_path(pf, f"virtfn{index}")) == function:
                return pf, index
        return None

    def _link(self, name: str) -> rawlinks.RawLink | None:
        return next((link for link in rawlinks.links() if link.name == name), None)


class _ByPath(Folder):
    """A folder that is asked by paths, so that what VethSysfs shows is seen in it."""

    __slots__ = ("_sysfs",)

    def __init__(self, sysfs: VethSysfs, path: str) -> None:
        super().__init__(path, -1)
        self._sysfs = sysfs

    def __exit__(self, *_raised: object) -> None:
        return

    def read(self, name: str) -> str | None:
        return self._sysfs.read(f"{self._path}/{name}")

    def link_name(self, name: str) -> str | None:
        return self._sysfs.link_name(f"{self._path}/{name}")

    def names(self, name: str = "") -> list[str]:
        return self._sysfs.names(f"{self._path}/{name}" if name else self._path)


class VethPlant:
    """Makes and destroys the veth pairs; see tests.fakes.kernel_sim.Netdevs."""

    def __init__(self, host_fd: int, wire_fd: int) -> None:
        self._host_fd = host_fd
        self._wire_fd = wire_fd
        self.sim: VethSysfs | None = None

    def born(self, address: str) -> None:
        from pyroute2 import IPRoute

        sim = self.sim
        if sim is None:
            return
        vf = sim.vf_of(address)
        facts = vf[0] if vf else address
        base = str(sim.fact(facts, "ifname")) + (f"v{vf[1]}" if vf else "")
        shown = sim.vf_side.get(vf[0])[vf[1]].mac if vf else None
        for port in range(int(str(sim.fact(facts, "ports") or 1))):
            name = base + (f"d{port}" if port else "")
            wire = f"w{group_of(address):x}{'p' * port}"
            with entered(self._wire_fd), IPRoute() as route:
                peer = {"ifname": name, "net_ns_fd": self._host_fd}
                route.link("add", kind="veth", ifname=wire, peer=peer)
            with entered(self._host_fd), IPRoute() as route:
                index = route.link_lookup(ifname=name)[0]
                change: dict[str, Any] = {"group": group_of(address), "txqlen": TXQLEN + port}
                if shown not in (None, NO_MAC):
                    change["address"] = shown
                route.link("set", index=index, **change)
                if vf is None:
                    route.link("set", index=index, state="up")

    def gone(self, address: str) -> None:
        """Destroy the netdevs by their other ends, wherever they are."""
        from pyroute2 import IPRoute

        with entered(self._wire_fd), IPRoute() as route:
            for port in range(2):
                wire = f"w{group_of(address):x}{'p' * port}"
                for index in route.link_lookup(ifname=wire):
                    route.link("del", index=index)


class VethNetlink:
    """KernelNetlink, with a PF driver's half and PCI parents layered over it."""

    def __init__(self, sim: VethSysfs, *, parents: bool = True) -> None:
        self._real = KernelNetlink()
        self._sim = sim
        self._parents = parents

    @contextmanager
    def links(self, ns_fd: int | None = None) -> Iterator[Links]:
        fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY) if ns_fd is None else os.dup(ns_fd)
        try:
            with self._real.links(ns_fd) as links:
                made = _VethLinks(links, self._sim, fd, parents=self._parents)
                yield cast("Links", made)
        finally:
            os.close(fd)


class _VethLinks:
    def __init__(self, real: Links, sim: VethSysfs, ns_fd: int, *, parents: bool) -> None:
        self._real = real
        self._sim = sim
        self._ns_fd = ns_fd
        self._parents = parents

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._real, verb)

    def find(self, name: str) -> Netdev | None:
        return self._seen(self._real.find(name))

    def get(self, index: int) -> Netdev | None:
        return self._seen(self._real.get(index))

    def list(self) -> list[Netdev]:
        return [n for n in map(self._seen, self._real.list()) if n is not None]

    def vf_settings(self, pf_index: int) -> dict[int, VFSettings]:
        return self._sim.vf_side.get(self._function(pf_index) or "")

    def set_vf(self, pf_index: int, vf: int, change: VFSettings) -> None:
        function = self._function(pf_index)
        if function is None:
            raise NetlinkError(f"VF {vf} by link {pf_index}", errno.ENODEV)
        self._sim.vf_side.change(function, vf, change)

    def set_mac(self, index: int, mac: str) -> None:
        function = self._function(index)
        vf = self._sim.vf_of(function) if function else None
        if vf is not None:
            if self._sim.vf_side.pinned(*vf):
                raise NetlinkError(f"MAC of link {index}", errno.EADDRNOTAVAIL)
            self._sim.vf_side.own_mac(*vf, mac)
        self._real.set_mac(index, mac)

    def _seen(self, netdev: Netdev | None) -> Netdev | None:
        if netdev is None or not self._parents:
            return netdev
        return replace(netdev, parent=self._function(netdev.index))

    def _function(self, index: int) -> str | None:
        with entered(self._ns_fd):
            found = rawlinks.links()
        group = next((link.group for link in found if link.index == index), 0)
        return self._sim.function_of(group) if group else None


class Bench:
    """One host with its cards, and pods; everything is gone when it is closed."""

    def __init__(self, base: str, *nics: Nic, parents: bool = True) -> None:
        self.base = base
        self.nics = nics
        self.host = Namespace()
        self.wire = Namespace()
        self.parents = parents
        self.tool = f"{base}/dpdk-devbind.py"
        self._pods: list[Namespace] = []
        plant = VethPlant(self.host.fd, self.wire.fd)
        self.sim = VethSysfs(base, plant)
        plant.sim = self.sim
        with open(self.tool, "w") as file:
            file.write("#!/bin/sh\n")
        os.chmod(self.tool, 0o755)
        with entered(self.host.fd):
            for nic in nics:
                self.sim.add_nic(nic)

    def node(
        self,
        checkpoint: Callable[[str], None] | None = None,
        *,
        udev: Udev | None = None,
        boot_id: str = BOOT,
    ) -> Node:
        """Return the node; each process may make one of its own."""
        return Node(
            sysfs=self.sim,
            netlink=VethNetlink(self.sim, parents=self.parents),
            udev=udev or FakeUdev(),
            runner=FakeRunner({self.tool: Devbind(self.sim)}),
            state=StateDir(f"{self.base}/state"),
            boot_id=boot_id,
            dpdk_tools=(self.tool,),
            dev=self.sim.dev,
            run=f"{self.base}/run",
            etc=f"{self.base}/etc",
            kubelet=f"{self.base}/kubelet",
            checkpoint=checkpoint or (lambda _name: None),
        )

    def pod(self) -> Namespace:
        """Make a pod's namespace."""
        made = Namespace()
        self._pods.append(made)
        return made

    def end(self, pod: Namespace) -> None:
        """End a namespace as the kernel ends one with hardware in it: the host gets that back.

        veth would be destroyed instead (default_device_exit_batch() spares what has no rtnl_link
        ops), so it is moved here first, as ``dev%d`` where its name is taken.
        """
        with entered(pod.fd):
            mine = [link for link in rawlinks.links() if link.group]
        with entered(self.host.fd):
            taken = {link.name for link in rawlinks.links()}
        real = KernelNetlink()
        with real.links(pod.fd) as links:
            for link in mine:
                free = next(f"dev{n}" for n in range(99) if f"dev{n}" not in taken)
                name = free if link.name in taken else link.name
                links.move(link.index, self.host.fd, name)
                taken.add(name)
        pod.close()

    def names_in(self, pod: Namespace) -> set[str]:
        """Return the netdevs of a pod, but for lo."""
        with entered(pod.fd):
            return {link.name for link in rawlinks.links()} - {"lo"}

    def snapshot(self) -> dict[str, object]:
        """Return all that the host can see: sysfs, netdevs, VF settings, what is journalled."""
        found: dict[str, object] = dict(self.sim.tree.snapshot())
        with entered(self.host.fd), VethNetlink(self.sim).links() as links:
            for each in links.list():
                netdev = links.get(each.index)
                if netdev is None or netdev.name == "lo":
                    continue
                altnames = tuple(sorted(netdev.altnames))
                found[f"netdev {netdev.name}"] = replace(netdev, index=0, altnames=altnames)
        for nic in self.nics:
            found[f"settings {nic.address}"] = self.sim.vf_side.get(nic.address)
        for folder, _, files in os.walk(f"{self.base}/state"):
            if "lock" not in folder:
                for name in files:
                    with open(f"{folder}/{name}") as file:
                        found[f"{folder}/{name}"] = file.read()
        return found

    def close(self) -> None:
        for namespace in (*self._pods, self.wire, self.host):
            namespace.close()


def changes(before: dict[str, object], now: dict[str, object]) -> dict[str, object]:
    """Return what differs, as (before, now); of two netdevs only the attributes that do."""
    found: dict[str, object] = {}
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Netdev) and isinstance(new, Netdev):
            for field in fields(Netdev):
                pair = getattr(old, field.name), getattr(new, field.name)
                if pair[0] != pair[1]:
                    found[f"{key} {field.name}"] = pair
        elif old != new:
            found[key] = (old, new)
    return found
