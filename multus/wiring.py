"""The real world for the engine: this process, this machine's kernel, its clock, its syslog."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr import nodeconfig
from hwmgr.errors import HwmgrError
from hwmgr.node import read_boot_id
from hwmgr.run import KernelRunner
from hwmgr.store import StateDir
from multus import version as versions
from multus.chain import Chains
from multus.clock import Limits, SystemClock
from multus.commands import Engine
from multus.devices.deviceinfo import DeviceInfo
from multus.doors import Doors
from multus.invoke import LOCK_HELD, STATE_DIR, ExecPlugin
from multus.logs import NodeLog, node_sink, one_line, send_to_syslog
from multus.namespaces import KernelNamespaces
from multus.orphans import KernelOrphans
from multus.routes import KernelRoutes
from multus.skel import Commands, Process, serve
from multus.spooled import LEFT_CALL, LeftCalls
from multus.translate import to_cni

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hwmgr.frames import Call
    from hwmgr.links import Netlink
    from hwmgr.nodeconfig import NodeConfig
    from multus.api.cluster import Cluster
    from multus.clock import Clock
    from multus.config import LogConfig
    from multus.delegates import PluginRunner
    from multus.devices.choice import Devices
    from multus.pods import Pod
    from multus.spooled import Deleter
    from multus.sriov_commands import SriovCommands

_SYSLOG_ERROR, _SYSLOG_INFO = 3, 6
# A runtime waits for our end, so what others left may not keep a call long, nor every call.
_PASSING_SECONDS = 5.0
_PASSING_PAUSE_SECONDS = 60.0


def run() -> int:
    """Answer the call of ``multus`` that came in by this process."""
    return _run(_engine)


def run_sriov() -> int:
    """Answer the call of ``sriov`` that came in by this process."""
    return _run(_sriov_engine)


def _run(make_engine: Callable[[], Commands]) -> int:
    name = os.environ.get(LEFT_CALL)
    if name:
        return _work_off(name)
    status = serve_process(make_engine)
    if status == 0 and not os.environ.get(LOCK_HELD):
        _drain_in_passing()
    return status


def _work_off(name: str) -> int:
    """Do the one call of the spool that ``hwmgr repair`` started this process for."""
    import json

    try:
        config = nodeconfig.load(os.environ)
        deadline = SystemClock().monotonic() + config.add_seconds
        problem = left_calls(config).work_off(name, deadline)
    except HwmgrError as error:
        problem = to_cni(error)
    if problem is None:
        return 0
    sys.stdout.write(json.dumps(problem.to_json(versions.CURRENT)) + "\n")
    return 1


def _drain_in_passing() -> None:
    """Work off what was left a while ago; the call that came in is answered already."""
    try:
        config = nodeconfig.load(os.environ)
        deadline = SystemClock().monotonic() + _PASSING_SECONDS
        left_calls(config).drain_all(deadline, _PASSING_PAUSE_SECONDS)
    except Exception as error:  # noqa: BLE001 - what was answered must not end as a failure
        _complain(f"calls that were left for later stay left: {error!r}")


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
    return engine_for(os.environ, nodeconfig.load(os.environ))


def engine_for(
    env: Mapping[str, str],
    config: NodeConfig,
    *,
    checkpoint: Callable[[str], None] = lambda _name: None,
    limits: Limits | None = None,
    netlink: Netlink | None = None,
) -> Engine:
    """Return the engine for a call with this environment, devices in-process.

    A process that answers many calls passes the one ``netlink`` that it keeps.
    """

    def sriov() -> PluginRunner:
        from multus.hardware import sriov_plugin

        return sriov_plugin(env, config, netlink)

    inside = {"sriov": sriov}
    doors = real_doors(env, config, in_process=inside, checkpoint=checkpoint, limits=limits)
    return Engine(doors)


def _sriov_engine() -> SriovCommands:
    return sriov_commands_for(os.environ, nodeconfig.load(os.environ))


def sriov_commands_for(
    env: Mapping[str, str],
    config: NodeConfig,
    *,
    limits: Limits | None = None,
    netlink: Netlink | None = None,
) -> SriovCommands:
    """Return what answers a call of ``sriov`` with this environment; see engine_for."""
    from hwmgr.locks import Locks
    from multus.hardware import sriov_plugin
    from multus.sriov_commands import SriovCommands

    return SriovCommands(
        sriov_plugin(env, config, netlink),
        Locks(StateDir(config.state_dir)),
        limits or Limits(config.add_seconds, config.delegate_seconds),
        left_calls(config),
        env.get(LOCK_HELD),
    )


def left_calls(
    config: NodeConfig, *, checkpoint: Callable[[str], None] = lambda _name: None
) -> LeftCalls:
    """Return the DELs that were left on this node, to be done in this process by either program."""
    sink = node_sink(
        config.log_target, config.log_level, stderr=sys.stderr, tag="multus", now=SystemClock().now
    )

    def make(call: Call, seconds: float) -> Deleter:
        limits = Limits(min(config.add_seconds, seconds), min(config.delegate_seconds, seconds))
        if call.program == "sriov":
            return sriov_commands_for(call.env, config, limits=limits)
        return engine_for(call.env, config, checkpoint=checkpoint, limits=limits)

    return LeftCalls(
        StateDir(config.state_dir),
        make,
        SystemClock(),
        lambda text: sink(_SYSLOG_INFO, one_line(text)),
        checkpoint=checkpoint,
    )


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

    sink = node_sink(
        config.log_target, config.log_level, stderr=sys.stderr, tag="multus", now=SystemClock().now
    )

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
        left=left_calls(config, checkpoint=checkpoint),
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
    from multus.api.cluster import ApiLimits, Cluster
    from multus.api.k8sclient import connect

    api = connect(kubeconfig, env, credentials_seconds=config.credentials_seconds)
    usual = ApiLimits()
    limits = replace(
        usual,
        request=config.api_request_seconds or usual.request,
        whole=config.api_seconds or usual.whole,
    )
    return None if api is None else Cluster(api, clock, limits, deadline)


def devices_of(pod: Pod, clock: Clock, config: NodeConfig) -> Devices:
    """Return what kubelet gave to a pod; it is asked when somebody wants to know."""
    from multus.devices.choice import KUBELET_SECONDS, Devices, KubeletDevices

    def ask() -> Mapping[str, Sequence[str]]:
        deadline = clock.monotonic() + KUBELET_SECONDS
        return KubeletDevices(clock).of_pod(pod.raw, pod.cluster, deadline)

    return Devices(ask, strict=config.missing_device == "fail")


def _complain(text: str) -> None:
    send_to_syslog(_SYSLOG_ERROR, one_line(text))
