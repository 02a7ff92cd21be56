"""Gratuitous ARP and unsolicited neighbour advertisement: the address has moved here."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from hwmgr.netns import entered

if TYPE_CHECKING:
    from collections.abc import Sequence

_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_ALL_NODES = "ff02::1"
_NA_TYPE = 136
_NA_OVERRIDE = 0x20000000
_TARGET_LINK_LAYER = 2
_HOP_LIMIT = 255  # RFC 4861 §7.1.2: receivers drop any other


def announce(ns_fd: int, ifname: str, mac: str, addresses: Sequence[str]) -> list[str]:
    """Announce each ``ip/prefix``; return what could not be sent, in words: nothing depends on it.

    Each address is tried, whatever happened to the one before.
    """
    problems = []
    for address in addresses:
        ip = address.partition("/")[0]
        try:
            with entered(ns_fd):
                if ":" in ip:
                    _send_advertisement(ifname, mac, ip)
                else:
                    _send_arp(ifname, mac, ip)
        except OSError as error:
            problems.append(f"announcing {ip}: {error.strerror}")
    return problems


def arp_request(mac: str, ip: str) -> bytes:
    """Return a gratuitous ARP request (RFC 5227 §3): sender and target are the same address."""
    hardware, protocol = _mac_bytes(mac), socket.inet_aton(ip)
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return head + hardware + protocol + _BROADCAST + protocol


def advertisement(mac: str, ip: str) -> bytes:
    """Return an unsolicited neighbour advertisement (RFC 4861 §4.4); checksum by the kernel."""
    head = struct.pack("!BBHI", _NA_TYPE, 0, 0, _NA_OVERRIDE)
    option = struct.pack("!BB", _TARGET_LINK_LAYER, 1) + _mac_bytes(mac)
    return head + socket.inet_pton(socket.AF_INET6, ip) + option


def _send_arp(ifname: str, mac: str, ip: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ARP)) as door:
        door.sendto(arp_request(mac, ip), (ifname, _ETH_P_ARP, 0, 0, _BROADCAST))


def _send_advertisement(ifname: str, mac: str, ip: str) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as door:
        index = socket.if_nametoindex(ifname)
        door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
        door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        door.sendto(advertisement(mac, ip), (_ALL_NODES, 0, 0, index))


def _mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
