"""What the cluster starts with: kinds of objects, rules for multus, the node's network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]


def objects() -> list[Json]:
    """Return what is made in the API server before the first pod."""
    from multus import manifests

    return [*manifests.crds(), *manifests.rbac()]


def write_default(conf_dir: Path, bin_dir: Path, kubeconfig: Path) -> None:
    """Make multus the node's network, with a bridge for every pod's first interface."""
    ipam = {"type": "host-local", "subnet": "10.244.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cni0"}
    multus = {
        "cniVersion": "1.0.0",
        "name": "multus-network",
        "type": "multus",
        "kubeconfig": str(kubeconfig),
        "binDir": str(bin_dir),
        "delegates": [{**bridge, "isDefaultGateway": True, "ipam": ipam}],
    }
    (conf_dir / "00-multus.conf").write_text(json.dumps(multus, indent=1))
