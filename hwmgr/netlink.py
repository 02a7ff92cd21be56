"""The door to rtnetlink: netdevs, addresses, VF settings of a PF; the only importer of pyroute2.

A ``Links`` (hwmgr.links) is bound to one namespace for its whole life. Reads are hwmgr.linkreads',
the words of a change are hwmgr.linkmessages'. pyroute2 is imported at the first change, since it
costs more than the rest of a call together.
"""

from __future__ import annotations

import os
import select
import socket
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from hwmgr import linkmessages
from hwmgr.errors import HwmgrError, NetlinkError
from hwmgr.linkmessages import raw
from hwmgr.linkreads import LinkReads
from hwmgr.model import VlanProto
from hwmgr.netns import entered, identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hwmgr.links import DefaultRoute, Links
    from hwmgr.model import Netdev, VFSettings

_OWN_NAMESPACE = "/proc/thread-self/ns/net"
_RTMGRP_LINK = 1


class KernelNetlink:
    """The kernel's rtnetlink.

    ``warm``: every thread keeps pyroute2's socket of its own namespace open, for a process that
    lives long. Those of other namespaces are opened each time.
    """

    def __init__(self, *, warm: bool = False) -> None:
        self._kept = _KeptRoutes() if warm else None

    def warm_up(self) -> None:
        """Load pyroute2 now, which takes 0.2 s, and not at the first change."""
        from pyroute2 import IPRoute

        IPRoute().close()

    @contextmanager
    def links(self, ns_fd: int | None = None) -> Iterator[Links]:
        """See hwmgr.links.Netlink. A socket belongs to the namespace in which it was opened."""
        with entered(ns_fd) if ns_fd is not None else nullcontext():
            reads = LinkReads()
        links = _KernelLinks(reads, ns_fd, self._kept if ns_fd is None else None)
        try:
            yield links
        except HwmgrError:
            links.close()  # a refusal leaves a socket as it was
            raise
        except BaseException:
            links.close(spoilt=True)
            raise
        else:
            links.close()


class _KeptRoutes:
    """A socket of pyroute2's for each thread, in the namespace where the thread first asked."""

    def __init__(self) -> None:
        import threading

        self._local = threading.local()

    def of_this_thread(self) -> Any:
        """Return the thread's socket, None where the thread is not where it opened that.

        pyroute2's sockets are for one thread of one process. In a fork the parent's is left alone:
        closing it would reach into what both share.
        """
        from pyroute2 import IPRoute

        local, process, here = self._local, os.getpid(), identity(_OWN_NAMESPACE)
        kept = getattr(local, "route", None)
        if kept is None or local.process != process:
            kept = local.route = IPRoute()
            local.process, local.namespace = process, here
        return kept if local.namespace == here else None

    def forget(self) -> None:
        """Have the thread open another one the next time."""
        self._local.route = None


