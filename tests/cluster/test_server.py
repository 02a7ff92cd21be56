"""The suite that the stand-in for an API server passes, on a real one; and our access to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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
