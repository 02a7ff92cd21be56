"""Which networks a pod gets: so far those that the configuration of multus itself lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multus import cnitypes
from multus.cnitypes import CNIError

if TYPE_CHECKING:
    from multus.cniargs import K8sArgs
    from multus.config import NetConf
    from multus.delegates import Delegate


def configured(conf: NetConf, _pod: K8sArgs) -> list[Delegate]:
    """Return the configured delegates, master first.

    Raises CNIError 7 for a configuration that needs the cluster: a pod must never start with fewer
    interfaces than it asked for.
    """
    if conf.kubeconfig:
        raise CNIError(
            cnitypes.INVALID_CONFIG, "kubeconfig is set but this build has no cluster access yet"
        )
    if conf.cluster_network:
        raise CNIError(
            cnitypes.INVALID_CONFIG,
            "clusterNetwork is set but this build has no cluster access yet; list delegates",
        )
    return list(conf.delegates)
