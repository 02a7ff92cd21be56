"""Containerd as the caller, an API server that names the networks: selections there and back."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.netns import entered
from tests.apiserver.server import ApiServer
from tests.runtime.cri import CriError, Pod, uid
from tests.runtime.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = [
    pytest.mark.runtime,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces, mounts, cgroups"),
    pytest.mark.skipif(shutil.which("containerd") is None, reason="scripts/bootstrap runtime"),
]
NETWORKS = "k8s.v1.cni.cncf.io/networks"
STATUS = "k8s.v1.cni.cncf.io/network-status"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as made:
        yield made


@pytest.fixture
def api(rig: Rig) -> Iterator[ApiServer]:
    """A server that multus reaches: its socket belongs to the namespace in which it was opened."""
    server = ApiServer()
    with entered(rig.host.fd):
        server.up()
    yield server
    server.down()


def start(rig: Rig, api: ApiServer) -> None:
    """Start containerd with a network whose pods may select more of them."""
    kubeconfig = api.kubeconfig(rig.folder / "kubeconfig")
    rig.network(rig.bridge(), kubeconfig=kubeconfig)
    rig.containerd.start()


def define(api: ApiServer, name: str, conf: Mapping[str, Any]) -> None:
    """Add a NetworkAttachmentDefinition."""
    api.add(
        {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"config": json.dumps(conf)},
        }
    )


def pod(api: ApiServer, name: str, networks: str) -> Pod:
    """Add a pod that selects networks; return what kubelet would tell the runtime of it."""
    annotations = {NETWORKS: networks}
    made = api.add(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "annotations": annotations},
            "spec": {"containers": [{"name": "main", "image": "localhost/busybox:1"}]},
        }
    )
    return Pod(name, uid=made["metadata"]["uid"], annotations=annotations)


def status_of(api: ApiServer, name: str) -> Any:
    return json.loads(api.read("Pod", name)["metadata"]["annotations"][STATUS])


def test_the_networks_that_an_annotation_names(rig: Rig, api: ApiServer) -> None:
    define(api, "more", rig.ptp())
    start(rig, api)
    sandbox = rig.cri.run(pod(api, "web", "more@data0"))
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


def test_a_network_that_nobody_defined(rig: Rig, api: ApiServer) -> None:
    start(rig, api)
    with pytest.raises(CriError, match="missing"):
        rig.cri.run(pod(api, "web", "missing"))
    assert rig.cri.sandboxes() == {}
    assert rig.left() == {}


def test_a_server_that_is_away_while_a_pod_starts(rig: Rig, api: ApiServer) -> None:
    """Nothing is left of the attempt; kubelet's next one, with the server back, succeeds."""
    define(api, "more", rig.ptp())
    start(rig, api)
    wanted = pod(api, "web", "more")
    api.down()
    with pytest.raises(CriError):
        rig.cri.run(wanted)
    assert rig.left() == {}
    with entered(rig.host.fd):
        api.up()
    sandbox = rig.cri.run(wanted)
    assert set(rig.addresses(sandbox)) == {"eth0", "net1"}
    rig.cri.stop(sandbox)
    rig.cri.remove(sandbox)
    assert rig.left() == {}


def test_the_next_pod_of_that_name_has_a_status_of_its_own(rig: Rig, api: ApiServer) -> None:
    """As a StatefulSet replaces its pods: same name, other uid, the old sandbox still going."""
    define(api, "more", rig.ptp())
    start(rig, api)
    old = rig.cri.run(pod(api, "db-0", "more"))
    api.remove("Pod", "db-0")
    new = rig.cri.run(pod(api, "db-0", "more"))
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
    start(rig, api)
    today = pod(api, "db-0", "more")
    with pytest.raises(CriError):
        rig.cri.run(replace(today, uid=uid()))
    assert STATUS not in api.read("Pod", "db-0")["metadata"]["annotations"]
    assert rig.left() == {}


def test_many_pods_at_once(rig: Rig, api: ApiServer) -> None:
    define(api, "more", rig.ptp())
    define(api, "wide", rig.bridge("wide", "10.88.0.0/24"))
    start(rig, api)
    pods = [pod(api, f"pod{number}", "more, wide@data1") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        sandboxes = list(pool.map(rig.cri.run, pods))
        for each, sandbox in zip(pods, sandboxes, strict=True):
            told = {entry["interface"]: entry["ips"] for entry in status_of(api, each.name)}
            assert told == rig.addresses(sandbox)
            assert set(told) == {"eth0", "net1", "data1"}
        list(pool.map(rig.cri.stop, sandboxes))
        list(pool.map(rig.cri.remove, sandboxes))
    assert rig.left() == {}
