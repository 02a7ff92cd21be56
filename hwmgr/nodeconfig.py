"""The node's own configuration file, ``/etc/hwmgr/config.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.devbind import DISTRIBUTION_TOOLS

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the administrator of this node has decided."""

    state_dir: str = "/var/lib/cni/sriov"
    dpdk_tools: tuple[str, ...] = DISTRIBUTION_TOOLS
    add_seconds: float = 90.0
    delegate_seconds: float = 60.0
    allowed_dirs: tuple[str, ...] = ("/var/lib/cni",)


def load(env: Mapping[str, str]) -> NodeConfig:
    """Read the file that the environment names; ``HWMGR_STATE_DIR`` wins over it."""
    state_dir = env.get("HWMGR_STATE_DIR")
    return NodeConfig(state_dir=state_dir) if state_dir else NodeConfig()
