"""Pods of a real kubelet whose networks come from multus, there and gone again."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.node import IMAGE, STATUS

if TYPE_CHECKING:
    from tests.cluster.node import ClusterNode

    Json = dict[str, Any]

pytestmark = pytest.mark.cluster
STATIC_PODS = Path("/etc/kubernetes/manifests")


def pod(name: str, **annotations: str) -> Json:
    notes = {f"k8s.v1.cni.cncf.io/{key}": value for key, value in annotations.items()}
    container = {"name": "main", "image": IMAGE, "command": ["sleep", "3600"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": notes},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }


def define(node: ClusterNode, name: str, plugin: str, subnet: str) -> None:
    ipam = {"type": "host-local", "subnet": subnet}
    node.define(name, {"cniVersion": "0.3.1", "name": name, "type": plugin, "ipam": ipam})


def status_of(made: Any) -> list[Json]:
    found: list[Json] = json.loads(made.metadata.annotations[STATUS])
    return found


def test_a_pod_without_annotations(node: ClusterNode) -> None:
    before = node.left()
    made = node.run(pod("plain"))
    assert node.links_of(made) == {"eth0": [made.status.pod_ip]}
    assert made.status.pod_ip.startswith("172.17.2.")
    node.delete(made)
    node.until_left(before)


def test_a_network_of_an_annotation(node: ClusterNode) -> None:
    before = node.left()
    define(node, "more", "ptp", "10.66.0.0/24")
    made = node.run(pod("two", networks="more@data0"))
    links = node.links_of(made)
    assert set(links) == {"eth0", "data0"}
    told = {each["interface"]: each for each in status_of(made)}
    assert {name: each["ips"] for name, each in told.items()} == links
    assert told["eth0"]["default"]
    assert told["data0"]["name"] == "default/more"
    assert links["eth0"] == [made.status.pod_ip]
    reasons = [reason for who, reason, _ in node.events(made) if who == "multus"]
    assert reasons == ["AddedInterface"] * 2
    node.delete(made)
    node.until_left(before)


def test_a_network_that_nobody_defined(node: ClusterNode) -> None:
    before = node.left()
    made = node.schedule(pod("lost", networks="nobody-defined-this"))
    assert "nobody-defined-this" in node.until_event(made, "FailedCreatePodSandBox")
    node.delete(made)
    node.until_left(before)


@pytest.mark.timeout(400)
def test_many_pods_at_once(node: ClusterNode) -> None:
    """Kubelet and multus write to the same pods, and neither undoes what the other wrote."""
    before = node.left()
    define(node, "more", "ptp", "10.66.0.0/24")
    define(node, "wide", "bridge", "10.88.0.0/24")
    names = [f"many-{number}" for number in range(6)]
    with ThreadPoolExecutor(len(names)) as pool:
        running = list(pool.map(node.run, [pod(name, networks="more, wide") for name in names]))
        for made in running:
            told = {each["interface"]: each["ips"] for each in status_of(made)}
            assert told == node.links_of(made)
            assert set(told) == {"eth0", "net1", "net2"}
        list(pool.map(node.delete, running))
    node.until_left(before)


def test_a_static_pod(node: ClusterNode) -> None:
    """Kubelet makes it of a file; the server has a mirror of it, with a uid of its own."""
    before = node.left()
    define(node, "more", "ptp", "10.66.0.0/24")
    file = STATIC_PODS / "static.json"
    unfinished = STATIC_PODS / ".static.json"  # kubelet leaves hidden files alone
    unfinished.write_text(json.dumps(pod("static", networks="more@data0")))
    unfinished.rename(file)
    try:
        mirror = node.until_running(f"static-{node.name}")
        sandbox_uid = mirror.metadata.annotations["kubernetes.io/config.hash"]
        assert sandbox_uid != mirror.metadata.uid
        links = node.links_of_uid(sandbox_uid)
        assert set(links) == {"eth0", "data0"}
        assert {each["interface"]: each["ips"] for each in status_of(mirror)} == links
    finally:
        file.unlink()
    node.until_gone(mirror)
    node.until_left(before)
