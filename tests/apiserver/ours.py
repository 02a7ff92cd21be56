"""What our own access to a cluster must do, on the stand-in and on kube-apiserver alike.

As a program, ``python -m tests.apiserver.ours KUBECONFIG DEFINITIONS``, it runs these checks and
the suite on a real server; DEFINITIONS is a JSON file with a list of the networks' definitions.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from kubernetes.client import ApiClient, CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.config import new_client_from_config

from multus.api.cluster import ApiLimits, Cluster
from multus.api.clusterapi import ApiError, ApiNotFoundError
from multus.api.k8sclient import connect
from multus.api.objectcache import ObjectCache, trim_pod
from multus.api.watch import Watch
from multus.clock import SystemClock
from tests.apiserver import suite

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[ApiClient, Cluster], None]

NETWORKS = "k8s.v1.cni.cncf.io/networks"
# Of the real one nothing is asked in a hurry: it may share its processor with the whole test run.
LIMITS = ApiLimits(request=10.0, whole=20.0, event=10.0)


def open_cluster(kubeconfig: str) -> Cluster:
    """Return the cluster that a kubeconfig names."""
    api = connect(kubeconfig, {})
    assert api is not None
    return Cluster(api, SystemClock(), LIMITS)


def gone(call: Callable[..., Any], *args: str) -> None:
    """Check that the server says so."""
    try:
        found = call(*args)
    except ApiNotFoundError:
        return
    raise AssertionError(f"there: {found}")


def reads_pods(client: ApiClient, cluster: Cluster) -> None:
    with suite.a_pod(client, "suite-ours", annotations={"a": "1"}) as made:
        pod: Any = cluster.pod(suite.NAMESPACE, "suite-ours")
        assert pod["metadata"]["uid"] == made.metadata.uid
        assert pod["metadata"]["annotations"] == {"a": "1"}
    gone(cluster.pod, suite.NAMESPACE, "suite-ours")
    gone(cluster.network, suite.NAMESPACE, "suite-ours", "suite.invalid")


def reads_networks(client: ApiClient, cluster: Cluster) -> None:
    with suite.an_object(client, suite.NAD, suite.nad("suite-ours", "{}")):
        found: Any = cluster.network_attachment(suite.NAMESPACE, "suite-ours")
        assert found["spec"]["config"] == "{}"
    gone(cluster.network_attachment, suite.NAMESPACE, "suite-ours")
    meta = {"name": "suite-ours", "namespace": suite.NAMESPACE}
    for where in (suite.FIRST, suite.SECOND):
        body = {"apiVersion": f"{where[0]}/v1", "kind": "Network", "metadata": meta}
        with suite.an_object(client, where, {**body, "spec": {"plugin": "flannel"}}):
            assert cluster.network(suite.NAMESPACE, "suite-ours", where[0])["kind"] == "Network"
        gone(cluster.network, suite.NAMESPACE, "suite-ours", where[0])


def annotates_the_pod_that_is_meant(client: ApiClient, cluster: Cluster) -> None:
    key = suite.STATUS
    with suite.a_pod(client, "suite-meant", annotations={"a": "1"}) as made:
        where = (suite.NAMESPACE, "suite-meant")
        assert cluster.annotate(*where, made.metadata.uid, key, "[]")
        assert not cluster.annotate(*where, "another", key, "[1]")
        found = CoreV1Api(client).read_namespaced_pod("suite-meant", suite.NAMESPACE)
        assert found.metadata.annotations == {"a": "1", key: "[]"}
        assert [each.name for each in found.spec.containers] == ["c", "d"]
    assert not cluster.annotate(*where, made.metadata.uid, key, "[]")


def posts_events(client: ApiClient, cluster: Cluster) -> None:
    api = CoreV1Api(client)
    with suite.a_pod(client, "suite-told") as made:
        pod = cluster.pod(suite.NAMESPACE, "suite-told")
        cluster.event(pod, "Warning", "NoNetworkFound", "no network")
        fields = f"involvedObject.uid={made.metadata.uid}"
        (event,) = api.list_namespaced_event(suite.NAMESPACE, field_selector=fields).items
        told = (event.type, event.reason, event.message, event.source.component)
        assert told == ("Warning", "NoNetworkFound", "no network", "multus")
        api.delete_namespaced_event(event.metadata.name, suite.NAMESPACE)


def is_ready(client: ApiClient, cluster: Cluster) -> None:
    cluster.ready()


def follows_the_pods_of_a_node(client: ApiClient, cluster: Cluster) -> None:
    api: Any = cluster._api
    query = {"fieldSelector": "spec.nodeName=suite-node"}
    cache = ObjectCache("pod", trim_pod, SystemClock(), 90.0)
    watch = Watch(api, "/api/v1/pods", query, cache, SystemClock(), cached_list=True)

    def seen(condition: Callable[[Any], bool]) -> None:
        end = time.monotonic() + LIMITS.whole
        while not (cache.fresh() and condition(cache.find(suite.NAMESPACE, "suite-follow"))):
            assert time.monotonic() < end, cache.facts()
            time.sleep(0.01)

    watch.start()
    try:
        seen(lambda pod: pod is None)
        with suite.a_pod(client, "suite-follow", annotations={NETWORKS: "a"}) as made:
            seen(lambda pod: pod is not None and pod["metadata"]["uid"] == made.metadata.uid)
            body = {"metadata": {"annotations": {NETWORKS: "b"}}}
            CoreV1Api(client).patch_namespaced_pod("suite-follow", suite.NAMESPACE, body)
            seen(lambda pod: pod["metadata"]["annotations"] == {NETWORKS: "b"})
        seen(lambda pod: pod is None)
    finally:
        watch.close()
        assert watch.join(LIMITS.whole)


CHECKS: list[Check] = [
    reads_pods,
    reads_networks,
    annotates_the_pod_that_is_meant,
    posts_events,
    is_ready,
    follows_the_pods_of_a_node,
]


def run(kubeconfig: str, definitions: list[suite.Json]) -> list[str]:
    """Run the suite and our checks against a server; returns what failed, with the reasons."""
    failed = []
    cluster = open_cluster(kubeconfig)
    with new_client_from_config(kubeconfig) as client:
        suite.define(client, definitions)
        checks = [(each.__name__, partial(each, client)) for each in suite.CHECKS]
        checks += [(each.__name__, partial(each, client, cluster)) for each in CHECKS]
        for name, check in checks:
            try:
                check()
            except (AssertionError, ApiException, ApiError) as error:
                failed.append(f"{name}: {type(error).__name__}: {error}")
    return failed


def main(kubeconfig: str, definitions: str) -> int:
    """Print what failed; returns the exit status."""
    with open(definitions, encoding="utf-8") as file:
        problems = run(kubeconfig, json.load(file))
    total = len(suite.CHECKS) + len(CHECKS)
    print(f"{total - len(problems)} of {total} passed", *problems, sep="\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
