"""Who has a function by now that a record of ours still tells of: somebody it was given to since.

sriov-cni ends attachments of ours by their state files and gives their VFs to its next pods; of our
journal it knows nothing (docs/migration.md).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hwmgr import claims
from hwmgr.errors import NamespaceError, NetlinkError, RecordTorn
from hwmgr.locate import here, inside
from hwmgr.model import Kind
from hwmgr.netns import identity_of, open_namespace
from hwmgr.savedstate import written_since
from hwmgr.sight import Sight

if TYPE_CHECKING:
    from hwmgr.holders import Holders
    from hwmgr.model import PciAddress, Record
    from hwmgr.node import Node


def successor(node: Node, record: Record, owner_fd: int | None, holders: Holders) -> str | None:
    """Say in words who has a function instead of its record's owner, None when nobody has.

    That is who claims it in sriov-cni's way; whom a state file names that is newer than the record,
    since sriov-cni before 2.7 claims nothing; and, once the owner's namespace is no more, who has
    its netdev in another one. A netdev that is here or with its owner is nobody else's.
    ``owner_fd`` is the owner's namespace, None when that is gone.
    """
    owner = record.owner.netns
    path = _claimed(node, record.address)
    if path and path != owner.path:
        sight = Sight(node.proc, node.all_processes)
        key = sight.namespace(path)
        if sight.says_nothing(path) if key is None else key != (owner.dev, owner.inode):
            return f"sriov-cni's claim gives it to namespace {path}"
    if record.kind is Kind.DPDK or not record.before.netdevs:
        return _by_state_file(node, record)
    if here(node, record.address):
        return None
    if owner_fd is not None and inside(node, owner_fd, record.address):
        return None
    other = _by_state_file(node, record)
    if other is None and owner_fd is None:
        return _elsewhere(node, record.address, holders)
    return other


def _by_state_file(node: Node, record: Record) -> str | None:
    """Say which container another plugin's state file gives the function to, after our record."""
    for entry in written_since(node.state, record.address, record.owner.since):
        # The name of our own does not tell for certain where the container ends.
        own = entry.path in record.saved_files
        if not own and entry.container_id not in (None, record.owner.container_id):
            container = str(entry.container_id)[:13]
            return f"state file {entry.path} gives it to container {container}"
    return None


def _claimed(node: Node, address: PciAddress) -> str | None:
    try:
        return claims.claimed_by(node.state, address)
    except RecordTorn:
        return None


def _elsewhere(node: Node, address: PciAddress, holders: Holders) -> str | None:
    """Look through every namespace for a function's netdev."""
    for held_by in holders.all().values():
        for holder in held_by:
            try:
                fd = open_namespace(holder.path)
            except NamespaceError:
                continue
            try:
                if inside(node, fd, address):
                    inode = identity_of(holder.path, fd).inode
                    return f"its netdev is in namespace {inode}, kept by {holder.text}"
            except NetlinkError:
                continue
            finally:
                os.close(fd)
            break
    return None
