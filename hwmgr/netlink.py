"""The only module that speaks rtnetlink (by pyroute2): netdevs, addresses, VF settings of a PF.

A ``Links`` (hwmgr.links) is bound to one namespace for its whole life. pyroute2 is imported when
the first one is opened, since it costs more than the rest of a call together.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from hwmgr import linkaddresses
from hwmgr.errors import HwmgrError, NetlinkError
from hwmgr.links import DefaultRoute
from hwmgr.model import LinkState, Netdev, VFSettings, VlanProto
from hwmgr.netns import entered, identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hwmgr.links import Links

_OWN_NAMESPACE = "/proc/thread-self/ns/net"
_IFF_UP = 1
_IFF_RUNNING = 0x40
_RTMGRP_LINK = 1
# RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS (include/uapi/linux/rtnetlink.h). Without the second,
# per-VF counters make the answer of a PF with many VFs larger than a u16 attribute can be.
_EXT_MASK = 1 | 8
_RT_SCOPE_UNIVERSE = 0
_RT_TABLE_MAIN = 254
_RTN_UNICAST = 1
_RTNH_F_ONLINK = 4
_ETHERTYPE = {VlanProto.DOT1Q: 0x8100, VlanProto.DOT1AD: 0x88A8}
_LINK_STATES = (LinkState.AUTO, LinkState.ENABLE, LinkState.DISABLE)
_UNSET = 0xFFFFFFFF  # rtnl_fill_vfinfo() starts from memset(-1): the driver did not say


class KernelNetlink:
    """The kernel's rtnetlink.

    ``warm``: every thread keeps the socket of its own namespace open, for a process that lives
    long. Those of other namespaces are opened each time.
    """

    def __init__(self, *, warm: bool = False) -> None:
        self._kept: Any = None
        if warm:
            import threading

            self._kept = threading.local()

    @contextmanager
    def links(self, ns_fd: int | None = None) -> Iterator[Links]:
        """See hwmgr.links.Netlink. A socket belongs to the namespace in which it was opened."""
        if ns_fd is None and self._kept is not None:
            route = self._of_this_thread()
            if route is not None:
                try:
                    yield _KernelLinks(route, None)
                except HwmgrError:
                    raise  # a refusal, which leaves the socket as it was
                except BaseException:
                    self._kept.route = None
                    route.close()
                    raise
                return
        from pyroute2 import IPRoute

        with entered(ns_fd) if ns_fd is not None else nullcontext():
            route = IPRoute()
        try:
            yield _KernelLinks(route, ns_fd)
        finally:
            route.close()

    def _of_this_thread(self) -> Any:
        """Return the thread's socket, None where the thread is not where it opened that.

        pyroute2's sockets are for one thread of one process. In a fork the parent's is left alone:
        closing it would reach into what both share.
        """
        from pyroute2 import IPRoute

        process, here = os.getpid(), identity(_OWN_NAMESPACE)
        kept = getattr(self._kept, "route", None)
        if kept is None or self._kept.process != process:
            kept = self._kept.route = IPRoute()
            self._kept.process, self._kept.namespace = process, here
        return kept if self._kept.namespace == here else None


class _KernelLinks:
    def __init__(self, route: Any, ns_fd: int | None) -> None:
        self._route = route
        self._ns_fd = ns_fd

    def find(self, name: str) -> Netdev | None:
        key = "altname" if len(name.encode()) > 15 else "ifname"
        found = self._query("look up " + name, "get", **{key: name})
        if not found and key == "ifname":
            found = self._query("look up " + name, "get", altname=name)
        return self._with_addresses(found)

    def get(self, index: int) -> Netdev | None:
        return self._with_addresses(self._query(f"look up link {index}", "get", index=index))

    def list(self) -> list[Netdev]:
        return [_netdev(m, ()) for m in self._call("list links", self._route.link, "dump")]

    def addresses(self) -> dict[int, tuple[str, ...]]:
        found: dict[int, tuple[str, ...]] = {}
        for message in self._call("list addresses", self._route.addr, "dump"):
            if message["scope"] == _RT_SCOPE_UNIVERSE:
                index = int(message["index"])
                found[index] = (*found.get(index, ()), _address(message))
        return found

    def vf_settings(self, pf_index: int) -> dict[int, VFSettings]:
        found = self._query(f"ask link {pf_index} for its VFs", "get", index=pf_index)
        vfs = found[0].get_attr("IFLA_VFINFO_LIST") if found else None
        settings = {}
        for vf in vfs.get_attrs("IFLA_VF_INFO") if vfs else []:
            mac = vf.get_attr("IFLA_VF_MAC")
            if mac:
                settings[int(mac["vf"])] = _vf_settings(vf)
        return settings

    def set_vf(self, pf_index: int, vf: int, change: VFSettings) -> None:
        if change.proto is VlanProto.DOT1AD:
            _set_vf_vlan(self._ns_fd, pf_index, vf, change)
        for what, value in _vf_attributes(change):
            message = {"vf": vf, **value}
            text = f"set {what} of VF {vf} through link {pf_index}"
            self._call(text, self._route.link, "set", index=pf_index, vf=message)

    def move(self, index: int, ns_fd: int, name: str) -> None:
        text = f"move link {index} to another namespace as {name}"
        self._call(text, self._route.link, "set", index=index, net_ns_fd=ns_fd, ifname=name)

    def rename(self, index: int, name: str) -> None:
        self._set(f"rename link {index} to {name}", index, ifname=name)

    def set_up(self, index: int, *, up: bool) -> None:
        state = "up" if up else "down"
        self._set(f"set link {index} {state}", index, state=state)

    def set_mtu(self, index: int, mtu: int) -> None:
        self._set(f"set MTU {mtu} on link {index}", index, mtu=mtu)

    def set_mac(self, index: int, mac: str) -> None:
        self._set(f"set MAC {mac} on link {index}", index, address=mac)

    def set_alias(self, index: int, alias: str | None) -> None:
        self._set(f"set the alias of link {index}", index, ifalias=alias or "")

    def add_altname(self, index: int, name: str) -> None:
        text = f"add alternative name {name} to link {index}"
        self._call(text, self._route.link, "property_add", index=index, altname=name)

    def del_altname(self, index: int, name: str) -> None:
        text = f"remove alternative name {name} of link {index}"
        self._call(text, self._route.link, "property_del", index=index, altname=name)

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
            while True:
                found = self._query(f"look up link {index}", "get", index=index)
                if found and found[0]["flags"] & _IFF_RUNNING:
                    return True
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not select.select([events], [], [], remaining)[0]:
                    return False
                events.recv(65536)

    def _set(self, text: str, index: int, **change: Any) -> None:
        self._call(text, self._route.link, "set", index=index, **change)

    def _query(self, text: str, verb: str, **request: Any) -> Sequence[Any]:
        found = self._call(
            text, self._route.link, verb, tolerate=(19,), ext_mask=_EXT_MASK, **request
        )
        return list(found or ())

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

    def _with_addresses(self, found: Sequence[Any]) -> Netdev | None:
        if not found:
            return None
        return _netdev(found[0], linkaddresses.of_link(self._ns_fd, int(found[0]["index"])))


def _address(message: Any) -> str:
    ip = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return f"{ip}/{message['prefixlen']}"


def _default_route(message: Any) -> DefaultRoute:
    """Read one; a multipath route is named by its hops alone, so they go back as they came."""
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


def _netdev(message: Any, addresses: tuple[str, ...]) -> Netdev:
    properties = message.get_attr("IFLA_PROP_LIST")
    return Netdev(
        index=int(message["index"]),
        name=message.get_attr("IFLA_IFNAME"),
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=int(message.get_attr("IFLA_MTU") or 0),
        up=bool(message["flags"] & _IFF_UP),
        altnames=tuple(properties.get_attrs("IFLA_ALT_IFNAME")) if properties else (),
        alias=message.get_attr("IFLA_IFALIAS"),
        master=message.get_attr("IFLA_MASTER"),
        # Linux 5.14+: the PCI address, also where no sysfs is mounted for the namespace.
        parent=message.get_attr("IFLA_PARENT_DEV_NAME"),
        addresses=addresses,
    )


def _vf_settings(vf: Any) -> VFSettings:
    def number(attribute: str, key: str) -> int | None:
        value = vf.get_attr(attribute)
        return None if value is None or value[key] == _UNSET else int(value[key])

    def flag(attribute: str, key: str) -> bool | None:
        value = number(attribute, key)
        return None if value is None else bool(value)

    state = number("IFLA_VF_LINK_STATE", "link_state")
    vlans = vf.get_attr("IFLA_VF_VLAN_LIST")
    ethertype = vlans.get_attr("IFLA_VF_VLAN_INFO")["proto"] if vlans else None
    proto = VlanProto.DOT1AD if ethertype == _ETHERTYPE[VlanProto.DOT1AD] else VlanProto.DOT1Q
    return VFSettings(
        mac=vf.get_attr("IFLA_VF_MAC")["mac"],
        vlan=number("IFLA_VF_VLAN", "vlan"),
        qos=number("IFLA_VF_VLAN", "qos"),
        proto=proto,
        min_rate=number("IFLA_VF_RATE", "min_tx_rate"),
        max_rate=number("IFLA_VF_RATE", "max_tx_rate"),
        spoofchk=flag("IFLA_VF_SPOOFCHK", "spoofchk"),
        trust=flag("IFLA_VF_TRUST", "trust"),
        link_state=_LINK_STATES[state] if state in (0, 1, 2) else None,
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
