"""The stand-in for an API server as a node's pods see it: definitions, pods, their status."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hwmgr.netns import entered
from tests.apiserver.server import ApiServer
from tests.runtime.cri import Pod

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.runtime.rig import Rig

NETWORKS = "k8s.v1.cni.cncf.io/networks"
STATUS = "k8s.v1.cni.cncf.io/network-status"
RESOURCE = "k8s.v1.cni.cncf.io/resourceName"


@contextmanager
def serving(rig: Rig) -> Iterator[ApiServer]:
    """Serve where multus looks: a socket belongs to the namespace in which it was opened."""
    server = ApiServer()
    up_in_host(server, rig)
    try:
        yield server
    finally:
        server.down()


def up_in_host(server: ApiServer, rig: Rig) -> None:
    with entered(rig.host.fd):
        server.up()


def start(rig: Rig, api: ApiServer, default: Mapping[str, Any]) -> None:
    """Start containerd with a default network, and a kubeconfig for the others of its pods."""
    rig.network(default, kubeconfig=api.kubeconfig(rig.folder / "kubeconfig"))
    rig.containerd.start()


def define(api: ApiServer, name: str, conf: Mapping[str, Any], resource: str = "") -> None:
    """Add a NetworkAttachmentDefinition; ``resource`` is what its devices are of."""
    api.add(
        {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {
                "name": name,
                "namespace": "default",
                "annotations": {RESOURCE: resource} if resource else {},
            },
            "spec": {"config": json.dumps(conf)},
        }
    )


def make_pod(api: ApiServer, name: str, networks: str) -> Pod:
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
    """Return a pod's network-status; KeyError when it has none."""
    return json.loads(api.read("Pod", name)["metadata"]["annotations"][STATUS])
