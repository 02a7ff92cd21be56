"""The stand-in behaves as the suite says, which a real kube-apiserver passes too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from kubernetes.client import ApiClient, Configuration, CoreV1Api, CustomObjectsApi
from kubernetes.client.exceptions import ApiException
from kubernetes.watch import Watch

from tests.apiserver import ours, suite
from tests.apiserver.server import ApiServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLAIM = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaim",
    "metadata": {"name": "claim", "namespace": "ns1"},
    "spec": {},
    "status": {"allocation": {"devices": {"results": []}}},
}


@pytest.fixture(name="server")
def _server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture(name="client")
def _client(server: ApiServer) -> Iterator[ApiClient]:
    with ApiClient(Configuration(host=server.url)) as client:
        yield client


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda check: check.__name__)
def test_suite(check: suite.Check, client: ApiClient) -> None:
    check(client)


@pytest.mark.parametrize("check", ours.CHECKS, ids=lambda check: check.__name__)
def test_ours(check: ours.Check, client: ApiClient, server: ApiServer, tmp_path: Path) -> None:
    check(client, ours.open_cluster(server.kubeconfig(tmp_path / "kubeconfig")))


def definition(group: str, plural: str, kind: str) -> dict[str, Any]:
    names = {"plural": plural, "kind": kind}
    versions = [{"name": "v1", "served": True, "storage": True}]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
    }


def test_kinds_are_served_once_defined() -> None:
    definitions = [definition("kubernetes.com", "networks", "Network")]
    with ApiServer(networks=False) as server, ApiClient(Configuration(host=server.url)) as client:
        list_networks = CustomObjectsApi(client).list_namespaced_custom_object
        suite.refused(404, list_networks, *suite.FIRST)
        suite.define(client, definitions)
        suite.define(client, definitions)
        suite.keeps_networks_of_2018(client)


def test_third_party_resource() -> None:
    with ApiServer(networks=False) as server, ApiClient(Configuration(host=server.url)) as client:
        api = CustomObjectsApi(client)
        resource = {
            "apiVersion": "extensions/v1beta1",
            "kind": "ThirdPartyResource",
            "metadata": {"name": "network.kubernetes.com"},
            "versions": [{"name": "v1"}],
        }
        api.create_cluster_custom_object("extensions", "v1beta1", "thirdpartyresources", resource)
        suite.keeps_networks_of_2018(client)


def test_devices(server: ApiServer, client: ApiClient) -> None:
    server.add(CLAIM)
    for node in ("node1", "node2"):
        spec: suite.Json = {
            "nodeName": node,
            "driver": "d.example",
            "pool": {"name": node},
            "devices": [],
        }
        server.add({"kind": "ResourceSlice", "metadata": {"name": f"s-{node}"}, "spec": spec})
    api = CustomObjectsApi(client)
    where = ("resource.k8s.io", "v1")
    claim = api.get_namespaced_custom_object(*where, "ns1", "resourceclaims", "claim")
    assert claim["status"] == CLAIM["status"]
    found = api.list_cluster_custom_object(
        *where, "resourceslices", field_selector="spec.nodeName=node2,spec.driver=d.example"
    )
    assert [each["metadata"]["name"] for each in found["items"]] == ["s-node2"]


def test_token(client: ApiClient, server: ApiServer) -> None:
    server.token = "good"
    suite.refused(401, CoreV1Api(client).list_node)
    client.set_default_header("Authorization", "Bearer good")
    assert CoreV1Api(client).list_node().items == []


def test_watch_of_a_forgotten_version(client: ApiClient, server: ApiServer) -> None:
    server.add({"kind": "Node", "metadata": {"name": "node1"}})
    server.store.compact()
    with pytest.raises(ApiException) as caught:
        for _ in Watch().stream(
            CoreV1Api(client).list_node, resource_version="1", timeout_seconds=5
        ):
            pass
    assert caught.value.status == 410


def test_faults_strike_when_they_are_due(client: ApiClient, server: ApiServer) -> None:
    server.add({"kind": "Node", "metadata": {"name": "node1"}})
    server.fail(503, "/api/v1/nodes/*", first=2, times=1)
    read = CoreV1Api(client).read_node
    assert read("node1").metadata.name == "node1"
    suite.refused(503, read, "node1")
    assert read("node1").metadata.name == "node1"
    assert server.asked() == ["GET /api/v1/nodes/node1"] * 3
    assert [each.status for each in server.requests] == [200, 503, 200]


def test_all_of_it_as_a_program(server: ApiServer, tmp_path: Path) -> None:
    """As it is run on a real server."""
    kubeconfig = server.kubeconfig(tmp_path / "kubeconfig")
    definitions = tmp_path / "definitions.json"
    definitions.write_text(json.dumps([definition("kubernetes.com", "networks", "Network")]))
    assert ours.main(kubeconfig, str(definitions)) == 0
