"""The suite that the stand-in for an API server passes, on a real one; and our access to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kubernetes.client import CoreV1Api
from kubernetes.config import new_client_from_config

from tests.apiserver import ours, suite

if TYPE_CHECKING:
    from tests.cluster.node import ClusterNode

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda check: check.__name__)
def test_suite(check: suite.Check, cluster: ClusterNode) -> None:
    check(cluster.client)


@pytest.mark.parametrize("check", ours.CHECKS, ids=lambda check: check.__name__)
def test_ours(check: ours.Check, cluster: ClusterNode) -> None:
    check(cluster.client, ours.open_cluster(str(cluster.folder / "kubeconfig")))


def test_what_multus_may_not(cluster: ClusterNode) -> None:
    """Its certificate is on every node: whoever steals it gets no more than multus needs."""
    kubeconfig = str(cluster.folder / "multus.api.kubeconfig")
    with suite.a_pod(cluster.client, "suite-rights"), new_client_from_config(kubeconfig) as client:
        api = CoreV1Api(client)
        assert api.read_namespaced_pod("suite-rights", suite.NAMESPACE).metadata.uid
        # The daemon's watches; a right cannot be narrowed to the pods of one node.
        assert api.list_namespaced_pod(suite.NAMESPACE).items
        suite.refused(403, api.list_node)
        suite.refused(403, api.delete_namespaced_pod, "suite-rights", suite.NAMESPACE)
        suite.refused(403, api.patch_namespaced_pod, "suite-rights", suite.NAMESPACE, {})
        suite.refused(403, api.list_namespaced_secret, suite.NAMESPACE)
