"""The real world for the engine: this process, this machine's kernel, its clock, its syslog."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from hwmgr import nodeconfig
from hwmgr.node import read_boot_id
from hwmgr.run import KernelRunner
from hwmgr.store import StateDir
from multus.chain import Chains
from multus.clock import Limits, SystemClock
from multus.commands import Engine
from multus.doors import Doors
from multus.invoke import ExecPlugin
from multus.logs import NodeLog, node_sink, one_line, send_to_syslog
from multus.namespaces import KernelNamespaces
from multus.networks import configured
from multus.skel import Commands, Process, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hwmgr.nodeconfig import NodeConfig
    from multus.config import LogConfig
    from multus.delegates import PluginRunner

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

    sink = node_sink(config.log_target, config.log_level, stderr=sys.stderr, tag="multus")

    def open_log(keys: LogConfig) -> NodeLog:
        return NodeLog(keys, syslog=sink, stderr=sys.stderr, now=clock.now)

    return Doors(
        state=StateDir(config.state_dir),
        open_state=StateDir,
        chains=Chains(ExecPlugin(KernelRunner(), env, clock), in_process or {}),
        namespaces=KernelNamespaces(),
        networks=configured,
        clock=clock,
        boot_id=read_boot_id(),
        open_log=open_log,
        checkpoint=checkpoint,
        limits=limits or Limits(config.add_seconds, config.delegate_seconds),
    )


def _complain(text: str) -> None:
    send_to_syslog(_SYSLOG_ERROR, one_line(text))
