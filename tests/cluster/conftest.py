"""What the tests in a cluster share: its node, with multus as its network."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.node import ClusterNode, here

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUBNET_ENV = Path("/run/flannel/subnet.env")
_FLANNEL = Path(__file__).parents[1] / "lab/plugins/flannel"
# The node's configuration of 2018, as it was written then.
NETWORK = {
    "name": "multus-network",
    "type": "multus",
    "kubeconfig": "/etc/kubernetes/admin.conf",
    "delegates": [
        {
            "type": "flannel",
            "name": "cbr0",
            "hairpinMode": True,
            "masterplugin": True,
            "isDefaultGateway": True,
        }
    ],
}


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterNode]:
    folder = here()
    if folder is None:
        pytest.skip("runs in a cluster only: scripts/cluster test")
    with closing(ClusterNode(folder)) as made:
        yield made


@pytest.fixture(scope="session")
def node(cluster: ClusterNode) -> ClusterNode:
    """The cluster with the network of 2018; its flannel is a stand-in that asks no other node."""
    _SUBNET_ENV.parent.mkdir(exist_ok=True)
    _SUBNET_ENV.write_text(
        "FLANNEL_NETWORK=172.17.0.0/16\nFLANNEL_SUBNET=172.17.2.1/24\nFLANNEL_MTU=1450\n"
    )
    shutil.copy(_FLANNEL, cluster.bin_dir / "flannel")
    cluster.network(NETWORK)
    return cluster
