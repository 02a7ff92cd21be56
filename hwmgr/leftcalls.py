"""Repair of the spool: run each call that was left for later, by the program that it was meant for.

What a call is about is that program's business. It finds in ``HWMGR_LEFT_CALL`` which file it was
started for, takes its own locks, and removes the file when the work is done.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hwmgr.errors import HwmgrError, RecordTorn, RunError
from hwmgr.repair import Action, RepairStep
from hwmgr.spool import Spool

if TYPE_CHECKING:
    from hwmgr.node import Node
    from hwmgr.spool import LeftCall

_SECONDS = 120.0
_EXCERPT = 300
# A multus that held the container's lock when it made the call holds it no more.
_NOT_INHERITED = ("HWMGR_LOCKED_CONTAINER",)


def plan(node: Node) -> list[RepairStep]:
    """Return the calls that are left, oldest first, touching nothing."""
    spool = Spool(node.state)
    return [step for name in spool.names() for step in _step(spool, name)]


def act(node: Node, step: RepairStep, programs: str) -> list[str]:
    """Do one step; return what could not be done, in words.

    ``programs`` is the folder that has the programs of calls, ``multus`` and ``sriov``.
    """
    spool, name = Spool(node.state), step.subject
    try:
        if step not in _step(spool, name):
            return []  # somebody has done it meanwhile
        if step.action is Action.SET_CALL_ASIDE:
            spool.set_aside(name)
            return []
        left = spool.read(name)
        return [] if left is None else _run(node, spool, left, programs)
    except HwmgrError as error:
        return [str(error)]


def _step(spool: Spool, name: str) -> list[RepairStep]:
    try:
        left = spool.read(name)
    except RecordTorn as error:
        return [RepairStep(name, str(error), Action.SET_CALL_ASIDE)]
    except HwmgrError as error:
        return [RepairStep(name, str(error), Action.RUN_CALL)]
    if left is None:
        return []
    finding = f"a call of {left.call.program} for {left.container_id} was left for later"
    return [RepairStep(name, finding, Action.RUN_CALL)]


def _run(node: Node, spool: Spool, left: LeftCall, programs: str) -> list[str]:
    path = os.path.join(programs, left.call.program)
    inherited = {k: v for k, v in left.call.env.items() if k not in _NOT_INHERITED}
    env = {
        **inherited,
        "HWMGR_LEFT_CALL": left.name,
        "HWMGR_STATE_DIR": node.state.root,
        "HWMGR_SYSFS": node.sysfs.root,
    }
    try:
        done = node.runner.run([path], env=env, stdin=left.call.stdin, timeout=_SECONDS)
    except RunError as error:
        return [f"{left.name}: {error.message}"]
    said = " ".join((done.stdout or done.stderr).decode("utf-8", "replace").split())[-_EXCERPT:]
    if done.returncode != 0:
        return [f"{left.name}: {path} failed: {said or f'exit status {done.returncode}'}"]
    if spool.has(left.name):
        return [f"{left.name}: it is still left; somebody is at work for {left.container_id}"]
    return []
