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
from hwmgr.sight import UNSEEN_HINT, Life, Sight

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
        life = Life.GONE if mine else owner_life(node, record)
        if life is not Life.GONE:
            text = f"it is allocated to {describe(record)}"
            raise DeviceBusy(address, _said(text, life), describe(record))
        give_up(node, record)
    path = claims.claimed_by(node.state, address)
    if path is not None:
        life = claim_life(node, path)
        if life is not Life.GONE:
            text = f"sriov-cni has allocated it to namespace {path}"
            raise DeviceBusy(address, _said(text, life), path)
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
    hint = f"of those {Life.UNSEEN}, {UNSEEN_HINT}" if counts[Life.UNSEEN] else ""
    raise NoFreeVF(pf.ifname or pf.address, dict(counts), hint)


def owner_alive(node: Node, record: Record) -> bool:
    """Tell whether the namespace of a record's owner exists, or may where we do not see it."""
    return owner_life(node, record) is not Life.GONE


def owner_life(node: Node, record: Record) -> Life:
    """Say whether the namespace of a record's owner still exists, in this boot."""
    if record.boot_id != node.boot_id:
        return Life.GONE
    netns = record.owner.netns
    fd = open_owner(node, netns)
    if fd is not None:
        os.close(fd)
        return Life.LIVES
    sight = Sight(node.proc, node.all_processes)
    if sight.namespace(netns.path) == (netns.dev, netns.inode):
        return Life.LIVES
    return Life.UNSEEN if sight.says_nothing(netns.path) else Life.GONE


def claim_life(node: Node, path: str) -> Life:
    """Say whether the namespace in a claim still exists; sriov-cni killed at it leaves it empty."""
    return Life.GONE if not path else Sight(node.proc, node.all_processes).life(path)


def _said(text: str, life: Life) -> str:
    return f"{text}; {UNSEEN_HINT}" if life is Life.UNSEEN else text


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
        life = owner_life(node, record)
        return {Life.LIVES: "allocated", Life.GONE: "leaked"}.get(life, str(life))
    try:
        path = claims.claimed_by(node.state, vf.address)
    except RecordTorn:
        return "broken"
    life = Life.GONE if path is None else claim_life(node, path)
    if life is not Life.GONE:
        return "foreign" if life is Life.LIVES else str(life)
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
