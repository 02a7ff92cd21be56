"""Who has a function by now that a record of ours still tells of: somebody it was given to since.

sriov-cni ends attachments of ours by their state files and gives their VFs to its next pods; of our
journal it knows nothing (docs/migration.md).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hwmgr import claims
from hwmgr.errors import NamespaceError, NetlinkError, RecordTorn
from hwmgr.holders import namespace_holders
from hwmgr.locate import here, inside, open_kept
from hwmgr.model import Kind
from hwmgr.netns import identity, identity_of, open_namespace

if TYPE_CHECKING:
    from hwmgr.model import PciAddress, Record
    from hwmgr.node import Node


def successor(node: Node, record: Record, netns_path: str | None = None) -> str | None:
    """Say in words who has a function instead of its record's owner, None when nobody has.

    That is who claims it in sriov-cni's way; and, once the owner's namespace is no more, who has
    its netdev in another one. While the owner lives its netdev is its own, wherever it moved it.
    """
    owner = record.owner.netns
    path = _claimed(node, record.address)
    if path and path != owner.path:
        try:
            lives = not identity(path).same_namespace(owner)
        except NamespaceError:
            lives = False
        if lives:
            return f"sriov-cni's claim gives it to namespace {path}"
    if record.kind is Kind.DPDK or not record.before.netdevs or here(node, record.address):
        return None
    fd = open_kept(node, owner, netns_path)
    if fd is not None:
        os.close(fd)
        return None
    return _elsewhere(node, record.address)


def _claimed(node: Node, address: PciAddress) -> str | None:
    try:
        return claims.claimed_by(node.state, address)
    except RecordTorn:
        return None


def _elsewhere(node: Node, address: PciAddress) -> str | None:
    """Look through every namespace for a function's netdev."""
    for holders in namespace_holders(node.proc).values():
        for holder in holders:
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
