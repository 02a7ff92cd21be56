"""Network namespaces other than ours, as facts for doctor: what holds each, what is in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.errors import HwmgrError, NamespaceError
from hwmgr.holders import namespace_holders
from hwmgr.locate import marked_function
from hwmgr.netns import identity_of, open_namespace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwmgr.holders import Holder, NamespaceKey
    from hwmgr.model import Netdev, Record
    from hwmgr.node import Node


@dataclass(frozen=True, slots=True)
class Space:
    """A network namespace: by which path it was entered, what holds it, its netdevs by function.

    ``holders`` is empty where nobody was looked for, since its recorded path leads into it. A
    netdev's function is the parent that the kernel names, else the one that our mark names. One
    that lives but could not be looked into is not ``readable``.
    """

    key: NamespaceKey
    path: str
    holders: tuple[Holder, ...]
    netdevs: dict[str, tuple[Netdev, ...]]
    readable: bool = True


def of_owners(node: Node, records: Iterable[Record], *, parents: bool) -> dict[NamespaceKey, Space]:
    """Return the namespaces of living owners, each entered once by its recorded path.

    ``parents`` tells whether this kernel names the PCI parent of a netdev.
    """
    found: dict[NamespaceKey, Space] = {}
    for record in records:
        netns = record.owner.netns
        key = (netns.dev, netns.inode)
        if record.boot_id == node.boot_id and netns.path and key not in found:
            space = _entered(node, netns.path, key, (), parents=parents)
            if space is not None:
                found[key] = space
    return found


def all_of_them(node: Node, *, parents: bool) -> dict[NamespaceKey, Space]:
    """Return every namespace of the node that can be entered, with its holders, but ours."""
    ours = _own_key()
    found: dict[NamespaceKey, Space] = {}
    for key, holders in namespace_holders(node.proc).items():
        if key == ours:
            continue
        for holder in holders:
            space = _entered(node, holder.path, key, holders, parents=parents)
            if space is not None:
                found[key] = space
                if space.readable:
                    break
    return found


def merged(
    owners: dict[NamespaceKey, Space], scanned: dict[NamespaceKey, Space]
) -> dict[NamespaceKey, Space]:
    """Return both; one that an owner's path leads into stays a named one."""
    return {**scanned, **owners}


def _entered(
    node: Node, path: str, key: NamespaceKey, holders: tuple[Holder, ...], *, parents: bool
) -> Space | None:
    try:
        fd = open_namespace(path)
    except NamespaceError:
        return None
    there = identity_of(path, fd)
    if (there.dev, there.inode) != key:
        os.close(fd)
        return None
    try:
        with node.netlink.links(fd) as links:
            return Space(key, path, holders, _by_function(links.list(), parents=parents))
    except (HwmgrError, OSError) as error:
        # setns(2) is root's; who may only look is told what can be seen without.
        node.log(f"{path}: {error}")
        return Space(key, path, holders, {}, readable=False)
    finally:
        os.close(fd)


def _by_function(netdevs: Iterable[Netdev], *, parents: bool) -> dict[str, tuple[Netdev, ...]]:
    """Sort netdevs by function. A mark counts only where no parent is named (before Linux 5.14):
    whoever is root in a pod can put any alias on a netdev."""
    found: dict[str, tuple[Netdev, ...]] = {}
    for netdev in netdevs:
        function = netdev.parent if parents else marked_function(netdev)
        if function:
            found[function] = (*found.get(function, ()), netdev)
    return found


def _own_key() -> NamespaceKey:
    status = os.stat("/proc/thread-self/ns/net")
    return status.st_dev, status.st_ino
