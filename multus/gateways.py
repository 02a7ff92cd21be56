"""Default routes of a pod in words: which network has them, and what the results say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multus.addresses import is_v4, parse_cidr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multus.jsonfields import Json

_DEFAULTS = {"0.0.0.0/0": True, "::/0": False}  # canonical spelling: is it IPv4?


class GatewayError(ValueError):
    """The networks of a pod cannot all be its way out."""


@dataclass(frozen=True, slots=True)
class GatewayFilter:
    """Which families of default routes one network must leave to another."""

    v4: bool
    v6: bool


def filters(lists: Sequence[Sequence[str] | None]) -> list[GatewayFilter]:
    """Return for each network what multus-cni saves of the pod's default-route requests.

    Raises GatewayError when a family has more than one gateway: that would need multipath routes.
    """
    wanted = [gateway for gateways in lists for gateway in gateways or () if gateway]
    for family, name in ((True, "IPv4"), (False, "IPv6")):
        found = [gateway for gateway in wanted if is_v4(gateway) is family]
        if len(found) > 1:
            raise GatewayError(
                f"default-route names {len(found)} {name} gateways ({', '.join(found)}); a pod "
                "has one"
            )
    return [
        GatewayFilter(
            v4=not any(is_v4(gateway) for gateway in gateways or () if gateway),
            v6=not any(not is_v4(gateway) for gateway in gateways or () if gateway),
        )
        for gateways in lists
    ]


def after(results: Sequence[Json], lists: Sequence[Sequence[str] | None]) -> list[Json]:
    """Return the results of a pod's networks with the truth about its default routes.

    In a family that some network has a gateway for, that network has the only default route.
    """
    wanted = [gateway for gateways in lists for gateway in gateways or () if gateway]
    v4, v6 = any(map(is_v4, wanted)), any(not is_v4(gateway) for gateway in wanted)
    told = []
    for result, gateways in zip(results, lists, strict=True):
        kept = without_defaults(result, v4=v4, v6=v6)
        told.append(with_defaults(kept, [gateway for gateway in gateways or () if gateway]))
    return told


def without_defaults(result: Json, *, v4: bool, v6: bool) -> Json:
    """Return a result of any version without its default routes of the given families."""

    def stays(route: object) -> bool:
        family = default_family(route)
        return family is None or not (v4 if family else v6)

    changed = dict(result)
    routes = result.get("routes")
    if isinstance(routes, list):
        changed["routes"] = [route for route in routes if stays(route)]
    for key in ("ip4", "ip6"):
        part = result.get(key)
        if isinstance(part, dict) and isinstance(part.get("routes"), list):
            changed[key] = {**part, "routes": [route for route in part["routes"] if stays(route)]}
    return changed


def with_defaults(result: Json, gateways: Sequence[str]) -> Json:
    """Return a result of any version with a default route by each gateway added.

    0.1.0 and 0.2.0 keep routes with the address of their family; without one there is no room.
    """
    changed = dict(result)
    old = str(result.get("cniVersion") or "0.1.0") in ("0.1.0", "0.2.0")
    for gateway in gateways:
        route: Json = {"dst": "0.0.0.0/0" if is_v4(gateway) else "::/0", "gw": gateway}
        if not old:
            changed["routes"] = [*_routes(changed), route]
            continue
        key = "ip4" if is_v4(gateway) else "ip6"
        part = changed.get(key)
        if isinstance(part, dict):
            changed[key] = {**part, "routes": [*_routes(part), route]}
    return changed


def default_family(route: object) -> bool | None:
    """Tell whether a route is the IPv4 default (True), the IPv6 one (False), or none (None)."""
    dst = route.get("dst") if isinstance(route, dict) else None
    return _DEFAULTS.get(parse_cidr(dst) or "") if isinstance(dst, str) else None


def _routes(part: Json) -> list[object]:
    routes = part.get("routes")
    return routes if isinstance(routes, list) else []
