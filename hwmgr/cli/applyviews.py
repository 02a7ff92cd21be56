"""What ``hwmgr plan`` and ``hwmgr apply`` show: columns, rows, JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwmgr.cli.output import Column
from hwmgr.cli.views import owner_text, owner_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwmgr.desired.changes import Change, Plan, Refusal
    from hwmgr.desired.observed import VfNow
    from hwmgr.desired.witness import Account

Json = dict[str, Any]
_MOST_NAMED = 8

CHANGE_COLUMNS = (
    Column("PF", "pf"),
    Column("VF", "index"),
    Column("ADDRESS", "address", rank=3),
    Column("ATTRIBUTE", "attribute"),
    Column("NOW", "now", shrink=True),
    Column("THEN", "then", shrink=True),
    Column("HITS", "hits", rank=1, shrink=True),
    Column("WHY", "why", rank=2, shrink=True),
)


def change_view(change: Change) -> Json:
    """Return a change under the keys of ``plan``."""
    return {
        "pf": change.pf_label,
        "pfAddress": change.pf,
        "index": change.index,
        "address": change.address,
        "attribute": change.attribute,
        "now": change.now,
        "then": change.then,
        "why": change.why,
        "hits": [hit_view(hit) for hit in change.hits],
    }


def change_row(change: Change) -> Json:
    """Return a change as a row of the table."""
    return {**change_view(change), "hits": ", ".join(_hit_text(hit) for hit in change.hits)}


def hit_view(hit: VfNow) -> Json:
    """Return a VF in use; ``owner`` is None where no record says who."""
    return {
        "address": hit.vf.address,
        "reason": hit.holder,
        "owner": owner_view(hit.record.owner) if hit.record else None,
    }


def refusal_view(refusal: Refusal) -> Json:
    """Return a PF that is left alone, and why."""
    return {"pf": refusal.pf_label, "pfAddress": refusal.pf, "error": refusal.why}


def plan_view(plan: Plan) -> Json:
    """Return a plan as one object."""
    return {
        "changes": [change_view(c) for c in plan.changes],
        "problems": list(plan.problems),
        "warnings": [*plan.cuts, *plan.warnings],
        "refused": [refusal_view(r) for r in plan.refused],
        "done": False,
    }


def account_view(account: Account, problems: Sequence[str]) -> Json:
    """Return what has been made, what failed and what was not tried as one object."""
    return {
        "changes": [change_view(c) for c in account.changes],
        "problems": list(problems),
        "failed": [{**change_view(c), "error": why} for c, why in account.failures],
        "notTried": [change_view(c) for c in account.not_tried],
        "refused": [refusal_view(r) for r in account.refusals],
        "done": not problems,
    }


def rest(account: Account) -> list[str]:
    """Return in lines what is not as it was to be after a failure, and what to do about it."""
    lines = []
    if account.changes:
        lines.append(f"made: {_several(account.changes)}")
    if account.failures:
        lines.append(f"failed: {_several([change for change, _why in account.failures])}")
    if account.not_tried:
        lines.append(f"not tried: {_several(account.not_tried)}")
    return lines


def _several(changes: Sequence[Change]) -> str:
    named = [str(change) for change in changes[:_MOST_NAMED]]
    more = len(changes) - len(named)
    return ", ".join(named) + (f", and {more} more (-o json has all)" if more else "")


def _hit_text(hit: VfNow) -> str:
    return owner_text(hit.record.owner) if hit.record else f"{hit.vf.address} ({hit.holder})"
