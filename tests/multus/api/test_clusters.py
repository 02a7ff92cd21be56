"""Calls of a long-lived process through its watch caches, against the stand-in."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from multus.api.cluster import ApiLimits
from multus.api.clusterapi import ApiForbiddenError, ApiNotFoundError, KubeconfigError
from multus.api.clusters import Clusters
from multus.api.objectcache import trim_definition, trim_pod
from multus.api.watch import WatchLimits
from multus.clock import SystemClock
from tests.apiserver.server import ApiServer
from tests.multus.fakes import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from multus.api.cluster import Cluster

NETWORKS = "k8s.v1.cni.cncf.io/networks"
STATUS = "k8s.v1.cni.cncf.io/network-status"
RESOURCE = "k8s.v1.cni.cncf.io/resourceName"
LIMITS = ApiLimits(request=2.0, whole=4.0, poll=0.05)
WATCH = WatchLimits(request=2.0, silence=5.0, settled=0.0, first_pause=0.02, longest_pause=0.1)
LONG = 20.0
FOREVER = 1e12


def a_pod(name: str = "web", uid: str = "", **more: Any) -> Any:
    meta = {"name": name, "annotations": {NETWORKS: "more", STATUS: "[]", "other": "x"}}
    spec = {"nodeName": "node1", "containers": [{"name": "main", "image": "x"}], **more}
    return {"apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": meta | ({"uid": uid} if uid else {})}  # fmt: skip


def a_network(name: str = "more", config: str = '{"cniVersion": "1.0.0", "type": "plugB"}') -> Any:
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "annotations": {RESOURCE: "intel.com/vf", "other": "x"}},
        "spec": {"config": config},
    }


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread, which has nothing to wait on."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@dataclass
class Node:
    """A process on node1 and its API server."""

    server: ApiServer
    clusters: Clusters
    kubeconfig: str
    uid: str

    def cluster(self) -> Cluster:
        found = self.clusters.connect(self.kubeconfig, FOREVER)
        assert found is not None
        return found

    def synced(self, objects: tuple[int, int] = (1, 1)) -> None:
        """Wait until both caches are fresh and have that many pods and definitions."""

        def done() -> bool:
            facts = self.clusters.facts()
            found = tuple(each.objects for _, each in facts.caches)
            return self.fresh() and found == objects

        self.cluster()
        until(done)
        self.server.requests.clear()

    def fresh(self) -> bool:
        """Tell whether every cache is fresh."""
        return all(each.fresh for _, each in self.clusters.facts().caches)

    def asked(self) -> list[str]:
        """Return what calls have asked; the watches' own requests are theirs."""
        watched = ("/api/v1/pods", "/network-attachment-definitions")
        return [line for line in self.server.asked() if not line.endswith(watched)]

    def reads(self) -> Any:
        return self.clusters.facts().reads


@contextmanager
def a_node(folder: Path, server: ApiServer, **more: Any) -> Iterator[Node]:
    uid = server.add(a_pod())["metadata"]["uid"]
    server.add(a_network())
    options: Any = {"node_name": "node1", "limits": LIMITS, "watch_limits": WATCH, **more}
    clusters = Clusters({}, SystemClock(), **options)
    try:
        yield Node(server, clusters, server.kubeconfig(folder / "kubeconfig"), uid)
    finally:
        assert clusters.close()


@pytest.fixture(name="node")
def _node(tmp_path: Path) -> Iterator[Node]:
    with ApiServer() as server, a_node(tmp_path, server) as node:
        yield node


def ours() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("multus-")]


def config_of(found: Any) -> str:
    return str(found["spec"]["config"])


def test_a_known_pod_and_its_network_need_no_request(node: Node) -> None:
    node.synced()
    cluster = node.cluster()
    pod: Any = cluster.pod("default", "web", node.uid)
    assert pod["metadata"]["annotations"] == {NETWORKS: "more"}
    assert pod["spec"] == {"nodeName": "node1", "containers": [{"name": "main"}]}
    found: Any = cluster.network_attachment("default", "more")
    assert found["metadata"]["annotations"] == {RESOURCE: "intel.com/vf"}
    assert node.asked() == []
    assert node.reads() == {("pod", "cache"): 1, ("definition", "cache"): 1}


