"""The pod's way out, on real kernel routes of both families."""

from __future__ import annotations

import json
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from hwmgr.errors import NamespaceError, NetlinkError
from multus.routes import KernelRoutes

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.functional

ROUTES = KernelRoutes()


class Pod:
    """A namespace with eth0 and net1, both with addresses of both families."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"/run/netns/{name}"

    def ip(self, *words: str) -> str:
        command = ["ip", "-n", self.name, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def defaults(self, family: str) -> list[tuple[str, str, int]]:
        listed = json.loads(self.ip(f"-{family}", "-j", "route", "show", "default"))
        return sorted((r["dev"], r.get("gateway", ""), r.get("metric", 0)) for r in listed)

    def all_routes(self) -> str:
        return "".join(sorted(self.ip("-4", "route") + self.ip("-6", "route")))


@pytest.fixture
def pod() -> Iterator[Pod]:
    name = f"hwmgr-test-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        found = Pod(name)
        for number, ifname in enumerate(("eth0", "net1")):
            found.ip("link", "add", ifname, "type", "veth", "peer", "name", f"{ifname}-peer")
            found.ip("link", "set", f"{ifname}-peer", "up")
            found.ip("link", "set", ifname, "up")
            found.ip("address", "add", f"10.{number}.0.5/24", "dev", ifname)
            found.ip("address", "add", f"fd0{number}::5/64", "dev", ifname, "nodad")
        found.ip("route", "add", "default", "via", "10.0.0.1")
        found.ip("-6", "route", "add", "default", "via", "fd00::1")
        yield found
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


V4_BEFORE = [("eth0", "10.0.0.1", 0)]
V6_BEFORE = [("eth0", "fd00::1", 1024)]  # the kernel's own metric for IPv6


def test_ipv4_alone_leaves_ipv6_alone(pod: Pod) -> None:
    assert (pod.defaults("4"), pod.defaults("6")) == (V4_BEFORE, V6_BEFORE)
    ROUTES.take_default(pod.path, "net1", ["10.1.0.1"])
    assert pod.defaults("4") == [("net1", "10.1.0.1", 0)]
    assert pod.defaults("6") == V6_BEFORE


def test_ipv6_alone_leaves_ipv4_alone(pod: Pod) -> None:
    ROUTES.take_default(pod.path, "net1", ["fd01::1"])
    assert pod.defaults("4") == V4_BEFORE
    assert pod.defaults("6") == [("net1", "fd01::1", 1024)]


def test_both_families(pod: Pod) -> None:
    ROUTES.take_default(pod.path, "net1", ["10.1.0.1", "fd01::1"])
    assert pod.defaults("4") == [("net1", "10.1.0.1", 0)]
    assert pod.defaults("6") == [("net1", "fd01::1", 1024)]


def test_no_gateway_changes_nothing(pod: Pod) -> None:
    before = pod.all_routes()
    ROUTES.take_default(pod.path, "net1", [])
    assert pod.all_routes() == before


def test_a_second_time_is_the_same(pod: Pod) -> None:
    for _ in range(2):
        ROUTES.take_default(pod.path, "net1", ["10.1.0.1", "fd01::1"])
    assert pod.defaults("4") == [("net1", "10.1.0.1", 0)]
    assert pod.defaults("6") == [("net1", "fd01::1", 1024)]


def test_every_other_default_goes_whatever_its_metric_or_netdev(pod: Pod) -> None:
    pod.ip("route", "add", "default", "via", "10.1.0.9", "metric", "300")
    pod.ip("route", "add", "default", "dev", "eth0", "metric", "400")
    pod.ip("-6", "route", "add", "default", "via", "fd01::9", "metric", "300")
    hops = ["nexthop", "via", "10.0.0.2", "nexthop", "via", "10.1.0.2"]
    pod.ip("route", "add", "default", "metric", "500", *hops)
    pod.ip("route", "add", "default", "via", "10.0.0.1", "table", "77")
    ROUTES.take_default(pod.path, "net1", ["10.1.0.1", "fd01::1"])
    assert pod.defaults("4") == [("net1", "10.1.0.1", 0)]
    assert pod.defaults("6") == [("net1", "fd01::1", 1024)]
    assert "10.0.0.1" in pod.ip("route", "show", "table", "77")


@pytest.mark.parametrize("gateways", ["192.0.2.1", "fd99::1", "10.1.0.1 fd99::1"])
def test_a_gateway_out_of_reach_leaves_the_routes_as_they_were(pod: Pod, gateways: str) -> None:
    pod.ip("route", "add", "default", "dev", "net1", "metric", "400")
    hops = ["nexthop", "via", "10.0.0.2", "nexthop", "via", "10.1.0.2", "weight", "3"]
    pod.ip("route", "add", "default", "metric", "500", *hops)
    before = pod.all_routes()
    with pytest.raises(NetlinkError):
        ROUTES.take_default(pod.path, "net1", gateways.split())
    assert pod.all_routes() == before


def test_an_interface_that_is_not_there(pod: Pod) -> None:
    before = pod.all_routes()
    with pytest.raises(NetlinkError):
        ROUTES.take_default(pod.path, "net9", ["10.1.0.1"])
    assert pod.all_routes() == before


def test_a_namespace_that_is_gone() -> None:
    with pytest.raises(NamespaceError):
        ROUTES.take_default("/run/netns/hwmgr-no-such", "net1", ["10.1.0.1"])
