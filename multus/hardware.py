"""Wires the in-process ``sriov`` delegate to this machine, for ``multus`` and ``sriov`` alike."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from hwmgr.node import real_node
from multus.clock import SystemClock
from multus.invoke import STATE_DIR, ExecPlugin
from multus.logs import node_sink, one_line
from multus.sriov import SriovPlugin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hwmgr.links import Netlink
    from hwmgr.node import Node
    from hwmgr.nodeconfig import NodeConfig
    from hwmgr.run import Runner

_SYSLOG_INFO = 6


def sriov_plugin(
    env: Mapping[str, str], config: NodeConfig, netlink: Netlink | None = None
) -> SriovPlugin:
    """Return the delegate for this machine; ``env`` is what IPAM plugins inherit.

    A process that answers many calls passes the one ``netlink`` that it keeps.
    """
    sink = node_sink(
        config.log_target, config.log_level, stderr=sys.stderr, tag="sriov", now=SystemClock().now
    )
    node = real_node(
        sysfs_root=env.get("HWMGR_SYSFS") or "/sys",
        state_dir=config.state_dir,
        dpdk_tools=config.dpdk_tools,
        log=lambda text: sink(_SYSLOG_INFO, one_line(text)),
        netlink=netlink,
    )
    plugin_env = {**env, STATE_DIR: config.state_dir}
    return plugin_on(node, node.runner, plugin_env, config.allowed_dirs)


def plugin_on(
    node: Node,
    runner: Runner,
    env: Mapping[str, str],
    allowed_dirs: Sequence[str],
    call_id: str = "",
) -> SriovPlugin:
    """Return the delegate on a given node, with IPAM plugins run by ``runner``."""
    plugins = ExecPlugin(runner, env, SystemClock())
    return SriovPlugin(node, plugins, lambda path: is_below(path, allowed_dirs), call_id)


def is_below(path: str, folders: Sequence[str]) -> bool:
    """Tell whether a path, links resolved, is one of the folders or inside one."""
    real = os.path.realpath(path)
    return any(
        os.path.isabs(path) and os.path.commonpath((real, folder)) == folder
        for folder in map(os.path.realpath, folders)
    )