def test_what_a_call_does_to_an_object_is_its_own(node: Node) -> None:
    node.synced()
    found: Any = node.cluster().network_attachment("default", "more")
    found["spec"]["config"] = "spoilt"
    assert config_of(node.cluster().network_attachment("default", "more")) != "spoilt"


def test_without_a_uid_a_pod_is_read_live(node: Node) -> None:
    node.synced()
    cluster = node.cluster()
    cluster.pod("default", "web")
    cluster.network_attachment("default", "more")
    assert node.asked() == ["GET /api/v1/namespaces/default/pods/web"]


def test_a_pod_made_anew_under_its_name_is_read_live(tmp_path: Path) -> None:
    with ApiServer() as server, a_node(tmp_path, server) as node:
        node.synced()
        # The stream is held up: the cache has the old one still.
        server.fail("silent", verb="WATCH")
        server.down()
        server.up()
        until(lambda: [each.status for each in server.requests].count(200) >= 2)
        node.synced()
        server.remove("Pod", "web")
        uid = server.add(a_pod())["metadata"]["uid"]
        server.change("NetworkAttachmentDefinition", "more", {"spec": {"config": "{}"}})
        cluster = node.cluster()
        pod: Any = cluster.pod("default", "web", uid)
        assert pod["metadata"]["uid"] == uid
        # One cache was behind, so that the other is not believed either.
        assert config_of(cluster.network_attachment("default", "more")) == "{}"
        assert len(node.asked()) == 2
        # And the old one is never given to the call of the new one, nor the other way round.
        old: Any = node.cluster().pod("default", "web", node.uid)
        assert old["metadata"]["uid"] == node.uid


def test_a_pod_that_is_not_known_is_gone_only_when_the_server_says_so(node: Node) -> None:
    node.synced()
    with pytest.raises(ApiNotFoundError):
        node.cluster().pod("default", "nobody", "some-uid")
    assert node.asked() == ["GET /api/v1/namespaces/default/pods/nobody"]


def test_a_network_that_is_not_known_is_asked_for(node: Node) -> None:
    node.synced()
    with pytest.raises(ApiNotFoundError):
        node.cluster().network_attachment("default", "nobody")
    assert len(node.asked()) == 1
    node.server.add(a_network("late", "{}"))
    assert config_of(node.cluster().network_attachment("default", "late")) == "{}"


@pytest.mark.parametrize(
    "more",
    [
        {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]},
        {"resourceClaims": [{"name": "gpu", "resourceClaimName": "fixed"}]},
    ],
)
def test_a_pod_with_claims_is_read_live(node: Node, more: Any) -> None:
    uid = node.server.add(a_pod("claims", **more))["metadata"]["uid"]
    node.synced((2, 1))
    cluster = node.cluster()
    cluster.pod("default", "claims", uid)
    cluster.network_attachment("default", "more")
    assert node.asked() == ["GET /api/v1/namespaces/default/pods/claims"]


def test_a_changed_network_is_seen(node: Node) -> None:
    node.synced()
    node.server.change("NetworkAttachmentDefinition", "more", {"spec": {"config": "{}"}})
    until(lambda: config_of(node.cluster().network_attachment("default", "more")) == "{}")
    assert node.asked() == []


def test_while_the_stream_is_broken_everything_is_read_live(node: Node) -> None:
    node.synced()
    node.server.fail(500, verb="WATCH")
    node.server.down()
    node.server.up()
    until(lambda: not any(each.fresh for _, each in node.clusters.facts().caches))
    node.server.requests.clear()
    cluster = node.cluster()
    cluster.pod("default", "web", node.uid)
    cluster.network_attachment("default", "more")
    assert len(node.asked()) == 2
    node.server.faults.clear()
    node.synced()
    node.cluster().pod("default", "web", node.uid)
    assert node.asked() == []


