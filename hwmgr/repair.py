"""Repair: what the journal alone shows to be wrong, and the one action that puts each right."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from hwmgr import claims
from hwmgr.allocate import owner_alive
from hwmgr.errors import HwmgrError, LockTimeout, RecordTorn, UndoIncomplete
from hwmgr.model import PciAddress, Stage, describe
from hwmgr.pci import device_path, parse_address
from hwmgr.restore import give_up

if TYPE_CHECKING:
    from hwmgr.model import Record
    from hwmgr.node import Node


class Action(StrEnum):
    """What a repair does with its subject."""

    GIVE_BACK = "give back"
    STRIKE = "strike the record"
    SET_ASIDE = "set the record aside"
    UNCLAIM = "remove the claim"
    RUN_CALL = "run the call"
    SET_CALL_ASIDE = "set the call aside"


@dataclass(frozen=True, slots=True)
class RepairStep:
    """One thing that is wrong: which function or left call, what was found, what will be done."""

    subject: str
    finding: str
    action: Action


def plan(node: Node) -> list[RepairStep]:
    """Return what is wrong, touching nothing. A function that a call is working on is left out."""
    steps = []
    for address in node.journal.addresses():
        if not _busy(node, address):
            steps += _step_for_record(node, address)
    for name in claims.addresses(node.state):
        claimed = parse_address(name)
        if claimed is None or node.journal.has(claimed):
            continue
        path = claims.claimed_by(node.state, claimed) or ""
        if not claims.is_live(path):
            finding = f"claimed for namespace {path}, which is gone, and no record has it"
            steps.append(RepairStep(claimed, finding, Action.UNCLAIM))
    return steps


def act(node: Node, step: RepairStep) -> list[str]:
    """Do one step, if it still is what is wrong; return what could not be done, in words.

    Taken again under the function's locks, so that a call which came in between is not disturbed.
    """
    address = PciAddress(step.subject)
    try:
        with ExitStack() as locks:
            record = _read(node, address)
            if record is not None:
                locks.enter_context(node.locks.pf(record.pf_address))
            locks.enter_context(node.locks.function(address))
            return _act_locked(node, step)
    except UndoIncomplete as error:
        return error.problems
    except HwmgrError as error:
        return [str(error)]


def _act_locked(node: Node, step: RepairStep) -> list[str]:
    address = PciAddress(step.subject)
    if step.action is Action.UNCLAIM:
        path = claims.claimed_by(node.state, address)
        if path is not None and not claims.is_live(path):
            claims.release(node.state, address, path)
        return []
    if step not in _step_for_record(node, address):
        return [f"{address}: it has changed meanwhile; look again"]
    if step.action is Action.SET_ASIDE:
        node.journal.set_aside(address)
        return []
    record = node.journal.read(address)
    if record is not None:
        give_up(node, record)
    return []


def _step_for_record(node: Node, address: PciAddress) -> list[RepairStep]:
    try:
        record = node.journal.read(address)
    except RecordTorn as error:
        return [RepairStep(address, str(error), Action.SET_ASIDE)]
    if record is None:
        return []
    who = describe(record)
    if record.boot_id != node.boot_id:
        finding = f"held by {who} before the node was rebooted"
        return [RepairStep(address, finding, Action.STRIKE)]
    if not node.sysfs.exists(device_path(address)):
        finding = f"held by {who}, but the device is gone"
        return [RepairStep(address, finding, Action.STRIKE)]
    if record.stage is Stage.INTENDED:
        finding = f"attaching it to {who} was never finished"
    elif record.stage is Stage.DETACHING:
        finding = f"detaching it from {who} was never finished"
    elif not owner_alive(node, record):
        finding = f"held by {who}, whose namespace is gone"
    else:
        return []
    return [RepairStep(address, finding, Action.GIVE_BACK)]


def _read(node: Node, address: str) -> Record | None:
    try:
        return node.journal.read(address)
    except RecordTorn:
        return None


def _busy(node: Node, address: str) -> bool:
    try:
        with node.locks.function(address, timeout=0):
            return False
    except LockTimeout:
        return True
