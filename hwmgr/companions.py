"""Companion files of an attachment: what other tools read, in the seed's or in sriov-cni's form."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr import seedstate, sriovcni_state
from hwmgr.store import StateDir

if TYPE_CHECKING:
    from hwmgr.model import AttachRequest, Record


def with_paths(record: Record, state_root: str, request: AttachRequest) -> Record:
    """Return the record with the path of its companion file, so that an undo can remove it."""
    if request.seed_style:
        root = request.saved_dir or state_root
        if0name = str(request.saved_conf.get("if0name") or "")
        inode = record.owner.netns.inode
        path = seedstate.path(root, inode, request.container_id, if0name, request.ifname)
    else:
        path = sriovcni_state.path(state_root, request.container_id, request.ifname)
    note = {**request.saved_conf, **request.note}
    return replace(record, saved_files=(path,), note=note)


def write(record: Record, request: AttachRequest) -> None:
    """Write the companion file; a pod's own process or another plugin may read it from now on."""
    content = seedstate.content if request.seed_style else sriovcni_state.content
    for path in record.saved_files:
        folder, name = os.path.split(path)
        StateDir(folder).write_bytes(content(record, request.saved_conf), name)