def test_a_silent_stream_is_not_believed(tmp_path: Path) -> None:
    limits = replace(WATCH, silence=0.3, first_pause=LONG, longest_pause=LONG)
    with ApiServer() as server, a_node(tmp_path, server, watch_limits=limits) as node:
        server.fail("silent", verb="WATCH", times=2)
        server.fail(503, "*/network-attachment-definitions", verb="WATCH")
        node.synced()
        until(lambda: not node.fresh())
        server.requests.clear()
        node.cluster().network_attachment("default", "more")
        assert len(node.asked()) == 1


def test_the_nodes_name_is_learned_from_the_first_pod(tmp_path: Path) -> None:
    with ApiServer() as server, a_node(tmp_path, server, node_name="") as node:
        server.add(a_pod("elsewhere", nodeName="node2"))
        node.cluster()
        assert node.clusters.facts().node == ""
        node.cluster().pod("default", "web", node.uid)
        assert node.clusters.facts().node == "node1"
        node.synced((1, 1))
        node.cluster().pod("default", "web", node.uid)
        assert node.asked() == []


def test_the_nodes_name_by_the_environment() -> None:
    env = {"MULTUS_NODE_NAME": "n1"}
    for given, wanted in (("", "n1"), ("n2", "n2")):
        clusters = Clusters(env, SystemClock(), node_name=given)
        assert clusters.facts().node == wanted
        assert clusters.connect("", FOREVER) is None
        assert clusters.close()


def test_a_server_without_the_kind_or_the_right_is_read_live(tmp_path: Path) -> None:
    with ApiServer() as server, a_node(tmp_path, server) as node:
        server.fail(403, "/api/v1/pods")
        server.fail(403, "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions")
        cluster = node.cluster()
        until(lambda: all(each.why != "not asked for yet" for _, each in
                          node.clusters.facts().caches))  # fmt: skip
        cluster.pod("default", "web", node.uid)
        cluster.network_attachment("default", "more")
        assert len(node.asked()) == 2
        assert all("403" in each.why for _, each in node.clusters.facts().caches)


def test_a_rotated_token_is_read_again(tmp_path: Path) -> None:
    with ApiServer(token="old") as server:
        secret = tmp_path / "token"
        secret.write_text("old")
        with a_node(tmp_path, server) as node:
            kubeconfig = node.server.kubeconfig(tmp_path / "kubeconfig", tokenFile=str(secret))
            node.kubeconfig = kubeconfig
            node.synced()
            server.token = "new"
            secret.write_text("new")
            server.down()
            server.up()
            node.synced()
            node.cluster().pod("default", "web")
            assert [each.status for each in server.requests] == [200]


def test_watches_read_a_replaced_kubeconfig_by_themselves(tmp_path: Path) -> None:
    """No call comes: the server's refusal is what tells them."""
    with ApiServer(token="old") as server, a_node(tmp_path, server) as node:
        node.synced()
        server.token = "new"
        server.kubeconfig(tmp_path / "kubeconfig")
        server.down()
        until(lambda: not any(each.fresh for _, each in node.clusters.facts().caches))
        server.up()
        until(lambda: node.fresh())
        assert 401 in [each.status for each in server.requests]


def test_credentials_that_are_refused_are_read_again_once(tmp_path: Path) -> None:
    """As when a program gives them, or a call has begun before the file was replaced."""
    with ApiServer(token="old") as server, a_node(tmp_path, server) as node:
        node.synced()
        cluster = node.cluster()
        server.token = "new"
        server.kubeconfig(tmp_path / "kubeconfig")
        cluster.pod("default", "web")
        assert [each.status for each in server.requests] == [401, 200]
        server.requests.clear()
        server.token = "another"
        for _ in range(3):
            with pytest.raises(ApiForbiddenError):
                cluster.pod("default", "web")
        # Nothing new in the file, and it was read a moment ago: no second try each.
        assert [each.status for each in server.requests if each.verb == "GET"] == [401] * 3


