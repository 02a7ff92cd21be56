"""The command ``multusctl explain``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from hwmgr.cli.output import Column, Output
from multus.api.cluster import Cluster
from multus.api.clusterapi import ApiError, KubeconfigError
from multus.clock import SystemClock
from multus.config import NetConf, load_conf
from multus.ctl.session import OutputOption, session_of
from multus.devices.choice import KUBELET_SECONDS, Devices, KubeletDevices
from multus.explain import explain
from multus.jsonfields import FieldError, Fields, decode
from multus.objectfiles import ObjectFiles, ReadOnly, read_objects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from multus.ctl.session import CtlSession
    from multus.jsonfields import Json

_CONF_DIR = "/etc/cni/net.d"
_FILE_ENDINGS = (".yaml", ".yml", ".json")
_COLUMNS = (
    Column("IFNAME", "ifname"),
    Column("NETWORK", "name"),
    Column("TYPE", "type"),
    Column("DEVICE", "deviceID", rank=1),
    Column("SOURCE", "source", rank=2, shrink=True),
)


def explain_command(
    context: typer.Context,
    pod: Annotated[
        str,
        typer.Option(
            "--pod", metavar="FILE|NAMESPACE/NAME", help="A pod in a file, or one of the cluster."
        ),
    ],
    definitions: Annotated[
        list[str] | None,
        typer.Option(
            "--net-attach-defs", metavar="FILE", help="Network objects; may be given again."
        ),
    ] = None,
    conf: Annotated[
        str | None,
        typer.Option("--conf", metavar="FILE", help=f"multus' own. [default: in {_CONF_DIR}]"),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", metavar="FILE", help="Kubelet's, for the pod's devices."),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Say which networks a pod would get, and by which configuration. Nothing is done.

    Exit status 1: ADD would fail; the errors say why.
    """
    session = session_of(context)
    try:
        found = _explained(session, pod, definitions or [], conf, checkpoint)
    except (FieldError, ApiError, KubeconfigError) as error:
        session.complain(str(error))
        raise typer.Exit(1) from error
    form = output or session.output
    rows = found["delegates"] if isinstance(found["delegates"], list) else []
    session.show(rows, _COLUMNS, output, data=found)
    errors = found["errors"] if isinstance(found["errors"], list) else []
    if form in (Output.TABLE, Output.WIDE):
        for error_found in errors:
            session.complain(
                f"ADD would fail with code {error_found['code']}: {error_found['msg']}"
            )
    raise typer.Exit(1 if errors else 0)


def _explained(
    session: CtlSession,
    pod: str,
    definitions: Sequence[str],
    conf_path: str | None,
    checkpoint: str | None,
) -> Json:
    conf = _configuration(conf_path)
    clock = SystemClock()
    if os.path.exists(pod):
        objects = [obj for path in (pod, *definitions) for obj in read_objects(path)]
        pods = [obj for obj in objects if obj.get("kind") == "Pod"]
        if len(pods) != 1:
            raise FieldError(f"{pod} and the other files hold {len(pods)} pods; one is needed")
        if not conf.kubeconfig:
            session.complain("no kubeconfig in the configuration: on a node, no pod is looked up")
        cluster = Cluster(ObjectFiles(objects), clock)
        found = _with_namespace(pods[0])
    else:
        if definitions:
            message = f"there is no file {pod}, and network objects from files need a pod from one"
            raise typer.BadParameter(message, param_hint="--net-attach-defs")
        namespace, slash, name = pod.partition("/")
        if not (namespace and slash) or "/" in name or pod.endswith(_FILE_ENDINGS):
            raise FieldError(f"{pod} is neither a file nor NAMESPACE/NAME")
        cluster = _real_cluster(conf, session.environment)
        found = cluster.pod(namespace, name)
    kubelet = KubeletDevices(clock)
    if checkpoint is not None:
        kubelet = KubeletDevices(clock, socket="", checkpoint_file=checkpoint)

    def ask() -> Mapping[str, Sequence[str]]:
        return kubelet.of_pod(found, cluster, clock.monotonic() + KUBELET_SECONDS)

    return explain(conf, found, cluster, Devices(ask, strict=True))


def _real_cluster(conf: NetConf, env: Mapping[str, str]) -> Cluster:
    from multus.api.k8sclient import connect

    api = connect(conf.kubeconfig, env)
    if api is None:
        raise FieldError("the configuration names no kubeconfig; give the pod as a file")
    return Cluster(ReadOnly(api), SystemClock())


def _configuration(path: str | None) -> NetConf:
    """Return multus' configuration: a file, or the first in the runtime's folder that is ours."""
    if path is not None:
        return _read(path)
    names = sorted(os.listdir(_CONF_DIR)) if os.path.isdir(_CONF_DIR) else []
    for name in names:
        path = os.path.join(_CONF_DIR, name)
        if name.endswith((".conf", ".json")) and _type_of(path) in ("multus", "multus-shim"):
            return _read(path)
    raise FieldError(f"no configuration of multus in {_CONF_DIR}; name one with --conf")


def _type_of(path: str) -> str:
    """Return the type in a configuration file, "" for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            return Fields(decode(file.read(), path), path).text("type")
    except (OSError, FieldError):
        return ""


def _read(path: str) -> NetConf:
    try:
        with open(path, "rb") as file:
            return load_conf(file.read())
    except OSError as error:
        raise FieldError(f"{path} cannot be read: {error.strerror}") from error
    except FieldError as error:
        raise FieldError(f"{path}: {error}") from error


def _with_namespace(pod: Json) -> Json:
    """Put a pod without a namespace where kubectl would, into ``default``."""
    meta = pod.get("metadata")
    if not isinstance(meta, dict) or meta.get("namespace"):
        return pod
    return {**pod, "metadata": {**meta, "namespace": "default"}}
