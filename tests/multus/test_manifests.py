"""What a cluster is given: definitions that keep every member, rights for everything asked."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import pytest

from multus import manifests
from multus.api.cluster import Cluster
from multus.api.clusterapi import ApiError
from tests.multus.fake_api import FakeApi
from tests.multus.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

_VERBS = {"GET": "get", "PATCH": "patch", "POST": "create"}


@pytest.mark.parametrize("crd", manifests.crds(), ids=lambda crd: str(crd["metadata"]["name"]))
def test_definitions_are_what_apiextensions_v1_takes(crd: Any) -> None:
    spec = crd["spec"]
    assert crd["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
    assert [version["name"] for version in spec["versions"] if version["storage"]] == ["v1"]
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        assert schema["type"] == "object"
        assert schema["x-kubernetes-preserve-unknown-fields"] is True


def test_members_of_each_generation_are_typed() -> None:
    found: dict[str, Any] = {}
    for crd in manifests.crds():
        whole: Any = crd
        schema = whole["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        found[whole["spec"]["group"]] = schema["properties"]
    assert set(found["kubernetes.com"]) == {"plugin", "args"}
    assert found["k8s.cni.cncf.io"]["spec"]["properties"]["config"] == {"type": "string"}
    assert "plugin" in found["kubernetes.cni.cncf.io"]["spec"]["properties"]


def test_the_account_is_where_it_was_asked_for() -> None:
    account, role, binding = (dict[str, Any](obj) for obj in manifests.rbac("cni", "node"))
    assert account["metadata"] == {"name": "node", "namespace": "cni"}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "node", "namespace": "cni"}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


ASKED: dict[str, Callable[[Cluster], object]] = {
    "pod": lambda cluster: cluster.pod("ns1", "pod1"),
    "network_attachment": lambda cluster: cluster.network_attachment("ns1", "net1"),
    "network of 2018": lambda cluster: cluster.network("ns1", "net1"),
    "network": lambda cluster: cluster.network("ns1", "net1", "kubernetes.cni.cncf.io"),
    "resource_claim": lambda cluster: cluster.resource_claim("ns1", "claim"),
    "resource_slices": lambda cluster: cluster.resource_slices("node1", "driver"),
    "annotate": lambda cluster: cluster.annotate("ns1", "pod1", "uid1", "key", "text"),
    "event": lambda cluster: cluster.event(
        {"metadata": {"namespace": "ns1", "name": "pod1", "uid": "uid1"}}, "Normal", "A", "text"
    ),
}


@pytest.mark.parametrize("method", ASKED)
def test_everything_that_is_asked_is_allowed(method: str) -> None:
    api = FakeApi()
    api.put_pod()
    api.objects["/apis/resource.k8s.io"] = {"preferredVersion": {"version": "v1"}}
    # Most of the objects are missing: what counts is what was asked.
    with contextlib.suppress(ApiError):
        ASKED[method](Cluster(api, FakeClock()))
    requests = [_right(line) for line in api.requests]
    assert [right for right in requests if right is not None]
    assert set(requests) <= {*_allowed(), None}


def _allowed() -> set[tuple[str, str, str]]:
    role: Any = manifests.rbac()[1]
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _right(request: str) -> tuple[str, str, str] | None:
    """Return group, resource and verb of a request; None for what every account may ask."""
    method, path = request.split()[:2]
    match = re.match(
        r"/(?:api|apis/(?P<group>[^/]+))/v[^/]+/(?P<ns>namespaces/[^/]+/)?(?P<kind>[^/]+)"
        r"(?P<name>/[^/]+)?(?P<sub>/[^/]+)?$",
        path,
    )
    if match is None:
        return None
    verb = _VERBS[method] if match["name"] or method != "GET" else "list"
    return match["group"] or "", match["kind"] + (match["sub"] or ""), verb