def test_a_replaced_kubeconfig_is_another_cluster(tmp_path: Path) -> None:
    with ApiServer() as first, ApiServer() as second, a_node(tmp_path, first) as node:
        node.synced()
        second.add(a_network("more", '{"of": "second"}'))
        new = tmp_path / "new"
        second.kubeconfig(new)
        new.replace(tmp_path / "kubeconfig")
        found = node.cluster().network_attachment("default", "more")
        assert config_of(found) == '{"of": "second"}'
        until(lambda: node.fresh())
        assert [each.objects for _, each in node.clusters.facts().caches] == [0, 1]
        until(lambda: len([name for name in ours() if "watch" in name]) == 2)
        (tmp_path / "kubeconfig").write_text("{")
        with pytest.raises(KubeconfigError):
            node.cluster()
        os.unlink(tmp_path / "kubeconfig")
        with pytest.raises(KubeconfigError):
            node.cluster()


def test_of_many_kubeconfigs_the_last_ones_are_kept(node: Node, tmp_path: Path) -> None:
    node.synced()
    paths = [node.server.kubeconfig(tmp_path / f"config{n}") for n in range(6)]
    for path in paths:
        assert node.clusters.connect(path, FOREVER) is not None
    assert {path for path, _ in node.clusters.facts().caches} == set(paths[2:])
    until(lambda: len([name for name in ours() if "watch" in name]) == 8)


@dataclass
class Daemon(World):
    """The engine as it is in a long-lived process."""

    node: Any = field(default=None)

    def connect(self, kubeconfig: str, deadline: float) -> Cluster | None:
        found: Cluster | None = self.node.clusters.connect(kubeconfig, FOREVER)
        return found


def test_an_add_asks_for_nothing_but_the_status(node: Node, tmp_path: Path) -> None:
    node.server.change(
        "NetworkAttachmentDefinition", "more", {"metadata": {"annotations": {RESOURCE: None}}}
    )
    node.synced()
    until(lambda: RESOURCE not in str(node.cluster().network_attachment("default", "more")))
    world = Daemon(tmp_path, node=node)
    world.plugin("plugA", "plugB")
    conf = {
        "cniVersion": "1.0.0",
        "kubeconfig": node.kubeconfig,
        "delegates": [{"cniVersion": "1.0.0", "name": "neta", "type": "plugA"}],
    }
    args = f"K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID={node.uid}"
    answer = world.cni("ADD", conf, ARGS=args)
    assert answer.rc == 0, answer.stdout
    status = "PATCH /api/v1/namespaces/default/pods/web/status"
    until(lambda: len(node.server.events()) == 2)
    posts = "POST /api/v1/namespaces/default/events"
    assert sorted(node.asked()) == [status, posts, posts]
    entries = json.loads(node.server.read("Pod", "web")["metadata"]["annotations"][STATUS])
    assert [each["interface"] for each in entries] == ["eth0", "net1"]
    assert world.cni("DEL", conf, ARGS=args).rc == 0


def test_gc_and_status_ask_nobody_for_the_default_network(node: Node, tmp_path: Path) -> None:
    node.server.add(
        a_network("default", '{"cniVersion": "1.1.0", "type": "plugA", "name": "neta"}')
    )
    node.server.change(
        "NetworkAttachmentDefinition", "default", {"metadata": {"annotations": {RESOURCE: None}}}
    )
    node.synced((1, 2))
    until(lambda: RESOURCE not in str(node.cluster().network_attachment("default", "default")))
    world = Daemon(tmp_path, node=node)
    world.plugin("plugA")
    conf = {
        "cniVersion": "1.1.0",
        "kubeconfig": node.kubeconfig,
        "clusterNetwork": "default",
        "multusNamespace": "default",
        "cni.dev/valid-attachments": [],
    }
    answer = world.cni("GC", conf)
    assert answer.rc == 0, answer.stdout
    assert node.asked() == []
    assert node.reads()["definition", "cache"] >= 2
    answer = world.cni("STATUS", conf)
    assert answer.rc == 0, answer.stdout
    assert node.asked() == ["GET /version"]


