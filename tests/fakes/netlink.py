"""An rtnetlink in memory: namespaces, netdevs, VF settings, with the kernel's rules and errnos.

Rules: net/core/rtnetlink.c do_setlink(), net/core/dev.c __dev_change_net_namespace() and
dev_change_name(); the mixed case of move and rename was measured on Linux 6.18.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwmgr.errors import NetlinkError
from hwmgr.model import Netdev
from hwmgr.pci import device_path, virtfn_indices
from tests.fakes.kernel_sim import KernelSim
from tests.fakes.tree import Shown
from tests.fakes.vf_side import NO_MAC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hwmgr.links import DefaultRoute, Links
    from hwmgr.model import VFSettings

Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Port:
    """A netdev and the function that it belongs to; ``permanent`` is its MAC by itself."""

    netdev: Netdev
    function: str | None
    port: int = 0
    permanent: str | None = None


_READS = (
    "find", "get", "permanent_mac", "list", "addresses", "vf_settings", "wait_running",
)  # fmt: skip


def key_of(fd: int) -> Key:
    """Return what identifies the namespace behind a descriptor."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def own_key() -> Key:
    """Return what identifies the namespace of this thread: the fakes' host."""
    status = os.stat("/proc/thread-self/ns/net")
    return status.st_dev, status.st_ino


