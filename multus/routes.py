"""The default routes inside a pod's namespace, as one door to the kernel."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

from hwmgr.errors import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hwmgr.links import DefaultRoute, Links

_EEXIST, _ENODEV = 17, 19


class Routes(Protocol):
    """What the engine asks of a pod's routes."""

    def take_default(self, netns: str, ifname: str, gateways: Sequence[str]) -> None:
        """Make an interface the way out by its gateways, and no other in their families.

        On failure the routes are as before. Raises NamespaceError, NetlinkError.
        """


class KernelRoutes:
    """The kernel's routes."""

    def take_default(self, netns: str, ifname: str, gateways: Sequence[str]) -> None:
        """See Routes.take_default."""
        from hwmgr.netlink import KernelNetlink
        from hwmgr.netns import open_namespace

        fd = open_namespace(netns)
        try:
            with KernelNetlink().links(fd) as links:
                netdev = links.find(ifname)
                if netdev is None:
                    raise NetlinkError(f"set the default route by {ifname}, not there", _ENODEV)
                with ExitStack() as undo:
                    for gateway in gateways:
                        _replace(links, netdev.index, gateway, undo)
                    undo.pop_all()
        finally:
            os.close(fd)


def _replace(links: Links, index: int, gateway: str, undo: ExitStack) -> None:
    """Replace the default routes of a gateway's family by one; ``undo`` takes it all back."""
    v6 = ":" in gateway
    before = links.default_routes(v6=v6)
    undo.callback(_restoring(links, before, v6=v6))
    for route in before:
        links.remove_default_route(route)
    # The old ones are gone, so the kernel cannot say that there is one already.
    try:
        added = links.add_route(index, "::/0" if v6 else "0.0.0.0/0", gateway, {})
    except NetlinkError as error:
        text = f"add default route by gateway {gateway}, which the network must reach"
        raise NetlinkError(text, error.errno) from error
    if not added:
        raise NetlinkError(f"add default route by gateway {gateway}", _EEXIST)


def _restoring(links: Links, before: Sequence[DefaultRoute], *, v6: bool) -> Callable[[], None]:
    def restore() -> None:
        for route in links.default_routes(v6=v6):
            if route not in before:
                links.remove_default_route(route)
        for route in before:
            links.add_default_route(route)

    return restore
