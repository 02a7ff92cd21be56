"""Repair: a plan made of doctor's findings, carried out under the locks, and looked at again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hwmgr.doctor import batches
from hwmgr.doctor import examination as doctor
from hwmgr.doctor.facts_state import is_busy
from hwmgr.doctor.findings import Severity
from hwmgr.errors import HwmgrError, UndoIncomplete

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from hwmgr.doctor.batches import Key
    from hwmgr.doctor.findings import Cure, Finding
    from hwmgr.node import Node

# A cure can bring to light what was hidden: a record that is set aside, the VF behind it.
_ROUNDS = 4


class Step(Protocol):
    """One item of a plan: what it is about, and how it is carried out."""

    @property
    def finding(self) -> Finding:
        """Return what is to be put right."""

    def carry_out(self, node: Node) -> list[str]:
        """Do it; return in words what could not be done. May raise HwmgrError."""


@dataclass(frozen=True, slots=True)
class RepairStep:
    """A finding of doctor's that has a cure."""

    finding: Finding

    @property
    def cure(self) -> Cure | None:
        """Return what will be done."""
        return self.finding.cure

    def carry_out(self, node: Node) -> list[str]:
        """Take the locks, look again, and do it if it still is what is wrong.

        What is wrong no more, since a call came in between or another step cured it, is left alone.
        """
        ((where, batch),) = batches.batches(node, [self.finding])
        return batches.carry_out(node, where, batch)[self.finding.key]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a step: ``problems`` in words, none when it is done and seen to be."""

    step: Step
    problems: tuple[str, ...]


def plan(node: Node, addresses: Collection[str] = ()) -> list[Step]:
    """Return what is wrong and can be put right, touching nothing; of some functions if named.

    Raises SysfsError, StateError.
    """
    found = doctor.examine(node)
    return steps_for(f for f in found if not addresses or f.subject in addresses)


def act(node: Node, step: Step) -> list[str]:
    """Carry out one step; return in words what could not be done."""
    try:
        return step.carry_out(node)
    except UndoIncomplete as error:
        return error.problems
    except HwmgrError as error:
        return [str(error)]


def carry_out(node: Node, steps: Sequence[Step], addresses: Collection[str] = ()) -> list[Outcome]:
    """Carry out a plan and look at the node again, until nothing new turns up.

    A step counts as done only when its finding is gone. Raises SysfsError, StateError.
    """
    problems: dict[Key, list[str]] = {}
    done: list[Step] = []
    found: list[Finding] = []
    for _round in range(_ROUNDS):
        for step in steps:
            if not isinstance(step, RepairStep):
                problems[step.finding.key] = act(node, step)
        problems.update(_repaired(node, [s.finding for s in steps if isinstance(s, RepairStep)]))
        done += steps
        found = doctor.examine(node)
        mine = (f for f in found if not addresses or f.subject in addresses)
        steps = [s for s in steps_for(mine) if s.finding.key not in problems]
        if not steps:
            break
    return [Outcome(step, _judged(node, step, problems[step.finding.key], found)) for step in done]


def _repaired(node: Node, findings: Sequence[Finding]) -> dict[Key, list[str]]:
    """Cure findings in batches; what a batch leaves goes into another, or has a turn of its own."""
    problems: dict[Key, list[str]] = {}
    waiting = batches.batches(node, findings)
    while waiting:
        where, batch = waiting.pop(0)
        if len(batch) == 1:
            problems[batch[0].key] = act(node, RepairStep(batch[0]))
            continue
        try:
            told = batches.carry_out(node, where, batch)
        except HwmgrError as error:
            told = {f.key: [str(error)] for f in batch}
        problems.update(told)
        left = [f for f in batch if f.key not in told]
        # Nothing done: they are locked, and each is waited for.
        waiting += [(where, left)] if left and told else [(where, [f]) for f in left]
    return problems


def _judged(
    node: Node, step: Step, problems: Sequence[str], found: Sequence[Finding]
) -> tuple[str, ...]:
    """Say what is left of a step's problems, now that the node has been looked at again.

    What failed first may have worked in a later round, by then under another finding's name.
    """
    finding = step.finding
    if finding.key in {f.key for f in found} and not problems:
        return (f"{finding.subject}: it is still so: {finding.finding}",)
    left = {f.subject for f in found if f.severity is not Severity.INFO}
    # What somebody is at work on has been left out of the look.
    unseen = is_busy(node, finding.subject)
    if isinstance(step, RepairStep) and finding.subject not in left and not unseen:
        return ()
    return tuple(problems)


def steps_for(found: Iterable[Finding]) -> list[Step]:
    """Return the steps that put right what can be."""
    return [RepairStep(f) for f in found if f.cure is not None]