class FakeNetlink:
    """See hwmgr.links.Netlink. The network half of a KernelSim: pass it to its constructor.

    ``rename_while_up`` False is Linux before 6.3. ``late`` keeps netdevs back until
    ``deliver()``, as a driver whose probe ends after the write to ``bind`` has returned.
    ``parents`` False hides IFLA_PARENT_DEV_NAME (before 5.14).
    """

    def __init__(
        self, *, rename_while_up: bool = False, late: bool = False, parents: bool = True
    ) -> None:
        self.host = own_key()
        self.rename_while_up = rename_while_up
        self.late = late
        self.parents = parents
        self.sim: KernelSim | None = None
        self.calls: list[str] = []
        self.faults: dict[str, list[int]] = {}
        self._spaces: dict[Key, dict[int, Port]] = {self.host: {}}
        self._pending: list[Callable[[], None]] = []
        self._born = 0
        self._lock = threading.RLock()

    @contextmanager
    def links(self, ns_fd: int | None = None) -> Iterator[Links]:
        key = self.host if ns_fd is None else key_of(ns_fd)
        with self._lock:
            self._spaces.setdefault(key, {})
        yield FakeLinks(self, key)

    def machine(self, base: str) -> KernelSim:
        """Return a KernelSim whose netdevs live here."""
        self.sim = KernelSim(base, self)
        return self.sim

    def fail(self, verb: str, code: int, times: int = 1) -> None:
        """Have the next calls of a verb (``move``, ``set_mtu``…) fail."""
        self.faults.setdefault(verb, []).extend([code] * times)

    def born(self, address: str) -> None:
        """See Netdevs.born: names and MACs come from the PF and the admin MAC, else at random."""
        if self.late:
            self._pending.append(lambda: self._create(address))
        else:
            self._create(address)

    def deliver(self) -> None:
        """Let late netdevs appear."""
        while self._pending:
            self._pending.pop(0)()

    def gone(self, address: str) -> None:
        """See Netdevs.gone."""
        with self._lock:
            for key, space in self._spaces.items():
                for index in [i for i, p in space.items() if p.function == address]:
                    self._hide(key, space.pop(index))

    def add(self, netdev: Netdev, key: Key | None = None) -> Netdev:
        """Add a netdev of no PCI function (a bridge, a pod's own eth0)."""
        with self._lock:
            space = self._spaces.setdefault(key or self.host, {})
            netdev = replace(netdev, index=netdev.index or self._index(space))
            space[netdev.index] = Port(netdev, None)
            return netdev

    def edit(self, name: str, key: Key | None = None, /, **change: object) -> None:
        """Change a netdev as somebody else would, whatever the rules."""
        with self._lock:
            where = key or self.host
            port = self._named(where, name)
            if port is None:
                raise AssertionError(f"no {name} in {where}")
            self.store(where, replace(port, netdev=replace(port.netdev, **change)))  # type: ignore[arg-type]

    def namespace_died(self, key: Key) -> None:
        """Return a dead namespace's hardware to the host; a name in use there makes ``dev%d``."""
        with self._lock:
            for port in self._spaces.pop(key, {}).values():
                if port.function is None:
                    continue
                host = self._spaces[self.host]
                name = port.netdev.name
                if self._named(self.host, name) is not None:
                    taken = {p.netdev.name for p in host.values()}
                    name = next(f"dev{n}" for n in range(999) if f"dev{n}" not in taken)
                index = port.netdev.index if port.netdev.index not in host else self._index(host)
                back = replace(port.netdev, index=index, name=name, up=False, addresses=())
                self.store(self.host, replace(port, netdev=back))

    def space(self, key: Key | None = None) -> dict[str, Netdev]:
        """Return the netdevs of a namespace by name."""
        with self._lock:
            return {
                p.netdev.name: p.netdev for p in self._spaces.get(key or self.host, {}).values()
            }

    def ports(self, key: Key) -> dict[int, Port]:
        """Return what is in a namespace, by ifindex."""
        return self._spaces.setdefault(key, {})

    def store(self, key: Key, port: Port) -> None:
        """Put a netdev into a namespace, in place of the one with its index; sysfs follows."""
        space = self._spaces.setdefault(key, {})
        old = space.get(port.netdev.index)
        if old is not None and old.netdev.name != port.netdev.name:
            self._hide(key, old)
        space[port.netdev.index] = port
        if key == self.host and port.function and self.sim is not None:
            self.sim.tree.show_netdev(port.function, self._shown(port))

    def take(self, key: Key, index: int) -> Port:
        """Remove a netdev from a namespace; sysfs follows."""
        port = self._spaces[key].pop(index)
        self._hide(key, port)
        return port

    def named(self, key: Key, name: str) -> Port | None:
        """Return the netdev that has a name or an alternative name there."""
        return self._named(key, name)

    def free_index(self, key: Key, wanted: int) -> int:
        """Return the index a netdev gets in a namespace: its own, where that is free."""
        space = self._spaces.setdefault(key, {})
        return wanted if wanted not in space else self._index(space)

    def locked(self) -> AbstractContextManager[bool]:
        """Return the lock that stands for rtnl."""
        return self._lock

    def vf_index(self, pf: str, address: str) -> int:
        """Return a VF's index."""
        sim = self.sim
        if sim is not None:
            for index in virtfn_indices(sim.names(device_path(pf))):
                if sim.link_name(device_path(pf, f"virtfn{index}")) == address:
                    return index
        raise AssertionError(f"{address} is no VF of {pf}")

    def fault(self, verb: str) -> int:
        """Return the errno that a test wants of this call, 0 for none."""
        queue = self.faults.get(verb)
        return queue.pop(0) if queue else 0

    def _create(self, address: str) -> None:
        sim = self.sim
        if sim is None:
            raise AssertionError("this FakeNetlink has no machine; see machine()")
        with self._lock:
            pf = sim.link_name(device_path(address, "physfn"))
            facts = pf or address
            ports = int(str(sim.fact(facts, "ports") or 1))
            base = str(sim.fact(facts, "ifname") or "eth0")
            mac = ""
            if pf is not None:
                index = self.vf_index(pf, address)
                base = f"{base}v{index}"
                admin = sim.vf_side.get(pf)[index].mac
                mac = admin if admin and admin != NO_MAC else ""
            for port in range(ports):
                self._born += 1
                name = base if port == 0 else f"{base}d{port}"
                made = mac or f"02:fa:{port:02x}:00:{self._born >> 8:02x}:{self._born & 255:02x}"
                space = self._spaces[self.host]
                if self._named(self.host, name) is not None:
                    name = next(
                        f"eth{n}" for n in range(9999) if self._named(self.host, f"eth{n}") is None
                    )
                netdev = Netdev(
                    index=self._index(space),
                    name=name,
                    mac=made,
                    mtu=1500,
                    up=pf is None,
                    parent=address,
                )
                self.store(self.host, Port(netdev, address, port, made))

    def _index(self, space: dict[int, Port]) -> int:
        # The kernel counts on and does not give an index again (dev_index_reserve()).
        return max([2, *space, *(i for s in self._spaces.values() for i in s)]) + 1

    def _named(self, key: Key, name: str) -> Port | None:
        for port in self._spaces.get(key, {}).values():
            if name == port.netdev.name or name in port.netdev.altnames:
                return port
        return None

    def _hide(self, key: Key, port: Port) -> None:
        if key == self.host and port.function and self.sim is not None:
            self.sim.tree.hide_netdev(port.function, port.netdev.name)

    def _shown(self, port: Port) -> Shown:
        sim, netdev = self.sim, port.netdev
        switch = None
        if sim is not None and port.function is not None:
            switch = sim.fact(port.function, "switch")
        return Shown(
            index=netdev.index,
            name=netdev.name,
            mac=netdev.mac,
            mtu=netdev.mtu,
            up=netdev.up,
            alias=netdev.alias,
            port=port.port,
            switch_id=str(switch) if switch else None,
            port_name="p0" if switch else None,
        )