class _KernelLinks:
    def __init__(self, reads: LinkReads, ns_fd: int | None, kept: _KeptRoutes | None) -> None:
        self._reads = reads
        self._ns_fd = ns_fd
        self._kept = kept
        self._opened: Any = None

    def close(self, *, spoilt: bool = False) -> None:
        self._reads.close()
        if self._opened is None:
            return
        if self._kept is None or spoilt:
            self._opened.close()
        if self._kept is not None and spoilt:
            self._kept.forget()

    @property
    def _route(self) -> Any:
        if self._opened is None and self._kept is not None:
            self._opened = self._kept.of_this_thread()
        if self._opened is None:
            from pyroute2 import IPRoute

            self._kept = None
            with entered(self._ns_fd) if self._ns_fd is not None else nullcontext():
                self._opened = IPRoute()
        return self._opened

    def find(self, name: str) -> Netdev | None:
        return self._reads.find(name)

    def get(self, index: int) -> Netdev | None:
        return self._reads.get(index)

    def permanent_mac(self, index: int) -> str | None:
        return self._reads.permanent_mac(index)

    def list(self) -> list[Netdev]:
        return self._reads.netdevs()

    def addresses(self) -> dict[int, tuple[str, ...]]:
        return self._reads.addresses()

    def vf_settings(self, pf_index: int) -> dict[int, VFSettings]:
        return self._reads.vf_settings(pf_index)

    def set_vf(self, pf_index: int, vf: int, change: VFSettings) -> None:
        if change.proto is VlanProto.DOT1AD:
            self._set_dot1ad_vlan(pf_index, vf, change)
        for what, value in linkmessages.vf_attributes(change):
            message = {"vf": vf, **value}
            text = f"set {what} of VF {vf} through link {pf_index}"
            self._call(text, self._route.link, "set", index=pf_index, vf=message)

    def move(self, index: int, ns_fd: int, name: str) -> None:
        text = f"move link {index} to another namespace as {name}"
        self._call(text, self._route.link, "set", index=index, net_ns_fd=ns_fd, ifname=raw(name))

    def rename(self, index: int, name: str) -> None:
        self._set(f"rename link {index} to {name}", index, ifname=raw(name))

    def set_up(self, index: int, *, up: bool) -> None:
        state = "up" if up else "down"
        self._set(f"set link {index} {state}", index, state=state)

    def set_mtu(self, index: int, mtu: int) -> None:
        self._set(f"set MTU {mtu} on link {index}", index, mtu=mtu)

    def set_mac(self, index: int, mac: str) -> None:
        self._set(f"set MAC {mac} on link {index}", index, address=mac)

    def set_alias(self, index: int, alias: str | None) -> None:
        self._set(f"set the alias of link {index}", index, ifalias=raw(alias or ""))

    def add_altname(self, index: int, name: str) -> None:
        text = f"add alternative name {name} to link {index}"
        self._call(text, self._route.link, "property_add", index=index, altname=raw(name))

    def del_altname(self, index: int, name: str) -> None:
        text = f"remove alternative name {name} of link {index}"
        self._call(text, self._route.link, "property_del", index=index, altname=raw(name))

    def add_address(self, index: int, address: str) -> None:
        ip, _, prefix = address.partition("/")
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        text = f"add address {address} to link {index}"
        self._call(
            text,
            self._route.addr,
            "add",
            tolerate=(17,),
            index=index,
            address=ip,
            prefixlen=int(prefix),
            family=family,
        )

    def add_route(
        self, index: int, dst: str, gateway: str | None, extra: Mapping[str, int]
    ) -> bool:
        request = linkmessages.route_request(index, dst, gateway, extra)
        text = f"add route {dst} by link {index}"
        return self._call(text, self._route.route, "add", tolerate=(17,), **request) is not None

    def default_routes(self, *, v6: bool) -> tuple[DefaultRoute, ...]:
        family = socket.AF_INET6 if v6 else socket.AF_INET
        listed = self._call("list routes", self._route.route, "dump", family=family)
        routes = filter(linkmessages.is_default_route, listed)
        return tuple(linkmessages.default_route(message) for message in routes)

    def remove_default_route(self, route: DefaultRoute) -> None:
        text = f"remove default route by link {route.index}"
        self._call(text, self._route.route, "del", tolerate=(3,), **route.request)

    def add_default_route(self, route: DefaultRoute) -> None:
        text = f"put default route by link {route.index} back"
        self._call(text, self._route.route, "add", tolerate=(17,), **route.request)

    def wait_running(self, index: int, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        with (
            entered(self._ns_fd) if self._ns_fd is not None else nullcontext(),
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events,
        ):
            events.bind((0, _RTMGRP_LINK))
            # Not select(2): it knows no descriptor above 1023, and a busy daemon has such.
            poll = select.poll()
            poll.register(events, select.POLLIN)
            while True:
                if self._reads.is_running(index):
                    return True
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not poll.poll(remaining * 1000):
                    return False
                events.recv(65536)

    def _set_dot1ad_vlan(self, pf_index: int, vf: int, change: VFSettings) -> None:
        with (
            entered(self._ns_fd) if self._ns_fd is not None else nullcontext(),
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as door,
        ):
            door.bind((0, 0))
            door.sendall(linkmessages.dot1ad_vlan(pf_index, vf, change))
            code = linkmessages.error_code(door.recv(65536))
        if code:
            vlan = change.vlan or 0
            raise NetlinkError(f"set 802.1ad VLAN {vlan} of VF {vf} through link {pf_index}", code)

    def _set(self, text: str, index: int, **change: Any) -> None:
        self._call(text, self._route.link, "set", index=index, **change)

    def _call(
        self,
        text: str,
        function: Callable[..., Any],
        *arguments: object,
        tolerate: tuple[int, ...] = (),
        **request: object,
    ) -> Any:
        from pyroute2.netlink.exceptions import NetlinkError as KernelRefused

        try:
            return list(function(*arguments, **request))
        except KernelRefused as error:
            if error.code in tolerate:
                return None
            raise NetlinkError(text, error.code) from error
