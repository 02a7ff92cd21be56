"""Repair of the spool: run each call that was left for later, by the program that it was meant for.

What a call is about is that program's business. It finds in ``HWMGR_LEFT_CALL`` which file it was
started for, takes its own locks, and removes the file when the work is done.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.doctor.findings import Cure, Evidence, Finding, Severity
from hwmgr.errors import HwmgrError, RecordTorn, RunError
from hwmgr.spool import Spool

if TYPE_CHECKING:
    from hwmgr.node import Node
    from hwmgr.spool import LeftCall

_SECONDS = 120.0
_EXCERPT = 300
# A multus that held the container's lock when it made the call holds it no more.
_NOT_INHERITED = ("HWMGR_LOCKED_CONTAINER",)


@dataclass(frozen=True, slots=True)
class LeftCallStep:
    """A call to be run, or set aside; see hwmgr.doctor.repair.Step.

    ``programs`` is the folder that has the programs of calls, ``multus`` and ``sriov``.
    """

    finding: Finding
    programs: str

    def carry_out(self, node: Node) -> list[str]:
        """Do it, if it is still left; return what could not be done, in words."""
        spool, name = Spool(node.state), self.finding.value
        if self.finding not in _findings(spool, name):
            return []  # somebody has done it meanwhile
        if self.finding.cure is Cure.SET_CALL_ASIDE:
            spool.set_aside(name)
            return []
        left = spool.read(name)
        return [] if left is None else _run(node, spool, left, self.programs)


def examine(node: Node) -> list[Finding]:
    """Return the calls that are left, oldest first, touching nothing. Raises StateError."""
    spool = Spool(node.state)
    return [finding for name in spool.names() for finding in _findings(spool, name)]


def plan(node: Node, programs: str) -> list[LeftCallStep]:
    """Return what is to be done about the calls that are left. Raises StateError."""
    return [LeftCallStep(finding, programs) for finding in examine(node)]


def _findings(spool: Spool, name: str) -> list[Finding]:
    path = spool.path(name)
    try:
        left = spool.read(name)
    except RecordTorn as error:
        what, why = "this is no call that could be run", error.reason
        return [_finding("call-torn", path, what, why, Cure.SET_CALL_ASIDE, name)]
    except HwmgrError as error:
        what, why = "a call was left for later and cannot be read", error.message
        return [_finding("call-left", path, what, why, Cure.RUN_CALL, name)]
    if left is None:
        return []
    what = f"a call of {left.call.program} for {left.container_id} was left for later"
    why = "nobody could do it when it was made"
    return [_finding("call-left", path, what, why, Cure.RUN_CALL, name)]


def _finding(kind: str, path: str, what: str, why: str, cure: Cure, name: str) -> Finding:
    evidence = (Evidence(why, path),)
    return Finding(kind, Severity.WARNING, path, what, evidence, str(cure), cure, name)


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