class FakeLinks:
    """See hwmgr.links.Links."""

    def __init__(self, netlink: FakeNetlink, key: Key) -> None:
        self._net = netlink
        self._key = key

    def find(self, name: str) -> Netdev | None:
        with self._call("find", name):
            port = self._net.named(self._key, name)
            return None if port is None else self._seen(port)

    def get(self, index: int) -> Netdev | None:
        with self._call("get", index):
            port = self._net.ports(self._key).get(index)
            return None if port is None else self._seen(port)

    def permanent_mac(self, index: int) -> str | None:
        with self._call("permanent_mac"):
            port = self._net.ports(self._key).get(index)
            return None if port is None else port.permanent

    def list(self) -> list[Netdev]:
        with self._call("list"):
            ports = self._net.ports(self._key).values()
            return [replace(self._seen(p), addresses=()) for p in ports]

    def addresses(self) -> dict[int, tuple[str, ...]]:
        with self._call("addresses"):
            ports = self._net.ports(self._key)
            return {n: p.netdev.addresses for n, p in ports.items() if p.netdev.addresses}

    def vf_settings(self, pf_index: int) -> dict[int, VFSettings]:
        with self._call("vf_settings", pf_index):
            sim, pf = self._pf(pf_index)
            return sim.vf_side.get(pf)

    def set_vf(self, pf_index: int, vf: int, change: VFSettings) -> None:
        with self._call("set_vf", pf_index, vf, change):
            sim, pf = self._pf(pf_index)
            sim.vf_side.change(pf, vf, change)

    def move(self, index: int, ns_fd: int, name: str) -> None:
        target = key_of(ns_fd)
        with self._call("move", index, target, name):
            net = self._net
            port = self._port(index)
            in_use = net.named(target, port.netdev.name) is not None
            if in_use and net.named(target, name) is not None:
                raise self._error("move", errno.EEXIST)
            if any(net.named(target, a) is not None for a in port.netdev.altnames):
                raise self._error("move", errno.EEXIST)
            net.take(self._key, index)
            moved = replace(
                port.netdev,
                index=net.free_index(target, index),
                name=name if in_use else port.netdev.name,
                up=False,
                addresses=(),
                master=None,
            )
            refused = not in_use and name != moved.name and net.named(target, name) is not None
            if not in_use and not refused:
                moved = replace(moved, name=name)
            net.store(target, replace(port, netdev=moved))
            if refused:
                raise self._error("move", errno.EEXIST)

    def rename(self, index: int, name: str) -> None:
        with self._call("rename", index, name):
            port = self._port(index)
            if port.netdev.up and not self._net.rename_while_up:
                raise self._error("rename", errno.EBUSY)
            if name == port.netdev.name:
                return
            if not name or len(name) > 15 or "/" in name:
                raise self._error("rename", errno.EINVAL)
            if self._net.named(self._key, name) is not None:
                raise self._error("rename", errno.EEXIST)
            self._store(port, name=name)

    def set_up(self, index: int, *, up: bool) -> None:
        with self._call("set_up", index, up):
            self._store(self._port(index), up=up)

    def set_mtu(self, index: int, mtu: int) -> None:
        with self._call("set_mtu", index, mtu):
            if not 68 <= mtu <= 9216:
                raise self._error("set_mtu", errno.EINVAL)
            self._store(self._port(index), mtu=mtu)

    def set_mac(self, index: int, mac: str) -> None:
        with self._call("set_mac", index, mac):
            port = self._port(index)
            sim, vf = self._net.sim, self._vf_of(port)
            if sim is not None and vf is not None:
                if sim.vf_side.pinned(*vf):
                    raise self._error("set_mac", errno.EADDRNOTAVAIL)
                if sim.link_name(device_path(vf[0], "driver")) == "igb":
                    sim.vf_side.own_mac(*vf, mac)
            self._store(port, mac=mac)

    def set_alias(self, index: int, alias: str | None) -> None:
        with self._call("set_alias", index, alias):
            if len((alias or "").encode()) > 255:
                raise self._error("set_alias", errno.EINVAL)
            self._store(self._port(index), alias=alias or None)

    def add_altname(self, index: int, name: str) -> None:
        with self._call("add_altname", index, name):
            port = self._port(index)
            if self._net.named(self._key, name) is not None:
                raise self._error("add_altname", errno.EEXIST)
            self._store(port, altnames=(*port.netdev.altnames, name))

    def del_altname(self, index: int, name: str) -> None:
        with self._call("del_altname", index, name):
            port = self._port(index)
            if name not in port.netdev.altnames:
                raise self._error("del_altname", errno.ENOENT)
            self._store(port, altnames=tuple(a for a in port.netdev.altnames if a != name))

    def add_address(self, index: int, address: str) -> None:
        with self._call("add_address", index, address):
            port = self._port(index)
            if address not in port.netdev.addresses:
                self._store(port, addresses=(*port.netdev.addresses, address))

    def add_route(
        self, index: int, dst: str, gateway: str | None, extra: Mapping[str, int]
    ) -> bool:
        with self._call("add_route", index, dst, gateway):
            self._port(index)
            return True

    def default_routes(self, *, v6: bool) -> tuple[DefaultRoute, ...]:
        return ()

    def remove_default_route(self, route: DefaultRoute) -> None:
        raise NotImplementedError

    def add_default_route(self, route: DefaultRoute) -> None:
        raise NotImplementedError

    def wait_running(self, index: int, timeout: float) -> bool:
        with self._call("wait_running", index):
            return self._port(index).netdev.up

    @contextmanager
    def _call(self, verb: str, *arguments: object) -> Iterator[None]:
        with self._net.locked():
            if verb not in _READS:
                self._net.calls.append(" ".join(str(a) for a in (verb, *arguments)))
            code = self._net.fault(verb)
            if code:
                raise self._error(verb, code)
            yield

    def _seen(self, port: Port) -> Netdev:
        return port.netdev if self._net.parents else replace(port.netdev, parent=None)

    def _pf(self, index: int) -> tuple[KernelSim, str]:
        port = self._port(index)
        if self._net.sim is None or port.function is None:
            raise self._error("vf", errno.EOPNOTSUPP)
        return self._net.sim, port.function

    def _vf_of(self, port: Port) -> tuple[str, int] | None:
        """Return PF and index of a netdev that belongs to a VF."""
        sim = self._net.sim
        if sim is None or port.function is None:
            return None
        pf = sim.link_name(device_path(port.function, "physfn"))
        return None if pf is None else (pf, self._net.vf_index(pf, port.function))

    def _port(self, index: int) -> Port:
        port = self._net.ports(self._key).get(index)
        if port is None:
            raise self._error(f"link {index}", errno.ENODEV)
        return port

    def _store(self, port: Port, **change: object) -> None:
        netdev = replace(port.netdev, **change)  # type: ignore[arg-type]
        self._net.store(self._key, replace(port, netdev=netdev))

    def _error(self, what: str, code: int) -> NetlinkError:
        return NetlinkError(f"fake {what}", code)
