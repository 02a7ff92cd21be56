"""Where the netdevs of a PCI function are: here, in its owner's namespace, or in a nameless one."""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING

from hwmgr.errors import NamespaceError
from hwmgr.holders import mounted_namespaces
from hwmgr.netns import identity_of, open_namespace
from hwmgr.pci import netdevs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hwmgr.holders import Holders
    from hwmgr.links import Links
    from hwmgr.model import Netdev, NetnsIdentity
    from hwmgr.node import Node

_MARK = "hwmgr"


def mark(address: str, name: str, container_id: str) -> str:
    """Return the alias that an attached netdev carries: it tells its own story (≤ 255 bytes).

    IFLA_IFALIAS survives moves between namespaces, so a netdev can be given back under its old
    name even when every record is lost.
    """
    return f"{_MARK}:{address};name={name};owner={container_id}"[:255]


def is_marked(netdev: Netdev, address: str) -> bool:
    """Tell whether a netdev carries our mark for that function."""
    return (netdev.alias or "").startswith(f"{_MARK}:{address};")


def marked_function(netdev: Netdev) -> str | None:
    """Return the function that our mark on a netdev names, None without one."""
    alias = netdev.alias or ""
    if not alias.startswith(f"{_MARK}:") or ";" not in alias:
        return None
    return alias.removeprefix(f"{_MARK}:").partition(";")[0]


def marked_owner(netdev: Netdev) -> str:
    """Return the container in our mark, as it stands there: a pod can have made it up."""
    return (netdev.alias or "").partition(";owner=")[2]


def marked_name(netdev: Netdev) -> str:
    """Return the name on the host in our mark, as it stands there."""
    return (netdev.alias or "").partition(";name=")[2].partition(";owner=")[0]


def here(node: Node, address: str) -> tuple[Netdev, ...]:
    """Return the function's netdevs in our own namespace, port 0 first."""
    names = netdevs_of(node.sysfs, address)
    if not names:
        return ()
    with node.netlink.links() as links:
        found = [links.find(name) for name in names]
    return tuple(netdev for netdev in found if netdev is not None)


def await_netdevs(node: Node, address: str, seconds: float, expected: int = 1) -> bool:
    """Wait for a function's netdevs here and for udevd to be done with them; tell if they came.

    A dying namespace gives them back from a kernel worker, late. A udevd that is not done with them
    by then is no reason to call them missing.
    """

    def settled() -> bool | None:
        found = here(node, address)
        done = len(found) >= expected and all(node.udev.settled(n.index) for n in found)
        return True if done else None

    return node.udev.wait(settled, seconds) is not None or len(here(node, address)) >= expected


def inside(node: Node, ns_fd: int, address: str) -> tuple[Netdev, ...]:
    """Return the function's netdevs in another namespace, in the order of their index.

    The kernel names the PCI parent of a netdev (IFLA_PARENT_DEV_NAME, Linux 5.14). Our mark counts
    only on a kernel that does not: whoever is root in a pod can put any alias on any netdev there,
    and must not have us take that one home.
    """
    with node.netlink.links(ns_fd) as links:
        return among(node, links, address)


def among(node: Node, links: Links, address: str) -> tuple[Netdev, ...]:
    """Return the function's netdevs in the namespace of open ``links``; see inside."""
    everything = links.list()
    mine = [n for n in everything if n.parent == address]
    if not mine and not _kernel_names_parents(node):
        mine = [n for n in everything if is_marked(n, address)]
    found = [links.get(n.index) for n in mine]
    return tuple(n for n in found if n is not None)


def _kernel_names_parents(node: Node) -> bool:
    with node.netlink.links() as links:
        return any(n.parent for n in links.list())


def open_owner(node: Node, owner: NetnsIdentity, hint: str | None = None) -> int | None:
    """Open the recorded namespace by whatever still leads to it, None when nothing does.

    A path that now stands for another namespace is not taken: inodes and names are recycled.
    """
    # All processes are looked through only when the paths that we were told lead nowhere.
    return _first_of(chain((hint, owner.path), _holders(node, owner)), owner)


def open_kept(owner: NetnsIdentity, holders: Holders, hint: str | None = None) -> int | None:
    """Open the recorded namespace also where nobody lives in it any more; see open_owner.

    A descriptor of some process or another's mount may hold it: no living owner's, so open_owner()
    does not look there.
    """
    held = (holder.path for holder in holders.of((owner.dev, owner.inode)))
    return _first_of(chain((hint, owner.path), held), owner)


def _first_of(paths: Iterable[str | None], owner: NetnsIdentity) -> int | None:
    for path in paths:
        if not path:
            continue
        try:
            fd = open_namespace(path)
        except NamespaceError:
            continue
        if identity_of(path, fd).same_namespace(owner):
            return fd
        os.close(fd)
    return None


def _holders(node: Node, owner: NetnsIdentity) -> Iterator[str]:
    """Yield paths that may lead to a namespace that has lost its name: processes, then mounts."""
    for pid in os.listdir(node.proc):
        if not pid.isdigit():
            continue
        path = f"{node.proc}/{pid}/ns/net"
        try:
            status = os.stat(path)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) == (owner.dev, owner.inode):
            yield path
    for inode, path in mounted_namespaces(f"{node.proc}/self/mountinfo"):
        if inode == owner.inode:
            yield path
