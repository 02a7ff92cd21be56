"""Cures of several findings under one look: what concerns one PF is locked, looked at, put right.

Nothing can change between the look and the cures but by who takes no locks: those of the PF and of
every function of the batch are held. A batch ends after some seconds, so that calls get their turn.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from hwmgr.doctor import cures_devices, cures_state
from hwmgr.doctor import examination as doctor
from hwmgr.doctor.findings import Cure
from hwmgr.errors import HwmgrError, LockTimeout, StateError, UndoIncomplete
from hwmgr.pci import device_path, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hwmgr.doctor.findings import Finding
    from hwmgr.model import Record
    from hwmgr.node import Node

Key = tuple[str, str, str]

_CURES: Mapping[Cure, Callable[[Node, Finding], list[str]]] = {
    Cure.GIVE_BACK: cures_state.give_back,
    Cure.GIVE_BACK_SAVED: cures_state.give_back_saved,
    Cure.STRIKE: cures_state.give_back,
    Cure.FORGET: cures_state.forget,
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
# What another PF's VF is part of cannot be seen by looking at one PF.
_OF_SEVERAL_PFS = ("mac-duplicate",)
# As many locks are open files.
_LARGEST = 64
# A call waits a minute for the lock of a PF.
_SECONDS = 10.0


class Where(NamedTuple):
    """What a finding's batch has in common: the PF to lock, None without one, and to look at."""

    lock: str | None
    look: str | None


def batches(node: Node, findings: Sequence[Finding]) -> list[tuple[Where, list[Finding]]]:
    """Sort findings into batches, in the order of the first of each.

    Of one subject there is one in a batch: the first cure can make the second needless, or wrong.
    """
    made: list[tuple[Where, list[Finding]]] = []
    for finding in findings:
        where = _where(node, finding)
        for other, batch in made:
            alone = parse_address(finding.subject) is None
            free = alone or finding.subject not in {f.subject for f in batch}
            if other == where and free and len(batch) < _LARGEST:
                batch.append(finding)
                break
        else:
            made.append((where, [finding]))
    return made


def carry_out(node: Node, where: Where, batch: Sequence[Finding]) -> dict[Key, list[str]]:
    """Put right what of a batch still is wrong; return in words what could not be done, by key.

    Findings that there was no time for, or that somebody else is at work on, are not in the answer.
    """
    done: dict[Key, list[str]] = {}
    with ExitStack() as locks:
        mine = _locked(node, where, batch, locks)
        held = frozenset(f.subject for f in mine)
        now = {f.key for f in doctor.examine(node, where.look, held=held)} if mine else set()
        since = node.clock()
        for finding in mine:
            if done and abs(node.clock() - since) > _SECONDS:
                break
            if finding.key in now:
                done[finding.key] = cure(node, finding)
            else:
                node.log(f"{finding.subject}: {finding.id} is no more")
                done[finding.key] = []
    return done


def cure(node: Node, finding: Finding) -> list[str]:
    """Do what cures a finding, under the caller's locks; return in words what could not be done."""
    if finding.cure is None:
        return []
    try:
        return _CURES[finding.cure](node, finding)
    except UndoIncomplete as error:
        return error.problems
    except HwmgrError as error:
        return [str(error)]


def _locked(node: Node, where: Where, batch: Sequence[Finding], locks: ExitStack) -> list[Finding]:
    """Lock what can be locked, container, PF, function; return the findings that are covered.

    One alone is waited for. Of several, what is locked comes later: it holds up the others.
    """
    wait = None if len(batch) == 1 else 0.0
    containers = {f.key: _container(node, f) for f in batch}
    taken: set[str] = set()
    for container in sorted(set(filter(None, containers.values()))):
        try:
            locks.enter_context(node.locks.container(container, wait))
        except LockTimeout:
            if wait is None:
                raise
            continue
        taken.add(container)
    mine = [f for f in batch if containers[f.key] is None or containers[f.key] in taken]
    if where.lock is not None:
        locks.enter_context(node.locks.pf(where.lock))
    covered = []
    for finding in sorted(mine, key=lambda f: f.subject):
        address = parse_address(finding.subject)
        if address is not None:
            try:
                locks.enter_context(node.locks.function(address, wait))
            except LockTimeout:
                if wait is None:
                    raise
                continue
        covered.append(finding)
    return [f for f in mine if f in covered]


def _container(node: Node, finding: Finding) -> str | None:
    """Return the container whose attachment a cure ends: its own calls take turns with us."""
    if finding.cure not in (Cure.GIVE_BACK, Cure.FORGET):
        return None
    record = _record(node, finding.subject)
    return None if record is None else record.owner.container_id or None


def _where(node: Node, finding: Finding) -> Where:
    address = parse_address(finding.subject)
    if address is None:
        return Where(None, None)
    pf = node.sysfs.link_name(device_path(address, "physfn"))
    if pf is None and not _is_pf(node, address):
        record = _record(node, address)
        pf = None if record is None else record.pf_address
    wide = finding.id in _OF_SEVERAL_PFS
    look = None if wide else next((a for a in (pf, address) if a and _is_pf(node, a)), None)
    return Where(pf or address, look)


def _is_pf(node: Node, address: str) -> bool:
    return node.sysfs.exists(device_path(address, "sriov_totalvfs"))


def _record(node: Node, address: str) -> Record | None:
    try:
        return node.journal.read(address)
    except StateError:
        return None
