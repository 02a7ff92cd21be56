"""Pods of a real kubelet whose networks come from multus, there and gone again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.node import IMAGE, STATUS

if TYPE_CHECKING:
    from tests.cluster.node import ClusterNode

    Json = dict[str, Any]

pytestmark = pytest.mark.cluster


def pod(name: str, **annotations: str) -> Json:
    notes = {f"k8s.v1.cni.cncf.io/{key}": value for key, value in annotations.items()}
    container = {"name": "main", "image": IMAGE, "command": ["sleep", "3600"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": notes},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }


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
    ipam = {"type": "host-local", "subnet": "10.66.0.0/24"}
    node.define("more", {"cniVersion": "0.3.1", "name": "more", "type": "ptp", "ipam": ipam})
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
