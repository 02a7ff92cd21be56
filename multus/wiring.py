"""The real world for the engine: this process, this machine's kernel, its clock, its syslog."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr import nodeconfig
from hwmgr.node import read_boot_id
from hwmgr.run import KernelRunner
from hwmgr.store import StateDir
from multus.chain import Chains
from multus.clock import Limits, SystemClock
from multus.commands import Engine
from multus.deviceinfo import DeviceInfo
from multus.doors import Doors
from multus.invoke import STATE_DIR, ExecPlugin
from multus.logs import NodeLog, node_sink, one_line, send_to_syslog
from multus.namespaces import KernelNamespaces
from multus.orphans import KernelOrphans
from multus.routes import KernelRoutes
from multus.skel import Commands, Process, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hwmgr.nodeconfig import NodeConfig
    from multus.clock import Clock
    from multus.cluster import Cluster
    from multus.config import LogConfig
    from multus.delegates import PluginRunner
    from multus.devices import Devices
    from multus.pods import Pod

_SYSLOG_ERROR = 3


def run() -> int:
    """Answer the call that came in by this process."""
    return serve_process(_engine)


def serve_process(make_engine: Callable[[], Commands]) -> int:
    """Answer the call that came in by this process with the engine that is made for it."""
    process = Process(os.environ, sys.stdin.buffer, sys.stdout, sys.stderr)
    status = serve(process, make_engine, _complain)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        # Nobody reads us any more; without this the interpreter would say so on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return status


def _engine() -> Engine:
    def sriov() -> PluginRunner:
        from multus.hardware import sriov_plugin

        return sriov_plugin(os.environ, config)

    config = nodeconfig.load(os.environ)
    return Engine(real_doors(os.environ, config, in_process={"sriov": sriov}))


def real_doors(
    env: Mapping[str, str],
    config: NodeConfig,
    *,
    in_process: Mapping[str, Callable[[], PluginRunner]] | None = None,
    checkpoint: Callable[[str], None] = lambda _name: None,
    limits: Limits | None = None,
) -> Doors:
    """Return the doors of this machine; ``env`` is inherited by the plugins."""
    clock = SystemClock()
    plugin_env = {**env, STATE_DIR: config.state_dir}

    sink = node_sink(config.log_target, config.log_level, stderr=sys.stderr, tag="multus")

    def open_log(keys: LogConfig) -> NodeLog:
        return NodeLog(keys, syslog=sink, stderr=sys.stderr, now=clock.now)

    return Doors(
        state=StateDir(config.state_dir),
        open_state=StateDir,
        chains=Chains(ExecPlugin(KernelRunner(), plugin_env, clock), in_process or {}),
        namespaces=KernelNamespaces(),
        connect=lambda kubeconfig, end: open_cluster(kubeconfig, env, clock, config, end),
        devices=lambda pod: devices_of(pod, clock, config),
        device_info=DeviceInfo(),
        routes=KernelRoutes(),
        orphans=KernelOrphans(env, config.state_dir),
        clock=clock,
        boot_id=read_boot_id(),
        open_log=open_log,
        checkpoint=checkpoint,
        limits=limits or Limits(config.add_seconds, config.delegate_seconds),
    )


def open_cluster(
    kubeconfig: str, env: Mapping[str, str], clock: Clock, config: NodeConfig, deadline: float
) -> Cluster | None:
    """Open the API server; without a kubeconfig and outside a cluster nothing is imported."""
    if not kubeconfig and not env.get("KUBERNETES_SERVICE_HOST"):
        return None
    from multus.cluster import ApiLimits, Cluster
    from multus.k8sclient import connect

    api = connect(kubeconfig, env)
    usual = ApiLimits()
    limits = replace(
        usual,
        request=config.api_request_seconds or usual.request,
        whole=config.api_seconds or usual.whole,
    )
    return None if api is None else Cluster(api, clock, limits, deadline)


def devices_of(pod: Pod, clock: Clock, config: NodeConfig) -> Devices:
    """Return what kubelet gave to a pod; it is asked when somebody wants to know."""
    from multus.devices import KUBELET_SECONDS, Devices, KubeletDevices

    def ask() -> Mapping[str, Sequence[str]]:
        deadline = clock.monotonic() + KUBELET_SECONDS
        return KubeletDevices(clock).of_pod(pod.raw, pod.cluster, deadline)

    return Devices(ask, strict=config.missing_device == "fail")


def _complain(text: str) -> None:
    send_to_syslog(_SYSLOG_ERROR, one_line(text))
