"""The door to rtnetlink: netdevs, addresses, VF settings of a PF; the only importer of pyroute2.

A ``Links`` (hwmgr.links) is bound to one namespace for its whole life. Reads are hwmgr.linkreads';
pyroute2 is imported at the first change, since it costs more than the rest of a call together.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from hwmgr.errors import HwmgrError, NetlinkError
from hwmgr.linkreads import LinkReads
from hwmgr.model import LinkState, VFSettings, VlanProto
from hwmgr.netns import entered, identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hwmgr.links import DefaultRoute, Links
    from hwmgr.model import Netdev

_OWN_NAMESPACE = "/proc/thread-self/ns/net"
_RTMGRP_LINK = 1
_RT_SCOPE_UNIVERSE = 0
_RT_TABLE_MAIN = 254
_RTN_UNICAST = 1
_RTNH_F_ONLINK = 4
_ETHERTYPE = {VlanProto.DOT1Q: 0x8100, VlanProto.DOT1AD: 0x88A8}
_LINK_STATES = (LinkState.AUTO, LinkState.ENABLE, LinkState.DISABLE)


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
            _set_vf_vlan(self._ns_fd, pf_index, vf, change)
        for what, value in _vf_attributes(change):
            message = {"vf": vf, **value}
            text = f"set {what} of VF {vf} through link {pf_index}"
            self._call(text, self._route.link, "set", index=pf_index, vf=message)

    def move(self, index: int, ns_fd: int, name: str) -> None:
        text = f"move link {index} to another namespace as {name}"
        self._call(text, self._route.link, "set", index=index, net_ns_fd=ns_fd, ifname=_raw(name))

    def rename(self, index: int, name: str) -> None:
        self._set(f"rename link {index} to {name}", index, ifname=_raw(name))

    def set_up(self, index: int, *, up: bool) -> None:
        state = "up" if up else "down"
        self._set(f"set link {index} {state}", index, state=state)

    def set_mtu(self, index: int, mtu: int) -> None:
        self._set(f"set MTU {mtu} on link {index}", index, mtu=mtu)

    def set_mac(self, index: int, mac: str) -> None:
        self._set(f"set MAC {mac} on link {index}", index, address=mac)

    def set_alias(self, index: int, alias: str | None) -> None:
        self._set(f"set the alias of link {index}", index, ifalias=_raw(alias or ""))

    def add_altname(self, index: int, name: str) -> None:
        text = f"add alternative name {name} to link {index}"
        self._call(text, self._route.link, "property_add", index=index, altname=_raw(name))

    def del_altname(self, index: int, name: str) -> None:
        text = f"remove alternative name {name} of link {index}"
        self._call(text, self._route.link, "property_del", index=index, altname=_raw(name))

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
        request: dict[str, Any] = {"dst": dst, "oif": index, **extra}
        request["family"] = socket.AF_INET6 if ":" in dst else socket.AF_INET
        if gateway:
            request["gateway"] = gateway
        else:
            request["scope"] = 253 if request["family"] == socket.AF_INET else _RT_SCOPE_UNIVERSE
        text = f"add route {dst} by link {index}"
        return self._call(text, self._route.route, "add", tolerate=(17,), **request) is not None

    def default_routes(self, *, v6: bool) -> tuple[DefaultRoute, ...]:
        family = socket.AF_INET6 if v6 else socket.AF_INET
        listed = self._call("list routes", self._route.route, "dump", family=family)
        return tuple(
            _default_route(message)
            for message in listed
            if message["dst_len"] == 0
            and message["type"] == _RTN_UNICAST
            and message.get_attr("RTA_TABLE", message["table"]) == _RT_TABLE_MAIN
        )

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


def _raw(text: str) -> bytes:
    """Return the bytes of a name: pyroute2 takes no surrogates, and cuts what is not ASCII."""
    return os.fsencode(text)


def _default_route(message: Any) -> DefaultRoute:
    """Read one; a multipath route is named by its hops alone, so they go back as they came."""
    from hwmgr.links import DefaultRoute

    hops = message.get_attr("RTA_MULTIPATH") or ()
    request: dict[str, Any] = {
        "dst": "::/0" if message["family"] == socket.AF_INET6 else "0.0.0.0/0",
        "family": message["family"],
        "proto": message["proto"],
        "scope": message["scope"],
        "priority": message.get_attr("RTA_PRIORITY"),
        "oif": message.get_attr("RTA_OIF"),
        "gateway": message.get_attr("RTA_GATEWAY"),
        "prefsrc": message.get_attr("RTA_PREFSRC"),
        "flags": message["flags"] & _RTNH_F_ONLINK,
    }
    if hops:
        request["multipath"] = [
            {"oif": hop["oif"], "gateway": hop.get_attr("RTA_GATEWAY"), "hops": hop["hops"]}
            for hop in hops
        ]
    given = {key: value for key, value in request.items() if value is not None}
    return DefaultRoute(
        index=int(message.get_attr("RTA_OIF") or (hops[0]["oif"] if hops else 0)),
        gateway=message.get_attr("RTA_GATEWAY"),
        metric=int(message.get_attr("RTA_PRIORITY") or 0),
        request=given,
    )


def _vf_attributes(change: VFSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    if change.mac is not None:
        yield f"MAC {change.mac}", {"mac": change.mac}
    if change.vlan is not None and change.proto is not VlanProto.DOT1AD:
        yield f"VLAN {change.vlan}", {"vlan": {"vlan": change.vlan, "qos": change.qos or 0}}
    if change.min_rate is not None or change.max_rate is not None:
        rate = {"min_tx_rate": change.min_rate or 0, "max_tx_rate": change.max_rate or 0}
        yield f"rate {rate['min_tx_rate']}-{rate['max_tx_rate']} Mbit/s", {"rate": rate}
    if change.spoofchk is not None:
        yield "spoof check", {"spoofchk": int(change.spoofchk)}
    if change.trust is not None:
        yield "trust", {"trust": int(change.trust)}
    if change.link_state is not None:
        yield "link state", {"link_state": _LINK_STATES.index(change.link_state)}


def _set_vf_vlan(ns_fd: int | None, pf_index: int, vf: int, change: VFSettings) -> None:
    """Send IFLA_VF_VLAN_LIST by hand.

    struct ifla_vf_vlan_info is 16 bytes with its padding and do_setvfinfo() refuses less (EINVAL);
    pyroute2 0.9 encodes the 14 bytes without it.
    """

    def attribute(kind: int, payload: bytes) -> bytes:
        return struct.pack("=HH", len(payload) + 4, kind) + payload

    vlan = change.vlan or 0
    info = struct.pack("=III", vf, vlan, change.qos or 0)
    info += struct.pack(">H2x", _ETHERTYPE[VlanProto.DOT1AD])
    # IFLA_VFINFO_LIST 22, IFLA_VF_INFO 1, IFLA_VF_VLAN_LIST 12, IFLA_VF_VLAN_INFO 1
    body = attribute(22, attribute(1, attribute(12, attribute(1, info))))
    link = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, pf_index, 0, 0)
    rtm_setlink, request_ack = 19, 5
    length = 16 + len(link) + len(body)
    header = struct.pack("=IHHII", length, rtm_setlink, request_ack, 1, 0)
    with (
        entered(ns_fd) if ns_fd is not None else nullcontext(),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as door,
    ):
        door.bind((0, 0))
        door.sendall(header + link + body)
        answer = door.recv(65536)
    (code,) = struct.unpack_from("=i", answer, 16)
    if code:
        raise NetlinkError(f"set 802.1ad VLAN {vlan} of VF {vf} through link {pf_index}", -code)
