"""sriov-cni's claim files, ``pci/<PCI address>`` with a namespace path: respected and written.

sriov-cni takes one for stale once its path is no namespace (pkg/utils/pci_allocator.go); see
hwmgr.sight for where that cannot be told.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwmgr.store import StateDir

_FOLDER = "pci"


def claimed_by(state: StateDir, address: str) -> str | None:
    """Return the namespace path in a function's claim file, None when it has none."""
    data = state.read_bytes(_FOLDER, address)
    return None if data is None else os.fsdecode(data).strip()


def write(state: StateDir, address: str, netns_path: str) -> None:
    """Claim a function for a namespace, in the form that sriov-cni reads."""
    state.write_bytes(os.fsencode(netns_path), _FOLDER, address)


def release(state: StateDir, address: str, netns_path: str) -> None:
    """Remove a claim if it is for that namespace path; somebody else's claim stays."""
    if claimed_by(state, address) == netns_path:
        state.remove(_FOLDER, address)


def addresses(state: StateDir) -> list[str]:
    """Return the functions that have a claim file."""
    return [name for name in state.list(_FOLDER) if name != "vf_lock"]
