"""The pod that a call is about, as the API server knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multus import cnitypes
from multus.api.clusterapi import ApiNotFoundError
from multus.cnitypes import CNIError
from multus.jsonfields import Fields, Json

if TYPE_CHECKING:
    from multus.api.cluster import Cluster
    from multus.cniargs import K8sArgs

# kubelet's own mark on pods that it did not get from the API server: they have two uids, one of
# kubelet's and one of the mirror pod (kubernetes, pkg/kubelet/types/pod_update.go).
_CONFIG_SOURCE = "kubernetes.io/config.source"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod and the server that told of it."""

    cluster: Cluster
    raw: Json

    def namespace(self) -> str:
        """Return its namespace."""
        return self._meta().text("namespace")

    def name(self) -> str:
        """Return its name."""
        return self._meta().text("name")

    def uid(self) -> str:
        """Return what tells it from an earlier pod of the same name."""
        return self._meta().text("uid")

    def is_static(self) -> bool:
        """Tell whether kubelet got it from a file or URL."""
        annotations = Fields(self._meta().mapping("annotations") or {}, "its annotations")
        return annotations.text(_CONFIG_SOURCE) not in ("", "api")

    def _meta(self) -> Fields:
        return Fields(Fields(self.raw, "the pod").mapping("metadata") or {}, "the pod's metadata")


def find_pod(cluster: Cluster, args: K8sArgs) -> Pod | None:
    """Return the pod that CNI_ARGS name, None when the API server says that it is gone.

    Raises ApiError; CNIError 4 when they name none, 11 when there is another pod of that name.
    """
    if not args.pod_name or not args.pod_namespace:
        raise CNIError(
            cnitypes.INVALID_ENVIRONMENT,
            "CNI_ARGS has no K8S_POD_NAME and K8S_POD_NAMESPACE, which a kubeconfig makes needed",
        )
    try:
        pod = Pod(cluster, cluster.pod(args.pod_namespace, args.pod_name, args.pod_uid))
    except ApiNotFoundError:
        return None
    if args.pod_uid and args.pod_uid != pod.uid() and not pod.is_static():
        raise CNIError(
            cnitypes.TRY_AGAIN_LATER,
            f"pod {args.pod_namespace}/{args.pod_name} has uid {pod.uid()} by now, the runtime "
            f"asks for {args.pod_uid}",
        )
    return pod
