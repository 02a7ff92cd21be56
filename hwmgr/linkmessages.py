"""What rtnetlink is asked to change and answers, said as pyroute2 or the kernel wants it. Pure."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Any

from hwmgr.model import LinkState, VlanProto

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hwmgr.links import DefaultRoute
    from hwmgr.model import VFSettings

# include/uapi/linux/rtnetlink.h, if_ether.h
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RT_TABLE_MAIN = 254
_RTN_UNICAST = 1
_RTNH_F_ONLINK = 4
_ETHERTYPE_8021AD = 0x88A8
_LINK_STATES = (LinkState.AUTO, LinkState.ENABLE, LinkState.DISABLE)


def raw(text: str) -> bytes:
    """Return the bytes of a name: pyroute2 takes no surrogates, and cuts what is not ASCII."""
    return os.fsencode(text)


def vf_attributes(change: VFSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what to set of a VF, one attribute a message, each with what to call it.

    Not a VLAN of 802.1ad: see ``dot1ad_vlan``.
    """
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


def dot1ad_vlan(pf_index: int, vf: int, change: VFSettings) -> bytes:
    """Return an RTM_SETLINK with IFLA_VF_VLAN_LIST, by hand.

    struct ifla_vf_vlan_info is 16 bytes with its padding and do_setvfinfo() refuses less (EINVAL);
    pyroute2 0.9 encodes the 14 bytes without it.
    """

    def attribute(kind: int, payload: bytes) -> bytes:
        return struct.pack("=HH", len(payload) + 4, kind) + payload

    info = struct.pack("=III", vf, change.vlan or 0, change.qos or 0)
    info += struct.pack(">H2x", _ETHERTYPE_8021AD)
    # IFLA_VFINFO_LIST 22, IFLA_VF_INFO 1, IFLA_VF_VLAN_LIST 12, IFLA_VF_VLAN_INFO 1
    body = attribute(22, attribute(1, attribute(12, attribute(1, info))))
    link = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, pf_index, 0, 0)
    rtm_setlink, request_ack = 19, 5
    length = 16 + len(link) + len(body)
    return struct.pack("=IHHII", length, rtm_setlink, request_ack, 1, 0) + link + body


def error_code(answer: bytes) -> int:
    """Return the errno of an NLMSG_ERROR, 0 for what was done."""
    (code,) = struct.unpack_from("=i", answer, 16)
    return -int(code)


def route_request(
    index: int, dst: str, gateway: str | None, extra: Mapping[str, int]
) -> dict[str, Any]:
    """Return what adds a route by a netdev."""
    request: dict[str, Any] = {"dst": dst, "oif": index, **extra}
    request["family"] = socket.AF_INET6 if ":" in dst else socket.AF_INET
    if gateway:
        request["gateway"] = gateway
    else:
        link = request["family"] == socket.AF_INET
        request["scope"] = _RT_SCOPE_LINK if link else _RT_SCOPE_UNIVERSE
    return request


def is_default_route(message: Any) -> bool:
    """Tell a default route of the main table."""
    return bool(
        message["dst_len"] == 0
        and message["type"] == _RTN_UNICAST
        and message.get_attr("RTA_TABLE", message["table"]) == _RT_TABLE_MAIN
    )


def default_route(message: Any) -> DefaultRoute:
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
        request=given,
    )
