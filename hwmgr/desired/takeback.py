"""VFs that somebody has: refused, or taken back as their DEL would do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr import claims
from hwmgr.errors import DeviceBusy, PlanRefused, RecordTorn
from hwmgr.restore import give_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwmgr.desired.changes import Plan
    from hwmgr.desired.observed import VfNow
    from hwmgr.model import VF
    from hwmgr.node import Node


def refuse(plan: Plan, *, force: bool) -> None:
    """Raise PlanRefused for what cannot be, DeviceBusy for VFs in use unless forced."""
    if plan.problems:
        raise PlanRefused(list(plan.problems))
    if plan.cuts and not force:
        raise PlanRefused([f"{text}; --force does it all the same" for text in plan.cuts])
    if plan.hits and not force:
        first = plan.hits[0]
        who = "; ".join(f"{h.vf.address}: {h.holder}" for h in plan.hits[1:])
        message = f"{first.holder}; {who + '; ' if who else ''}--force takes them away all the same"
        raise DeviceBusy(first.vf.address, message, first.holder)


def take_back(node: Node, holder: VfNow) -> None:
    """End the attachment that has a VF, as its DEL would. Somebody without a record stays.

    A record that is torn is set aside. Raises UndoIncomplete.
    """
    address = holder.vf.address
    try:
        record = node.journal.read(address)
    except RecordTorn:
        node.journal.set_aside(address)
        return
    if record is not None:
        give_up(node, record)


def refuse_claimed(node: Node, vfs: Sequence[VF], hits: Sequence[VfNow]) -> None:
    """Refuse VFs that sriov-cni has taken since they were looked at; their locks are held.

    It knows no lock but the VF's own, and has written its claim when it lets go of that. Raises
    DeviceBusy, also where VFs may be taken: nobody was told of this one.
    """
    known = {hit.vf.address for hit in hits}
    for vf in vfs:
        path = claims.claimed_by(node.state, vf.address)
        if vf.address not in known and path is not None and claims.is_live(path):
            message = f"sriov-cni has just given it to namespace {path}; look at the plan again"
            raise DeviceBusy(vf.address, message, path)
