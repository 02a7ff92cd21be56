"""What ADD would do for a pod, by the code of ADD up to where it would begin to act."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multus.api.clusterapi import ApiError
from multus.cniargs import K8sArgs, render_args
from multus.cnitypes import CmdArgs, CNIError
from multus.jsonfields import Fields, Json
from multus.networks import PodNetworks
from multus.plan import plan_attachments
from multus.runtimeconf import offered
from multus.translate import to_cni

if TYPE_CHECKING:
    from multus.api.cluster import Cluster
    from multus.chain import Attachment
    from multus.config import NetConf
    from multus.devices.choice import Devices

_UNKNOWN_CONTAINER = "CONTAINER-ID"
_IFNAME = "eth0"


def explain(conf: NetConf, pod: Json, cluster: Cluster | None, devices: Devices | None) -> Json:
    """Return selections, delegates and errors, as ``multusctl explain`` prints them.

    Runs no plugin and writes nothing.
    """
    notes: list[str] = []
    networks = PodNetworks(conf, pod, cluster, devices, notes.append)
    try:
        selected = networks.resolve()
        k8s = _args(pod)
        args = CmdArgs("ADD", _UNKNOWN_CONTAINER, "", _IFNAME, "", "", b"")
        items = plan_attachments(conf, list(selected.delegates), args, k8s)
    except (ApiError, CNIError, ValueError) as error:
        failure = to_cni(error)
        wrong: Json = {"code": failure.code, "msg": failure.msg}
        return {"selections": networks.selections(), "delegates": [], "errors": [wrong]}
    delegates = [
        _delegate(item, source) for item, source in zip(items, selected.sources, strict=True)
    ]
    return {"selections": list(selected.selections), "delegates": delegates, "errors": []}


def _args(pod: Json) -> K8sArgs:
    meta = Fields(Fields(pod, "the pod").mapping("metadata") or {}, "its metadata")
    return K8sArgs(
        pod_namespace=meta.text("namespace"),
        pod_name=meta.text("name"),
        infra_container_id=_UNKNOWN_CONTAINER,
        pod_uid=meta.text("uid"),
    )


def _delegate(item: Attachment, source: str) -> Json:
    plugins = item.delegate.plugin_list()
    given: Json = {}
    for plugin in plugins.plugins:
        declared = Fields(plugin, "a plugin").value("capabilities")
        given.update(offered(item.capability_args, declared))
    return {
        "name": item.delegate.name,
        "ifname": item.ifname,
        "type": ",".join(plugins.types()),
        "master": item.delegate.master,
        "config": item.delegate.conf,
        "runtimeConfig": given or None,
        "cniArgs": render_args(item.pairs()),
        "deviceID": item.delegate.device_id or None,
        "source": source,
    }
