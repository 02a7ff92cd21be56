"""The configuration of multus itself: standard input of every call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from multus import version as versions
from multus.delegates import Delegate, load_delegate
from multus.jsonfields import FieldError, Fields, Json, decode
from multus.result import ResultError, parse_result
from multus.runtimeconf import declared, parse_runtime_config

if TYPE_CHECKING:
    from multus.result import Result

DEFAULT_CONF_DIR = "/etc/cni/multus/net.d"
DEFAULT_CNI_DIR = "/var/lib/cni/multus"
DEFAULT_BIN_DIR = "/opt/cni/bin"
DEFAULT_NAMESPACE = "kube-system"
DEFAULT_GLOBAL_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The logging keys of multus-cni; sizes in megabytes, ages in days, None is not given."""

    file: str = ""
    level: str = ""
    to_stderr: bool = True
    max_size: int | None = None
    max_age: int | None = None
    max_backups: int | None = None
    compress: bool | None = None


@dataclass(frozen=True, slots=True)
class NetConf:
    """One call's configuration with the defaults filled in; ``raw`` is all that was given."""

    raw: Json
    name: str
    type: str
    cni_version: str
    conf_dir: str
    cni_dir: str
    bin_dir: str
    delegates: tuple[Delegate, ...]
    cluster_network: str
    default_networks: tuple[str, ...]
    system_namespaces: tuple[str, ...]
    multus_namespace: str
    kubeconfig: str
    namespace_isolation: bool
    global_namespaces: tuple[str, ...]
    readiness_indicator_file: str
    retry_delete_on_error: bool
    auxiliary_chain_name: str
    capabilities: Json | None
    runtime_config: Json
    prev_result: Result | None
    log: LogConfig


def load_conf(data: bytes) -> NetConf:
    """Read standard input; raises FieldError."""
    value = decode(data, "the configuration")
    fields = Fields(value, "the configuration")
    cluster_network = fields.text("clusterNetwork")
    return NetConf(
        raw=value if isinstance(value, dict) else {},
        name=fields.text("name"),
        type=fields.text("type"),
        cni_version=fields.text("cniVersion"),
        conf_dir=fields.text("confDir") or DEFAULT_CONF_DIR,
        cni_dir=fields.text("cniDir") or DEFAULT_CNI_DIR,
        bin_dir=fields.text("binDir") or DEFAULT_BIN_DIR,
        delegates=() if cluster_network else _delegates(fields),
        cluster_network=cluster_network,
        default_networks=tuple(fields.texts("defaultNetworks") or ()),
        system_namespaces=_namespaces(fields),
        multus_namespace=fields.text("multusNamespace") or DEFAULT_NAMESPACE,
        kubeconfig=fields.text("kubeconfig"),
        namespace_isolation=fields.flag("namespaceIsolation"),
        global_namespaces=_global_namespaces(fields),
        readiness_indicator_file=fields.text("readinessindicatorfile"),
        retry_delete_on_error=fields.flag("retryDeleteOnError"),
        auxiliary_chain_name=fields.text("auxiliaryCNIChainName"),
        capabilities=_capabilities(fields),
        runtime_config=parse_runtime_config(fields.value("runtimeConfig")),
        prev_result=_prev_result(fields),
        log=_log(fields),
    )


def _delegates(fields: Fields) -> tuple[Delegate, ...]:
    confs = fields.objects("delegates")
    if not confs and fields.text("kubeconfig"):
        return ()  # as Multus 1 had it: the pod's annotation names all of its networks
    if not confs:
        raise FieldError("the configuration has none of delegates, clusterNetwork, kubeconfig")
    delegates = [load_delegate(conf) for conf in confs]
    masters = [delegate for delegate in delegates if delegate.wants_master()]
    if len(masters) > 1:
        raise FieldError("more than one delegate says masterplugin: true")
    # The result of the master is the pod's, so it goes first wherever it stands in the list.
    first = masters[0] if masters else delegates[0]
    ordered = [first, *(delegate for delegate in delegates if delegate is not first)]
    return tuple(replace(delegate, master=index == 0) for index, delegate in enumerate(ordered))


def _namespaces(fields: Fields) -> tuple[str, ...]:
    namespaces = fields.texts("systemNamespaces")
    return (DEFAULT_NAMESPACE,) if namespaces is None else tuple(namespaces)


def _global_namespaces(fields: Fields) -> tuple[str, ...]:
    text = fields.text("globalNamespaces")
    if not text:
        return (DEFAULT_GLOBAL_NAMESPACE,)
    return tuple(item.strip() for item in text.split(","))


def _capabilities(fields: Fields) -> Json | None:
    declared(fields.value("capabilities"))
    return fields.mapping("capabilities")


def _prev_result(fields: Fields) -> Result | None:
    value = fields.value("prevResult")
    if value is None:
        return None
    try:
        return parse_result(value, fields.text("cniVersion")).convert(versions.CURRENT)
    except ResultError as error:
        raise FieldError(f"prevResult: {error}") from error


def _log(fields: Fields) -> LogConfig:
    options = Fields(fields.mapping("logOptions") or {}, "logOptions")
    return LogConfig(
        file=fields.text("logFile"),
        level=fields.text("logLevel"),
        to_stderr=fields.flag("logToStderr", default=True),
        max_size=options.number("maxSize"),
        max_age=options.number("maxAge"),
        max_backups=options.number("maxBackups"),
        compress=options.flag("compress") if options.present("compress") else None,
    )
