"""Repair: a plan made of doctor's findings, carried out under the locks, and looked at again."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hwmgr import cures_devices, cures_state, doctor
from hwmgr.errors import HwmgrError, StateError, UndoIncomplete
from hwmgr.findings import Cure, Severity
from hwmgr.pci import device_path, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from hwmgr.findings import Finding
    from hwmgr.node import Node

_CURES: Mapping[Cure, Callable[[Node, Finding], list[str]]] = {
    Cure.GIVE_BACK: cures_state.give_back,
    Cure.GIVE_BACK_SAVED: cures_state.give_back_saved,
    Cure.STRIKE: cures_state.give_back,
    Cure.SET_ASIDE: cures_state.set_aside,
    Cure.SET_FILE_ASIDE: cures_state.set_file_aside,
    Cure.REBUILD: cures_state.rebuild,
    Cure.RENAME_PF: cures_state.rename_pf,
    Cure.CLAIM: cures_state.claim,
    Cure.UNCLAIM: cures_state.unclaim,
    Cure.REMOVE_FILE: cures_state.remove_file,
    Cure.TAKE_HOME: cures_devices.take_home,
    Cure.REBIND: cures_devices.rebind,
    Cure.PROBE: cures_devices.probe,
    Cure.CLEAR_OVERRIDE: cures_devices.clear_override,
    Cure.RESET_SETTINGS: cures_devices.reset_settings,
    Cure.RESET_MAC: cures_devices.reset_mac,
    Cure.LIFT_MAC: cures_devices.lift_mac,
    Cure.RENAME: cures_devices.rename,
    Cure.CLEAR_ALIAS: cures_devices.clear_alias,
    Cure.SET_DOWN: cures_devices.set_down,
    Cure.SET_UP: cures_devices.set_up,
}
# A cure can bring to light what was hidden: a record that is set aside, the VF behind it.
_ROUNDS = 4
# What another PF's VF is part of cannot be seen by looking at one PF.
_OF_SEVERAL_PFS = ("mac-duplicate",)


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
        finding = self.finding
        with ExitStack() as locks:
            pf = _lock(node, finding, locks)
            wide = pf is None or finding.id in _OF_SEVERAL_PFS
            found = doctor.examine(node, None if wide else pf, held=finding.subject)
            if finding.key not in {f.key for f in found} or finding.cure is None:
                node.log(f"{finding.subject}: {finding.id} is no more")
                return []
            return _CURES[finding.cure](node, finding)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a step: ``problems`` in words, none when it is done and seen to be."""

    step: Step
    problems: tuple[str, ...]


def plan(node: Node, addresses: Collection[str] = ()) -> list[Step]:
    """Return what is wrong and can be put right, touching nothing; of some functions if named.

    Raises SysfsError, StateError.
    """
    return _steps(doctor.examine(node), addresses)


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
    problems: dict[tuple[str, str, str], list[str]] = {}
    done: list[Step] = []
    for _round in range(_ROUNDS):
        for step in steps:
            problems[step.finding.key] = act(node, step)
            done.append(step)
        found = doctor.examine(node)
        steps = [s for s in _steps(found, addresses) if s.finding.key not in problems]
        if not steps:
            break
    else:
        found = doctor.examine(node)
    return [Outcome(step, _judged(step, problems[step.finding.key], found)) for step in done]


def _judged(step: Step, problems: Sequence[str], found: Sequence[Finding]) -> tuple[str, ...]:
    """Say what is left of a step's problems, now that the node has been looked at again.

    What failed first may have worked in a later round, by then under another finding's name.
    """
    finding = step.finding
    if finding.key in {f.key for f in found} and not problems:
        return (f"{finding.subject}: it is still so: {finding.finding}",)
    left = {f.subject for f in found if f.severity is not Severity.INFO}
    if isinstance(step, RepairStep) and finding.subject not in left:
        return ()
    return tuple(problems)


def _steps(found: Sequence[Finding], addresses: Collection[str]) -> list[Step]:
    wanted = [f for f in found if f.cure is not None]
    return [RepairStep(f) for f in wanted if not addresses or f.subject in addresses]


def _lock(node: Node, finding: Finding, locks: ExitStack) -> str | None:
    """Lock the PF and the function of a finding; return the PF's address, None without one."""
    address = parse_address(finding.subject)
    if address is None:
        return None
    pf = node.sysfs.link_name(device_path(address, "physfn"))
    if pf is None and not _is_pf(node, address):
        pf = _recorded_pf(node, address)
    locks.enter_context(node.locks.pf(pf or address))
    locks.enter_context(node.locks.function(address))
    return next((a for a in (pf, address) if a and _is_pf(node, a)), None)


def _is_pf(node: Node, address: str) -> bool:
    return node.sysfs.exists(device_path(address, "sriov_totalvfs"))


def _recorded_pf(node: Node, address: str) -> str | None:
    try:
        record = node.journal.read(address)
    except StateError:
        return None
    return record.pf_address if record is not None else None
