"""Containerd as the caller, an API server that names the networks: selections there and back."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.runtime.cluster import (
    STATUS,
    define,
    make_pod,
    serving,
    start,
    status_of,
    up_in_host,
)
from tests.runtime.cri import CriError, uid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.apiserver.server import ApiServer
    from tests.runtime.rig import Rig

pytestmark = pytest.mark.runtime


@pytest.fixture
def api(rig: Rig) -> Iterator[ApiServer]:
    with serving(rig) as server:
        yield server


def test_the_networks_that_an_annotation_names(rig: Rig, api: ApiServer) -> None:
    define(api, "more", rig.ptp())
    start(rig, api, rig.bridge())
    sandbox = rig.cri.run(make_pod(api, "web", "more@data0"))
    assert rig.addresses(sandbox) == {"eth0": ["10.55.0.2"], "data0": ["10.66.0.2"]}
    found = status_of(api, "web")
    assert [(each["interface"], each["ips"]) for each in found] == [
        ("eth0", ["10.55.0.2"]),
        ("data0", ["10.66.0.2"]),
    ]
    assert [each.get("default", False) for each in found] == [True, False]
    # What was given goes back without the pod, and without a server.
    api.remove("Pod", "web")
    api.down()
    rig.cri.stop(sandbox)
    rig.cri.remove(sandbox)
    assert rig.left() == {}


def dual(rig: Rig, name: str, number: int) -> dict[str, Any]:
    """Return a bridge network of both families that gives its pods default routes."""
    made = rig.bridge(name, isGateway=True, isDefaultGateway=True)
    ranges = [[{"subnet": f"10.{number}.0.0/24"}], [{"subnet": f"fd{number}::/64"}]]
    ipam = {key: value for key, value in made["ipam"].items() if key != "subnet"}
    return {**made, "ipam": {**ipam, "ranges": ranges}}


def defaults(rig: Rig, sandbox: str) -> set[tuple[str, str]]:
    """Return the interfaces and gateways of a sandbox's default routes."""
    enter = ["nsenter", f"--net={rig.cri.netns(sandbox)}", "ip", "-j"]
    found = set()
    for family in ("-4", "-6"):
        listed = subprocess.run(
            [*enter, family, "route", "show", "default"], check=True, capture_output=True
        )
        found |= {(route["dev"], route["gateway"]) for route in json.loads(listed.stdout)}
    return found


@pytest.mark.parametrize(
    ("gateways", "wanted"),
    [
        ([], {("eth0", "10.91.0.1"), ("eth0", "fd91::1")}),
        (["10.92.0.1"], {("net1", "10.92.0.1"), ("eth0", "fd91::1")}),
        (["fd92::1"], {("eth0", "10.91.0.1"), ("net1", "fd92::1")}),
        (["10.92.0.1", "fd92::1"], {("net1", "10.92.0.1"), ("net1", "fd92::1")}),
    ],
    ids=["none", "ipv4", "ipv6", "both"],
)
def test_the_way_out_is_the_one_that_the_pod_asks_for(
    rig: Rig, api: ApiServer, gateways: list[str], wanted: set[tuple[str, str]]
) -> None:
    define(api, "more", {**dual(rig, "more", 92), "isDefaultGateway": False})
    start(rig, api, dual(rig, "first", 91))
    networks = json.dumps([{"name": "more", "default-route": gateways}])
    sandbox = rig.cri.run(make_pod(api, "web", networks))
    assert defaults(rig, sandbox) == wanted
    told = {
        (entry["interface"], gateway)
        for entry in status_of(api, "web")
        for gateway in entry.get("gateway", [])
    }
    assert told == wanted
    rig.cri.stop(sandbox)
    rig.cri.remove(sandbox)
    assert rig.left() == {}


def test_a_gateway_that_nobody_can_reach_fails_the_pod(rig: Rig, api: ApiServer) -> None:
    define(api, "more", {**dual(rig, "more", 92), "isDefaultGateway": False})
    start(rig, api, dual(rig, "first", 91))
    networks = json.dumps([{"name": "more", "default-route": ["192.0.2.1"]}])
    with pytest.raises(CriError, match=r"192\.0\.2\.1"):
        rig.cri.run(make_pod(api, "web", networks))
    assert rig.left() == {}


def test_a_network_that_nobody_defined(rig: Rig, api: ApiServer) -> None:
    start(rig, api, rig.bridge())
    with pytest.raises(CriError, match="missing"):
        rig.cri.run(make_pod(api, "web", "missing"))
    assert rig.cri.sandboxes() == {}
    assert rig.left() == {}


def test_a_server_that_is_away_while_a_pod_starts(rig: Rig, api: ApiServer) -> None:
    """Nothing is left of the attempt; kubelet's next one, with the server back, succeeds."""
    define(api, "more", rig.ptp())
    start(rig, api, rig.bridge())
    wanted = make_pod(api, "web", "more")
    api.down()
    with pytest.raises(CriError):
        rig.cri.run(wanted)
    assert rig.left() == {}
    up_in_host(api, rig)
    sandbox = rig.cri.run(wanted)
    assert set(rig.addresses(sandbox)) == {"eth0", "net1"}
    rig.cri.stop(sandbox)
    rig.cri.remove(sandbox)
    assert rig.left() == {}


def test_the_next_pod_of_that_name_has_a_status_of_its_own(rig: Rig, api: ApiServer) -> None:
    """As a StatefulSet replaces its pods: same name, other uid, the old sandbox still going."""
    define(api, "more", rig.ptp())
    start(rig, api, rig.bridge())
    old = rig.cri.run(make_pod(api, "db-0", "more"))
    api.remove("Pod", "db-0")
    new = rig.cri.run(make_pod(api, "db-0", "more"))
    before = status_of(api, "db-0")
    rig.cri.stop(old)
    rig.cri.remove(old)
    assert status_of(api, "db-0") == before
    assert [each["ips"] for each in before] == [["10.55.0.3"], ["10.66.0.3"]]
    assert set(rig.addresses(new)) == {"eth0", "net1"}
    rig.cri.stop(new)
    rig.cri.remove(new)
    assert rig.left() == {}


def test_a_sandbox_of_a_pod_that_was_replaced_meanwhile(rig: Rig, api: ApiServer) -> None:
    """The annotation belongs to the pod of today: its networks are not for the one of yesterday."""
    define(api, "more", rig.ptp())
    start(rig, api, rig.bridge())
    today = make_pod(api, "db-0", "more")
    with pytest.raises(CriError):
        rig.cri.run(replace(today, uid=uid()))
    assert STATUS not in api.read("Pod", "db-0")["metadata"]["annotations"]
    assert rig.left() == {}


def test_many_pods_at_once(rig: Rig, api: ApiServer) -> None:
    define(api, "more", rig.ptp())
    define(api, "wide", rig.bridge("wide", "10.88.0.0/24"))
    start(rig, api, rig.bridge())
    pods = [make_pod(api, f"pod{number}", "more, wide@data1") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        sandboxes = list(pool.map(rig.cri.run, pods))
        for each, sandbox in zip(pods, sandboxes, strict=True):
            told = {entry["interface"]: entry["ips"] for entry in status_of(api, each.name)}
            assert told == rig.addresses(sandbox)
            assert set(told) == {"eth0", "net1", "data1"}
        list(pool.map(rig.cri.stop, sandboxes))
        list(pool.map(rig.cri.remove, sandboxes))
    assert rig.left() == {}
