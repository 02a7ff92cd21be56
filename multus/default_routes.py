"""Hand a pod's default routes to the networks that its annotation names for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multus import gateways
from multus.result import Result

if TYPE_CHECKING:
    from multus.chain import Attachment
    from multus.routes import Routes


def wanted(items: list[Attachment]) -> bool:
    """Tell whether any network asks to be the way out."""
    return any(item.delegate.request.gateways for item in items)


def take(routes: Routes, items: list[Attachment], results: list[Result]) -> list[Result]:
    """Set the routes; returns the results with the truth about them, the same where unchanged.

    Raises NamespaceError, NetlinkError.
    """
    if not wanted(items):
        return results
    lists = [item.delegate.request.gateways for item in items]
    for item, gateway_list in zip(items, lists, strict=True):
        if gateway_list:
            routes.take_default(item.netns, item.ifname, gateway_list)
    told = gateways.after([result.data for result in results], lists)
    return [
        before if data == before.data else Result(before.version, data)
        for before, data in zip(results, told, strict=True)
    ]
