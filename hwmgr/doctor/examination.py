"""Doctor: every check over facts gathered once; what a call is working on is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.doctor import (
    checks_applied,
    checks_files,
    checks_foreign,
    checks_host,
    checks_netdevs,
    checks_records,
    checks_vfs,
)
from hwmgr.doctor.facts import gather
from hwmgr.doctor.facts_state import is_busy
from hwmgr.doctor.findings import Severity
from hwmgr.pci import address_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from hwmgr.doctor.facts import Facts
    from hwmgr.doctor.findings import Finding
    from hwmgr.node import Node

CHECKS = (
    checks_records.check,
    checks_foreign.check,
    checks_vfs.check,
    checks_netdevs.check,
    checks_host.check,
    checks_files.check,
    checks_applied.check,
)
_ORDER = tuple(Severity)


def examine(node: Node, pf_address: str | None = None, held: Collection[str] = ()) -> list[Finding]:
    """Return what is wrong, the worst first; touches nothing.

    With ``pf_address`` only about that PF and its VFs; ``held`` are functions whose locks the
    caller has. A function that a call is working on is left out: it is changing. Raises SysfsError,
    StateError.
    """
    facts = gather(node, pf_address, held)
    found = judge(facts)
    if pf_address is not None:
        ours = {pf_address, *(info.vf.address for info in facts.vfs)}
        found = [f for f in found if f.subject in ours]
    busy = {f.subject for f in found if f.subject not in held and is_busy(node, f.subject)}
    return [f for f in found if f.subject not in busy]


def judge(facts: Facts) -> list[Finding]:
    """Return what the facts show to be wrong, the worst first, then by subject."""
    found = [finding for check in CHECKS for finding in check(facts)]
    return sorted(found, key=lambda f: (_ORDER.index(f.severity), address_key(f.subject), f.id))


def is_clean(findings: list[Finding]) -> bool:
    """Tell whether there is nothing but information."""
    return all(f.severity is Severity.INFO for f in findings)
