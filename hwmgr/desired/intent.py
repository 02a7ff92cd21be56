"""What is written down before a change: the change, and what is there before it. Reads only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr.applyrecord import ApplyStage, DoneStep
from hwmgr.choose import Chosen, capture
from hwmgr.pci import find_pf, find_vf, list_vfs

if TYPE_CHECKING:
    from hwmgr.applyrecord import ApplyRecord
    from hwmgr.desired.changes import Change
    from hwmgr.desired.observed import PfNow
    from hwmgr.desired.state import DesiredPf
    from hwmgr.model import VF, Before
    from hwmgr.node import Node


def before_of(node: Node, vf: VF) -> Before:
    """Return a VF as it is, to be given back by ``revert``."""
    pf = find_pf(node.sysfs, vf.pf_address)
    return capture(node, Chosen(vf.address, pf, vf.index, vf.driver, vf.driver_override))


def intended(
    node: Node, entry: DesiredPf, record: ApplyRecord, change: Change, now: PfNow, *, fresh: bool
) -> ApplyRecord:
    """Return the record with a change in it; ``fresh``: it is the first one of an apply."""
    earlier = () if fresh else tuple(replace(s, done=True) for s in record.steps)
    step = DoneStep(change.index, change.attribute, change.now, change.then)
    record = replace(record, stage=ApplyStage.APPLYING, steps=(*earlier, step))
    if change.index is not None:
        return _before_a_vf(node, record, change.index, change)
    if change.attribute in ("numVfs", "eswitchMode"):
        return _before_remaking(node, entry, record, now, change)
    if change.attribute == "autoprobe":
        return record.keeping(autoprobe=now.autoprobe)
    if change.attribute == "module":  # One that is loaded stays so.
        return record
    return record.keeping(**{change.attribute: change.now})


def _before_a_vf(node: Node, record: ApplyRecord, index: int, change: Change) -> ApplyRecord:
    vf = find_vf(node.sysfs, change.address or "")
    record = record.keeping_vfs({vf.index: before_of(node, vf)})
    given = record.gave(index)
    if change.settings is not None:
        given = given.with_settings(change.settings)
    elif change.attribute == "driver":
        given = replace(given, driver=str(change.then))
    return replace(record, given={**(record.given or {}), index: given})


def _before_remaking(
    node: Node, entry: DesiredPf, record: ApplyRecord, now: PfNow, change: Change
) -> ApplyRecord:
    there = list_vfs(node.sysfs, now.pf.address)
    record = record.keeping_vfs({vf.index: before_of(node, vf) for vf in there})
    record = replace(record.keeping(num_vfs=now.pf.num_vfs), given=None, wanted=None)
    if change.attribute == "eswitchMode":
        return record.keeping(eswitch_mode=change.now)
    offered = offered_at_creation(entry, now)
    if offered == now.autoprobe:
        return record
    final = entry.autoprobe if entry.autoprobe is not None else now.autoprobe
    record = record.keeping(autoprobe=now.autoprobe)
    return replace(record, unprobed=record.unprobed or (not offered and bool(final)))


def offered_at_creation(entry: DesiredPf, now: PfNow) -> bool | None:
    """Tell whether drivers are to be offered the new VFs at once.

    Not those that are meant for another driver or are set up first: a netdev that goes again
    costs time and has udevd and others look at it.
    """
    if now.autoprobe is None:
        return None
    if entry.shapes_vfs:
        return False
    return entry.autoprobe if entry.autoprobe is not None else now.autoprobe
