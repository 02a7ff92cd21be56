"""CNI results of every version: checked, normalised, and converted from one to another.

Specification section "Result types". Three families: 0.1 and 0.2, 0.3 and 0.4, 1.x; within
one only the version number differs.
"""

from __future__ import annotations

from dataclasses import dataclass

from multus import version as versions
from multus.addresses import is_v4, parse_cidr, parse_ip
from multus.jsonfields import FieldError, Fields, Json

_FAMILY = {
    "0.1.0": 2,
    "0.2.0": 2,
    "0.3.0": 4,
    "0.3.1": 4,
    "0.4.0": 4,
    "1.0.0": 10,
    "1.1.0": 10,
}
_DNS_LISTS = ("nameservers", "search", "options")
_ROUTE_NUMBERS = ("mtu", "advmss", "priority")
_MISSING = "<nil>"  # what Go prints for an address that was not given


class ResultError(ValueError):
    """A result is not what its version allows, or cannot be said in another version."""


@dataclass(frozen=True, slots=True)
class Result:
    """One result in the form of its own version; ``data`` holds only what that version knows."""

    version: str
    data: Json

    def convert(self, target: str) -> Result:
        """Say the same in another version ("" is 0.1.0); raises ResultError when it cannot be."""
        target = target or versions.OLDEST
        if target not in _FAMILY:
            raise ResultError(f"results of version {target} are not known")
        source_family, family = _FAMILY[self.version], _FAMILY[target]
        data = dict(self.data)
        if source_family != family:
            data = _from_modern(_to_modern(data, source_family), family)
        data.pop("cniVersion", None)
        return Result(target, {"cniVersion": target, **data})


def parse_result(value: object, config_version: str) -> Result:
    """Read the result of a plugin whose configuration has that version.

    The result's own version must be of the same family. Raises ResultError.
    """
    family = _FAMILY.get(config_version or versions.OLDEST)
    if family is None:
        raise ResultError(f"results of version {config_version} are not known")
    try:
        fields = Fields(value, "the result")
        own = fields.text("cniVersion")
        if family == 2 and not own:
            own = versions.OLDEST
        if _FAMILY.get(own) != family:
            raise ResultError(
                f"a result of version {own or 'none'} does not fit a configuration of version "
                f"{config_version or versions.OLDEST}"
            )
        return Result(own, {"cniVersion": own, **_normalise(fields, family)})
    except FieldError as error:
        raise ResultError(str(error)) from error


def _normalise(fields: Fields, family: int) -> Json:
    data: Json = {}
    if family == 2:
        for name in ("ip4", "ip6"):
            if fields.present(name):
                data[name] = _legacy_ip(Fields(fields.mapping(name), name))
    else:
        interfaces = [_interface(item, family) for item in fields.objects("interfaces") or []]
        ips = [_ip(item, family) for item in fields.objects("ips") or []]
        routes = [_route(item) for item in fields.objects("routes") or []]
        for name, items in (("interfaces", interfaces), ("ips", ips), ("routes", routes)):
            if items:
                data[name] = items
    dns = _dns(fields.mapping("dns"))
    # Before 1.0 the member was not optional (containernetworking/cni pkg/types/040).
    if dns or family != 10:
        data["dns"] = dns
    return data


def _legacy_ip(fields: Fields) -> Json:
    data: Json = {"ip": _cidr(fields, "ip")}
    gateway = _address(fields, "gateway")
    if gateway:
        data["gateway"] = gateway
    routes = [_route(item) for item in fields.objects("routes") or []]
    if routes:
        data["routes"] = routes
    return data


def _interface(item: Json, family: int) -> Json:
    fields = Fields(item, "an interface of the result")
    data: Json = {"name": fields.text("name")}
    for name in ("mac", "sandbox", "socketPath", "pciID"):
        if fields.text(name) and (family == 10 or name in ("mac", "sandbox")):
            data[name] = fields.text(name)
    if family == 10 and fields.number("mtu"):
        data["mtu"] = fields.number("mtu")
    return data


