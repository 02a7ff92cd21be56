"""How the host itself uses a PF: what a change of it would cut the node off from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.inuse import default_netdevs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwmgr.desired.changes import Change
    from hwmgr.model import Netdev
    from hwmgr.node import Node

_UPPER = "upper_"
# A netdev on a netdev on a netdev: eight is the kernel's own limit (net/core/dev.c, MAX_NEST_DEV).
_MOST_LEVELS = 8


def host_use(node: Node, netdev: Netdev) -> tuple[str, ...]:
    """Say in words what the host uses a netdev for, () for nothing.

    A sysfs tree that is not this kernel's has names that mean something else here.
    """
    if node.sysfs.read_int(f"class/net/{netdev.name}/ifindex") != netdev.index:
        return ()
    master = node.sysfs.link_name(f"class/net/{netdev.name}/master")
    found = [f"it is a port of {master}"] if master else []
    found += [f"it has the address {address}" for address in netdev.addresses]
    above = _above(node, netdev.name)
    found += [f"{name} is on top of it" for name in above if name != master]
    routed = default_netdevs(node.proc)
    for name in (netdev.name, *above):
        if name in routed:
            found.append(f"the node's default route leads through {name}")
    return tuple(found)


def for_the_host(
    label: str, used: Sequence[str], changes: Sequence[Change]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what changes of a PF are to the host: warnings, and by which it would lose the PF."""
    warnings, cuts = [], []
    for change in changes if used else ():
        if change.index is not None or change.attribute in ("module", "autoprobe"):
            continue
        text = f"{change.why.partition(';')[0]}: the host uses {label}: {'; '.join(used)}"
        down = (change.attribute, change.then) == ("up", False)
        if down or change.attribute == "eswitchMode":
            cuts.append(f"{text}; it would lose it")
        else:
            warnings.append(f"{text}; its link may go down for a moment")
    return tuple(warnings), tuple(cuts)


def _above(node: Node, name: str) -> list[str]:
    """Return the netdevs on top of one: bonds, bridges, VLANs, and what is on top of these."""
    found: list[str] = []
    level = [name]
    for _ in range(_MOST_LEVELS):
        level = [
            entry.removeprefix(_UPPER)
            for below in level
            for entry in sorted(node.sysfs.names(f"class/net/{below}"))
            if entry.startswith(_UPPER) and entry.removeprefix(_UPPER) not in found
        ]
        found += level
    return found
