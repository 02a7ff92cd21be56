"""Choosing a function: by its address, or the first free VF of a PF. Claims are respected."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from hwmgr import claims
from hwmgr.errors import (
    DeviceBusy,
    LockTimeout,
    NoFreeVF,
    RecordTorn,
    RequestError,
)
from hwmgr.locate import here, open_owner
from hwmgr.model import describe
from hwmgr.pci import find_vf, list_vfs
from hwmgr.restore import give_up

if TYPE_CHECKING:
    from contextlib import ExitStack

    from hwmgr.model import PF, VF, Record
    from hwmgr.node import Node

MAX_SHARED_NETDEVS = 2


def take(node: Node, address: str, pf_address: str, container_id: str, ifname: str) -> None:
    """Make sure that nobody holds a function; the caller has its lock and its PF's.

    What a dead owner left is given back first. Raises DeviceBusy, with the owner.
    """
    if pf_address != address and node.journal.read(pf_address) is not None:
        raise DeviceBusy(address, f"its PF {pf_address} has been given away as a whole")
    record = _record(node, address)
    if record is not None:
        mine = record.owned_by(container_id, ifname)
        if not mine and owner_alive(node, record):
            raise DeviceBusy(address, f"it is allocated to {describe(record)}", describe(record))
        give_up(node, record)
    path = claims.claimed_by(node.state, address)
    if path is not None:
        if claims.is_live(path):
            raise DeviceBusy(address, f"sriov-cni has allocated it to namespace {path}", path)
        claims.release(node.state, address, path)


def choose(node: Node, pf: PF, *, l2: bool, container_id: str, ifname: str, locks: ExitStack) -> VF:
    """Take the first free VF of a PF, by index; the caller has the PF's lock.

    Free is a VF whose netdev is here and unused by the host, that nobody's record or claim names.
    Those whose owner is dead come last. The VF's lock is entered into ``locks``. Raises NoFreeVF.
    """
    counts: Counter[str] = Counter()
    leaked = []
    for vf in list_vfs(node.sysfs, pf.address):
        state = _state(node, vf)
        if state == "leaked":
            leaked.append(vf)
        elif state == "free":
            if _lock(node, vf, locks):
                take(node, vf.address, vf.pf_address, container_id, ifname)
                _refuse_unfit(vf, l2)
                return vf
            state = "being allocated"
        counts[state] += 1
    for vf in leaked:
        if not _lock(node, vf, locks):
            continue
        try:
            take(node, vf.address, vf.pf_address, container_id, ifname)
        except DeviceBusy:
            counts["foreign"] += 1
            continue
        # Somebody else may have been given it since.
        given_back = find_vf(node.sysfs, vf.address)
        state = _state(node, given_back)
        if state == "free":
            return given_back
        counts[state] += 1
    raise NoFreeVF(pf.ifname or pf.address, dict(counts))


def owner_alive(node: Node, record: Record) -> bool:
    """Tell whether the namespace of a record's owner still exists, in this boot."""
    if record.boot_id != node.boot_id:
        return False
    fd = open_owner(node, record.owner.netns)
    if fd is None:
        return False
    os.close(fd)
    return True


def _record(node: Node, address: str) -> Record | None:
    try:
        return node.journal.read(address)
    except RecordTorn as error:
        raise DeviceBusy(address, str(error)) from error


def _state(node: Node, vf: VF) -> str:
    try:
        record = node.journal.read(vf.address)
    except RecordTorn:
        return "broken"
    if record is not None:
        return "allocated" if owner_alive(node, record) else "leaked"
    try:
        path = claims.claimed_by(node.state, vf.address)
    except RecordTorn:
        return "broken"
    if path is not None and claims.is_live(path):
        return "foreign"
    if vf.driver is None:
        return "without driver"
    if not vf.netdevs:
        return "in use elsewhere"
    if len(vf.netdevs) > MAX_SHARED_NETDEVS:
        return "of unknown kind"
    return "in use by the host" if any(n.in_use for n in here(node, vf.address)) else "free"


def _lock(node: Node, vf: VF, locks: ExitStack) -> bool:
    try:
        locks.enter_context(node.locks.function(vf.address, timeout=0))
    except LockTimeout:
        return False
    return True


def _refuse_unfit(vf: VF, l2: bool) -> None:
    if len(vf.netdevs) == MAX_SHARED_NETDEVS and not l2:
        message = f"{vf.address} has two netdevs; a shared VF needs l2enable: true"
        raise RequestError(message)
