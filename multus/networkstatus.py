"""The network-status annotation: what a pod's networks came to (NPWG 1.3, section 5).

Entries and their order of members are as multus-cni writes them, since others compare the text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from multus.gateways import default_family
from multus.jsonfields import Fields, Json
from multus.result import ResultError

if TYPE_CHECKING:
    from multus.result import Result

_DNS = ("nameservers", "domain", "search", "options")


def entries(
    result: Result, name: str, *, default: bool, device_info: Json | None = None
) -> list[Json]:
    """Return the entries of one network, one for each interface in the pod.

    A result that cannot be said in version 1.0.0, or that knows no interface, has none.
    """
    try:
        data = Fields(result.convert("1.0.0").data, "the result")
    except ResultError:
        return []
    interfaces = [Fields(item, "an interface") for item in data.objects("interfaces") or []]
    ips = [Fields(item, "an address") for item in data.objects("ips") or []]
    dns = _dns(data)
    gateways = _gateways(data)
    if len(interfaces) == 1:
        inside = interfaces[0] if interfaces[0].text("sandbox") else None
        addresses = [_plain(ip) for ip in ips]
        return [_entry(name, inside, addresses, default, dns, device_info, gateways)]
    places = [index for index, item in enumerate(interfaces) if item.text("sandbox")]
    if not places:
        return []
    chosen = _default_place(ips, places)
    found = []
    for place in places:
        mine = [
            _plain(ip)
            for ip in ips
            if ip.number("interface") == place
            or (ip.number("interface") is None and place == places[-1])
        ]
        is_default = default and place == chosen
        found.append(_entry(name, interfaces[place], mine, is_default, dns, device_info, gateways))
    return found


def render(all_entries: list[Json]) -> str:
    """Return the annotation's text."""
    objects = [json.dumps(entry, indent=4, ensure_ascii=False) for entry in all_entries]
    return "[" + ",".join(_as_go_escapes(text) for text in objects) + "]"


def _as_go_escapes(text: str) -> str:
    """Escape what Go's encoder escapes in strings, so that the text is the same."""
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _default_place(ips: list[Fields], places: list[int]) -> int:
    """Return which interface is the default: the first with an address and a gateway."""
    for ip in ips:
        place = ip.number("interface")
        if ip.text("gateway") and place in places:
            return place
    return places[0]


def _entry(
    name: str,
    interface: Fields | None,
    addresses: list[str],
    default: bool,
    dns: Json,
    device_info: Json | None,
    gateways: list[str],
) -> Json:
    whole: Json = {
        "name": name,
        "interface": interface.text("name") if interface else "",
        "ips": addresses,
        "mac": interface.text("mac") if interface else "",
        "mtu": interface.number("mtu") if interface else None,
        "default": default,
    }
    entry = {key: value for key, value in whole.items() if value}
    entry["dns"] = dns
    if device_info:
        entry["device-info"] = device_info
    if gateways:
        entry["gateway"] = gateways
    return entry


def _plain(ip: Fields) -> str:
    return ip.text("address").partition("/")[0]


def _dns(data: Fields) -> Json:
    dns = data.mapping("dns") or {}
    return {key: dns[key] for key in _DNS if dns.get(key)}


def _gateways(data: Fields) -> list[str]:
    routes = [Fields(item, "a route") for item in data.objects("routes") or []]
    return [
        route.text("gw")
        for route in routes
        if default_family({"dst": route.text("dst")}) is not None and route.text("gw")
    ]
