"""Everything the engine needs of the world, as one value that is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmgr.store import StateDir
    from multus.api.cluster import Cluster
    from multus.chain import Chains
    from multus.clock import Clock, Limits
    from multus.config import LogConfig
    from multus.devices.choice import Devices
    from multus.devices.deviceinfo import DeviceInfo
    from multus.logs import Log
    from multus.namespaces import Namespaces
    from multus.orphans import Orphans
    from multus.pods import Pod
    from multus.routes import Routes
    from multus.spooled import LeftCalls


@dataclass(frozen=True, slots=True)
class Doors:
    """The engine's surroundings; two engines with different doors can live in one process.

    ``state`` is the node's state directory, ``open_state`` opens another one (a ``cniDir``).
    ``connect`` opens the API server of a kubeconfig, to be asked until a deadline on the monotonic
    clock; None when there is no cluster. ``devices``
    are those that kubelet gave to a pod, ``orphans`` plugins whose call was killed, ``left`` the
    DELs that a shim left for later. ``checkpoint`` hears the name of every durable step; tests end
    the process there. ``call_id`` is this call's own, "" where nobody will ask what it made.
    """

    state: StateDir
    open_state: Callable[[str], StateDir]
    chains: Chains
    namespaces: Namespaces
    connect: Callable[[str, float], Cluster | None]
    devices: Callable[[Pod], Devices]
    device_info: DeviceInfo
    routes: Routes
    orphans: Orphans
    left: LeftCalls
    clock: Clock
    boot_id: str
    open_log: Callable[[LogConfig], Log]
    checkpoint: Callable[[str], None]
    limits: Limits
    call_id: str = ""
