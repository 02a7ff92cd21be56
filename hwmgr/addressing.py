"""Addresses and routes of an attached netdev, inside its container's namespace."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr import announce
from hwmgr.errors import NetlinkError
from hwmgr.netns import entered, open_namespace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hwmgr.node import Node

# As long as sriov-cni waits for carrier before it announces addresses.
_CARRIER_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Route:
    """A route by the attached netdev; ``gateway`` None: on link.

    ``extra`` has rtnetlink's own names: mtu, advmss, priority, table, scope.
    """

    dst: str
    gateway: str | None
    extra: Mapping[str, int]


def configure(
    node: Node, netns_path: str, ifname: str, addresses: Sequence[str], routes: Sequence[Route]
) -> list[str]:
    """Add addresses (``ip/prefix``) and routes, and announce the addresses to the neighbours.

    Returns the destinations that the namespace had a route for already: those routes stay. Raises
    NamespaceError, NetlinkError.
    """
    fd = open_namespace(netns_path)
    try:
        _neighbour_settings(fd, ifname)
        with node.netlink.links(fd) as links:
            netdev = links.find(ifname)
            if netdev is None:
                raise NetlinkError(f"{ifname} is not in {netns_path}", 19)
            links.set_up(netdev.index, up=True)
            for address in addresses:
                links.add_address(netdev.index, address)
            kept = [
                route.dst
                for route in routes
                if not links.add_route(netdev.index, route.dst, route.gateway, route.extra)
            ]
            if addresses:
                links.wait_running(netdev.index, _CARRIER_SECONDS)
        for problem in announce.announce(fd, ifname, netdev.mac, addresses):
            node.log(f"{ifname}: {problem}")
    finally:
        os.close(fd)
    return kept


def _neighbour_settings(fd: int, ifname: str) -> None:
    """Have the kernel tell neighbours of later changes, and use an IPv6 address at once.

    /proc/sys/net shows the namespace of the thread that opens it. A kernel without IPv6 has no such
    files, which is no reason to fail.
    """
    with entered(fd):
        for path in (
            f"/proc/sys/net/ipv4/conf/{ifname}/arp_notify",
            f"/proc/sys/net/ipv6/conf/{ifname}/ndisc_notify",
            f"/proc/sys/net/ipv6/conf/{ifname}/optimistic_dad",
        ):
            try:
                with open(path, "w", encoding="ascii") as file:
                    file.write("1")
            except OSError:
                continue