def test_events_keep_nobody_waiting(node: Node) -> None:
    node.synced()
    cluster = node.cluster()
    pod = cluster.pod("default", "web", node.uid)
    node.server.fail("hang", "*/events", verb="POST", times=1)
    began = time.monotonic()
    for number in range(300):
        cluster.event(pod, "Normal", "AddedInterface", str(number))
    assert time.monotonic() - began < LIMITS.event
    facts = node.clusters.facts().events
    assert facts.dropped > 0
    until(lambda: node.clusters.facts().events.waiting == 0)
    assert len(node.server.events()) >= 200


def test_five_hundred_pods_and_networks_are_small(tmp_path: Path) -> None:
    """About what such objects are on a busy node: 8 KiB a pod as the server has it."""
    environment = [{"name": f"V{n}", "value": "x" * 40} for n in range(100)]
    containers = [{"name": f"c{n}", "image": "x", "env": environment} for n in range(2)]
    with ApiServer() as server, a_node(tmp_path, server) as node:
        for number in range(499):
            server.add(a_pod(f"pod-{number}", containers=containers))
            server.add(a_network(f"net-{number}", json.dumps({"type": "x", "pad": "p" * 200})))
        node.synced((500, 500))
        caches = [each for _, each in node.clusters.facts().caches]
        print({each.kind: each.size for each in caches})
        assert caches[0].size < 500 * 600
        assert caches[1].size < 500 * 800
        uid = server.read("Pod", "pod-7")["metadata"]["uid"]
        cluster = node.cluster()
        cluster.pod("default", "pod-7", uid)
        cluster.network_attachment("default", "net-7")
        assert node.asked() == []


def test_calls_start_no_threads_and_all_end_on_close(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with ApiServer() as server, a_node(tmp_path, server) as node:
        node.synced()
        node.cluster().pod("default", "web")
        running = ours()
        for _ in range(50):
            cluster = node.cluster()
            cluster.pod("default", "web")
            assert cluster.annotate("default", "web", node.uid, "key", "text")
        assert len(ours()) <= len(running) + 1  # the events' one is not among them
    until(lambda: not {each for each in set(threading.enumerate()) - before
                       if each.name.startswith("multus-")})  # fmt: skip


def test_calls_at_once_share_the_caches(node: Node) -> None:
    node.synced()

    def call() -> None:
        for _ in range(50):
            cluster = node.cluster()
            pod: Any = cluster.pod("default", "web", node.uid)
            assert pod["metadata"]["uid"] == node.uid
            cluster.network_attachment("default", "more")

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call) for _ in range(8)]
        for number in range(50):
            patch = {"spec": {"config": str(number)}}
            node.server.change("NetworkAttachmentDefinition", "more", patch)
        for each in calls:
            each.result()
    assert node.asked() == []


def test_trimming_keeps_what_is_read_and_bears_anything() -> None:
    pod: Any = a_pod("web", "u1")
    pod["metadata"]["annotations"] |= {
        "networks": "[]",
        "v1.multus-cni.io/default-network": "d",
        "kubernetes.v1.cni.cncf.io/networks": "k",
        "kubernetes.io/config.source": "file",
        "kubernetes.io/config.mirror": "m",
        "kubectl.kubernetes.io/last-applied-configuration": "{…}",
    }
    pod["spec"] |= {
        "initContainers": [{"name": "init", "image": "x"}],
        "resourceClaims": [{"a": 1}],
    }
    pod["status"] = {"phase": "Running", "resourceClaimStatuses": [{"name": "a"}]}
    kept: Any = trim_pod(pod)
    assert set(kept["metadata"]["annotations"]) == {
        NETWORKS,
        "networks",
        "v1.multus-cni.io/default-network",
        "kubernetes.v1.cni.cncf.io/networks",
        "kubernetes.io/config.source",
        "kubernetes.io/config.mirror",
    }
    assert kept["spec"]["initContainers"] == [{"name": "init"}]
    assert kept["status"] == {"resourceClaimStatuses": [{"name": "a"}]}
    assert trim_pod(kept) == kept
    definition = trim_definition(a_network())
    assert trim_definition(definition) == definition
    for odd in ({}, {"metadata": [], "spec": 1, "status": "x"}, {"spec": {"containers": [1]}}):
        assert "metadata" in trim_pod(dict(odd))
        assert "spec" in trim_definition(dict(odd))
