"""Checks of the other files in the state directory: companions, leavings of killed writes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.doctor.findings import Cure, Evidence, Finding, Severity
from hwmgr.doctor.kept import is_kept, is_unclaimed_device
from hwmgr.savedstate import COMPANIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.doctor.facts import Facts
    from hwmgr.savedstate import SavedEntry


def check(facts: Facts) -> Iterator[Finding]:
    """Yield what is wrong with files that are no records."""
    belonging = {path for _f, record in facts.records() for path in record.saved_files}
    for entry in facts.state.entries:
        if entry.format not in COMPANIONS or entry.path in belonging:
            continue
        if entry.problem is not None:
            yield _unreadable(entry)
        elif not is_kept(facts, entry):
            yield _orphan(entry)
        elif is_unclaimed_device(facts, entry) and facts.record_of(entry.address or "") is None:
            yield _unclaimed(entry)
    for temporary in facts.state.temporaries:
        yield Finding(
            id="temp-file",
            severity=Severity.WARNING,
            subject=temporary.path,
            finding=f"left by a write of process {temporary.pid}, which was killed",
            evidence=(
                Evidence(f"nobody has written to it for {temporary.age:.0f} s", temporary.path),
                Evidence(f"process {temporary.pid} has ended, or is another by now", "/proc"),
            ),
            repair="remove the file",
            cure=Cure.REMOVE_FILE,
            value=temporary.path,
        )
    if facts.state.mode & 0o022:
        yield Finding(
            id="state-dir-open",
            severity=Severity.ERROR,
            subject=facts.state.root,
            finding="others than root may change records, which decide what we do as root",
            evidence=(Evidence(f"mode {facts.state.mode:04o}", facts.state.root),),
            repair=f"chmod 700 {facts.state.root}",
        )


def _unreadable(entry: SavedEntry) -> Finding:
    return Finding(
        id="state-unreadable",
        severity=Severity.WARNING,
        subject=entry.path,
        finding=f"this state file cannot be used: {entry.problem}",
        evidence=(Evidence(entry.problem or "", entry.path),),
        repair="set it aside (journal-torn/)",
        cure=Cure.SET_FILE_ASIDE,
        value=entry.id,
    )


def _unclaimed(entry: SavedEntry) -> Finding:
    return Finding(
        id="companion-unclaimed",
        severity=Severity.INFO,
        subject=entry.address or entry.path,
        finding=f"container {str(entry.container_id)[:13]} has it, if its pod lives: a plugin that "
        "makes no claims gave it",
        evidence=(Evidence("tells of a device without a netdev", entry.path),),
        repair="none while that pod lives; else remove the file, then 'hwmgr repair'",
    )


def _orphan(entry: SavedEntry) -> Finding:
    return Finding(
        id="companion-orphaned",
        severity=Severity.WARNING,
        subject=entry.address or entry.path,
        finding=f"{entry.format} state of container {(entry.container_id or '')[:13]} "
        f"as {entry.ifname}, and nobody is behind it",
        evidence=(
            Evidence(f"names {entry.address}", entry.path),
            Evidence("no record, no living claim or namespace of it", "hwmgr state list"),
        ),
        repair="give back what it tells, and remove it",
        cure=Cure.GIVE_BACK_SAVED,
        value=entry.id,
    )
