"""Addresses of an in-process delegate by an IPAM plugin, which is run as a program."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwmgr.addressing import Route
from multus import cnitypes
from multus.cnitypes import CNIError, PluginFailedError, PluginNotStartedError
from multus.invoke import find_plugin
from multus.jsonfields import Fields
from multus.result import ResultError, parse_result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multus.delegates import DelegateCall, PluginRunner
    from multus.jsonfields import Json

_ROUTE_NUMBERS = ("mtu", "advmss", "priority", "table", "scope")


@dataclass(frozen=True, slots=True)
class Addresses:
    """What an IPAM plugin assigned, in the words of result version 1.1.0."""

    ips: tuple[Json, ...]
    routes: tuple[Json, ...]
    dns: Json

    def cidrs(self) -> list[str]:
        """Return the addresses as ``ip/prefix``."""
        return [str(ip["address"]) for ip in self.ips]

    def kernel_routes(self) -> list[Route]:
        """Return the routes; one without a gateway goes by the first gateway of its family."""
        found = []
        for route in self.routes:
            dst = str(route["dst"])
            gateway = route.get("gw") or self._gateway(v6=":" in dst)
            numbers = {n: int(str(route[n])) for n in _ROUTE_NUMBERS if route.get(n) is not None}
            found.append(Route(dst, str(gateway) if gateway else None, numbers))
        return found

    def _gateway(self, *, v6: bool) -> object:
        for ip in self.ips:
            if (":" in str(ip["address"])) == v6 and ip.get("gateway"):
                return ip["gateway"]
        return None


class Ipam:
    """Asks the IPAM plugin that a configuration names; it gets the same environment and stdin."""

    def __init__(self, plugins: PluginRunner, name: str) -> None:
        self._plugins = plugins
        self._name = name

    def locate(self, call: DelegateCall) -> None:
        """Make sure that the plugin can be found; raises PluginNotStartedError."""
        try:
            find_plugin(self._name, call.path)
        except PluginNotStartedError as error:
            raise error.within("IPAM") from error

    def add(self, call: DelegateCall) -> Addresses:
        """Have addresses assigned; raises CNIError with the plugin's own code."""
        with _reported():
            raw = self._plugins.add(self._call(call, "ADD"))
        version = Fields(call.conf, "the configuration").text("cniVersion")
        try:
            result = parse_result(raw, version).convert("1.1.0")
        except ResultError as error:
            raise CNIError(cnitypes.INTERNAL, f"IPAM plugin {self._name}: {error}") from error
        data = result.data
        ips, routes, dns = data.get("ips"), data.get("routes"), data.get("dns")
        if not isinstance(ips, list) or not ips:
            raise CNIError(cnitypes.INTERNAL, f"IPAM plugin {self._name} assigned no address")
        return Addresses(
            ips=tuple(ips),
            routes=tuple(routes) if isinstance(routes, list) else (),
            dns=dns if isinstance(dns, dict) else {},
        )

    def check(self, call: DelegateCall) -> None:
        """Have the plugin verify its assignment; raises CNIError."""
        with _reported():
            self._plugins.check(self._call(call, "CHECK"))

    def delete(self, call: DelegateCall) -> None:
        """Give the addresses back; raises CNIError."""
        with _reported():
            self._plugins.delete(self._call(call, "DEL"))

    def gc(self, call: DelegateCall) -> None:
        """Have addresses of no valid attachment freed; raises CNIError."""
        with _reported():
            self._plugins.gc(self._call(call, "GC"))

    def status(self, call: DelegateCall) -> None:
        """Ask whether addresses can be assigned; raises CNIError."""
        with _reported():
            self._plugins.status(self._call(call, "STATUS"))

    def _call(self, call: DelegateCall, verb: str) -> DelegateCall:
        """Return the call for the IPAM plugin: an ADD that is undone asks for DEL."""
        return replace(call, plugin=self._name, command=verb)


@contextmanager
def _reported() -> Iterator[None]:
    """Say of a plugin that could not be run that it failed: its caller, the delegate, has run."""
    try:
        yield
    except PluginNotStartedError as error:
        raise PluginFailedError(error.code, error.msg, error.details) from error