def _ip(item: Json, family: int) -> Json:
    fields = Fields(item, "an address of the result")
    data: Json = {"version": fields.text("version")} if family == 4 else {}
    data["address"] = _cidr(fields, "address")
    gateway = _address(fields, "gateway")
    if gateway:
        data["gateway"] = gateway
    if fields.number("interface") is not None:
        data["interface"] = fields.number("interface")
    return data


def _route(item: Json) -> Json:
    fields = Fields(item, "a route of the result")
    data: Json = {"dst": _cidr(fields, "dst")}
    gateway = _address(fields, "gw")
    if gateway:
        data["gw"] = gateway
    for name in _ROUTE_NUMBERS:
        if fields.number(name):
            data[name] = fields.number(name)
    for name in ("table", "scope"):  # 0 is a value there (RT_TABLE_UNSPEC, RT_SCOPE_UNIVERSE)
        if fields.number(name) is not None:
            data[name] = fields.number(name)
    return data


def _dns(value: Json | None) -> Json:
    if value is None:
        return {}
    fields = Fields(value, "dns")
    data: Json = {name: fields.texts(name) for name in _DNS_LISTS if fields.texts(name)}
    if fields.text("domain"):
        data["domain"] = fields.text("domain")
    return data


def _cidr(fields: Fields, name: str) -> str:
    text = fields.value(name)
    if text is None or text == _MISSING:
        return _MISSING
    address = parse_cidr(text) if isinstance(text, str) else None
    if address is None:
        raise ResultError(f"{name!r} in {fields.where} is not an address with its prefix: {text}")
    return address


def _address(fields: Fields, name: str) -> str | None:
    text = fields.text(name)
    if not text:
        return None
    address = parse_ip(text)
    if address is None:
        raise ResultError(f"{name!r} in {fields.where} is not an address: {text}")
    return address


def _to_modern(data: Json, family: int) -> Json:
    """Give any result the 1.x form; addresses keep their ``version`` for the way back."""
    if family != 2:
        return dict(data)
    ips: list[Json] = []
    routes: list[Json] = []
    for name in ("ip4", "ip6"):
        if name in data:
            fields = Fields(data[name], name)
            ip: Json = {"version": name[-1], "address": fields.text("ip")}
            if fields.present("gateway"):
                ip["gateway"] = fields.text("gateway")
            ips.append(ip)
            routes.extend(fields.objects("routes") or [])
    modern: Json = {"ips": ips, "routes": routes, "dns": data.get("dns")}
    return {name: value for name, value in modern.items() if value}


def _from_modern(data: Json, family: int) -> Json:
    fields = Fields(data, "the result")
    if family == 2:
        return _down_to_legacy(fields)
    ips = [dict(ip) for ip in fields.objects("ips") or []]
    for ip in ips:
        own = ip.pop("version", None)
        if family == 4:
            ip["version"] = own or ("4" if is_v4(str(ip["address"])) else "6")
    return _normalise(Fields({**data, "ips": ips}, "the result"), family)


def _down_to_legacy(fields: Fields) -> Json:
    data: Json = {}
    routes = fields.objects("routes") or []
    for ip in fields.objects("ips") or []:
        family = str(ip.get("version") or ("4" if is_v4(str(ip["address"])) else "6"))
        if family not in ("4", "6") or f"ip{family}" in data:
            continue
        legacy: Json = {"ip": ip["address"]}
        if "gateway" in ip:
            legacy["gateway"] = ip["gateway"]
        own = [route for route in routes if is_v4(str(route["dst"])) == (family == "4")]
        if own:
            legacy["routes"] = own
        data[f"ip{family}"] = legacy
    if not data:
        raise ResultError("a result without addresses cannot be said before version 0.3.0")
    data["dns"] = fields.mapping("dns") or {}
    return data
