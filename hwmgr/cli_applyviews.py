"""What ``hwmgr plan`` and ``hwmgr apply`` show: columns, rows, JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwmgr.cli_output import Column
from hwmgr.cli_views import owner_text, owner_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwmgr.changes import Change
    from hwmgr.observed import VfNow

Json = dict[str, Any]

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


def outcome(changes: Sequence[Change], problems: Sequence[str], *, done: bool) -> Json:
    """Return a plan or what has been done as one object."""
    return {
        "changes": [change_view(c) for c in changes],
        "problems": list(problems),
        "done": done,
    }


def _hit_text(hit: VfNow) -> str:
    return owner_text(hit.record.owner) if hit.record else f"{hit.vf.address} ({hit.holder})"
