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
                for gateway in gateways:
                    _replace(links, netdev.index, gateway)
        finally:
            os.close(fd)


def _replace(links: Links, index: int, gateway: str) -> None:
    """Replace the default routes of a gateway's family by one; all of it or nothing."""
    dst = "::/0" if ":" in gateway else "0.0.0.0/0"
    with ExitStack() as undo:
        for route in links.default_routes(v6=":" in gateway):
            links.remove_default_route(route)
            undo.callback(_putting_back(links, route))
        # The old ones are gone, so the kernel cannot say that there is one already.
        try:
            added = links.add_route(index, dst, gateway, {})
        except NetlinkError as error:
            text = f"add default route by gateway {gateway}, which the network must reach"
            raise NetlinkError(text, error.errno) from error
        if not added:
            raise NetlinkError(f"add default route by gateway {gateway}", _EEXIST)
        undo.pop_all()


def _putting_back(links: Links, route: DefaultRoute) -> Callable[[], None]:
    def put_back() -> None:
        links.add_default_route(route)

    return put_back
