"""Steps on one netdev: hand it to a namespace, bring it home, give it back its attributes."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr.errors import NameTaken, NetlinkError

if TYPE_CHECKING:
    from hwmgr.links import Links
    from hwmgr.model import Netdev
    from hwmgr.node import Node

_MAC_SECONDS = 2.0


def hand_over(node: Node, netdev: Netdev, ns_fd: int, there: Links, name: str, alias: str) -> None:
    """Move a netdev into a namespace (``there``: its links) under a new name, marked by ``alias``.

    Raises NameTaken before anything is changed when the name exists there. Alternative names are
    taken off first: one that exists in the target makes the kernel refuse the move (EEXIST), and
    the host's names mean nothing in a pod.
    """
    if there.find(name) is not None:
        raise NameTaken(name, "the container's namespace")
    with node.netlink.links() as links:
        links.set_alias(netdev.index, alias)
        node.checkpoint("attach.marked")
        for altname in netdev.altnames:
            links.del_altname(netdev.index, altname)
        node.checkpoint("attach.altnames")
        links.move(netdev.index, ns_fd, name)
    node.checkpoint("attach.moved")


def bring_home(node: Node, netdev: Netdev, ns_fd: int, home_fd: int, name: str) -> None:
    """Move a netdev from a namespace into ours, under ``name`` where that is free.

    The kernel moves before it renames: with the name taken it arrives under the pod's name, or is
    refused when that is taken too; then it comes as ``hw<index>``, which nobody else uses.
    """
    with node.netlink.links(ns_fd) as links:
        # A later name of the pod's own must not stop the move (an altname that the host has).
        for altname in netdev.altnames:
            links.del_altname(netdev.index, altname)
        if netdev.up:
            links.set_up(netdev.index, up=False)
        try:
            links.move(netdev.index, home_fd, name)
        except NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise
            if links.get(netdev.index) is not None:
                links.move(netdev.index, home_fd, f"hw{netdev.index}")


def give_back(links: Links, netdev: Netdev, before: Netdev) -> list[str]:
    """Give a netdev in our namespace the attributes it had; return what could not be, in words."""
    problems: list[str] = []

    def attempt(wrong: bool, change: object, *arguments: object, **named: object) -> None:
        if not wrong:
            return
        try:
            change(*arguments, **named)  # type: ignore[operator]
        except NetlinkError as error:
            problems.append(str(error))

    index = netdev.index
    renamed = netdev.name != before.name
    # Before Linux 6.3 an interface that is up cannot be renamed (EBUSY).
    attempt(netdev.up and (renamed or not before.up), links.set_up, index, up=False)
    if renamed and before.name in netdev.altnames:
        attempt(True, links.del_altname, index, before.name)
        netdev = replace(netdev, altnames=tuple(a for a in netdev.altnames if a != before.name))
    attempt(renamed, links.rename, index, before.name)
    attempt(before.mtu not in (0, netdev.mtu), links.set_mtu, index, before.mtu)
    for altname in netdev.altnames:
        attempt(altname not in before.altnames, links.del_altname, index, altname)
    for altname in before.altnames:
        if altname not in netdev.altnames and altname != before.name:
            problems += _add_altname(links, index, altname)
    attempt(netdev.alias != before.alias, links.set_alias, index, before.alias)
    attempt(before.up and (renamed or not netdev.up), links.set_up, index, up=True)
    # Setting it down for the new name has cost it its IPv6 addresses, so look again.
    present = links.get(index) if before.addresses else None
    for address in before.addresses:
        missing = present is None or address not in present.addresses
        attempt(missing, links.add_address, index, address)
    return problems


def _add_altname(links: Links, index: int, altname: str) -> list[str]:
    try:
        links.add_altname(index, altname)
    except NetlinkError as error:
        found = links.get(index)
        # udevd adds the names of its policy to a netdev that comes back, and may be faster.
        if found is None or altname not in (*found.altnames, found.name):
            return [str(error)]
    return []


def set_mac(node: Node, links: Links, index: int, mac: str) -> None:
    """Set the effective MAC and wait until the driver shows it (iavf changes it later).

    Raises NetlinkError, EADDRNOTAVAIL when the PF has pinned another one.
    """
    links.set_mac(index, mac)

    def taken() -> bool | None:
        found = links.get(index)
        return True if found is not None and found.mac == mac else None

    if node.udev.wait(taken, _MAC_SECONDS) is None:
        raise NetlinkError(f"link {index} did not take MAC {mac}", errno.EADDRNOTAVAIL)
