"""Revert: give PFs and VFs back what they had before the first apply, attribute by attribute.

Nothing here depends on how far an apply or an earlier revert came: what is is compared with what
was, and what differs is changed.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from hwmgr.applyrecord import ApplyRecords, ApplyStage
from hwmgr.desired import pfsteps
from hwmgr.desired.applying import patient
from hwmgr.desired.atrest import refuse_at_rest
from hwmgr.desired.changes import Refusal, joined, refusal
from hwmgr.desired.observed import observe_pf
from hwmgr.desired.revertplan import pf_changes, plan_back
from hwmgr.desired.takeback import refuse, refuse_claimed, take_back
from hwmgr.errors import HwmgrError, RecordUnusable, StateError, UndoIncomplete, reason_of
from hwmgr.model import Kind, NetnsIdentity, Owner, Record, Stage, VFSettings
from hwmgr.pci import device_path, list_vfs
from hwmgr.restore import hardware

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwmgr.applyrecord import ApplyRecord
    from hwmgr.desired.applypf import Manner
    from hwmgr.desired.changes import Change, Plan
    from hwmgr.desired.observed import PfNow
    from hwmgr.desired.witness import Witness
    from hwmgr.model import VF, Before, PciAddress
    from hwmgr.node import Node


def plan_revert(node: Node, manner: Manner) -> Plan:
    """Return what revert would change, touching nothing. A record of an earlier boot has none."""
    plans = []
    for address in _addresses(node, manner):
        try:
            record = ApplyRecords(node.state).read(address)
        except RecordUnusable as error:
            plans.append(refusal(address, address, reason_of(error)))
            continue
        if record is not None and _counts(node, record):
            plans.append(plan_back(node, record, observe_pf(node, address)))
    return joined(plans)


def revert(node: Node, manner: Manner) -> list[Change]:
    """Give back what was before, and strike the records; return the changes made.

    Raises PlanRefused, and DeviceBusy while VFs that it would change are in use (unless forced),
    before anything is touched; UndoIncomplete with what could not be given back, and with the PFs
    whose record cannot be read; calling again goes on.
    """
    node = patient(node, manner.write_seconds)
    look = partial(plan_revert, node, manner)
    there = [a for a in _addresses(node, manner) if node.sysfs.exists(device_path(a))]
    refuse_at_rest(node, there, look, force=manner.force)
    done: list[Change] = []
    problems: list[str] = []
    for address in _addresses(node, manner):
        try:
            with node.locks.pf(address):
                done += _revert_pf(node, address, manner)
        except UndoIncomplete as error:
            problems += error.problems
        except HwmgrError as error:
            if isinstance(error, RecordUnusable):
                manner.witness.refused(Refusal(address, address, reason_of(error)))
            problems.append(reason_of(error))
    if problems:
        raise UndoIncomplete("the node", problems)
    return done


def _addresses(node: Node, manner: Manner) -> list[PciAddress]:
    return [a for a in ApplyRecords(node.state).addresses() if manner.pf in (None, a)]


def _counts(node: Node, record: ApplyRecord) -> bool:
    """Tell whether a record is of this boot and of a PF that is there: else nothing is to undo."""
    return record.boot_id == node.boot_id and node.sysfs.exists(device_path(record.address))


def _revert_pf(node: Node, address: str, manner: Manner) -> list[Change]:
    records = ApplyRecords(node.state)
    record = records.read(address)
    if record is None:
        return []
    changes: list[Change] = []
    if _counts(node, record):
        now = observe_pf(node, address)
        plan = plan_back(node, record, now)
        refuse(plan, force=manner.force)
        changes = list(plan.changes)
        try:
            _give_back(node, records, record, now, changes, manner)
            _note(node, records, address)
        except BaseException as error:
            _tell(node, address, changes, manner.witness, error)
            raise
        for change in changes:
            manner.witness.made(change)
    records.remove(address)
    node.checkpoint("revert.struck")
    return changes


def _give_back(
    node: Node,
    records: ApplyRecords,
    record: ApplyRecord,
    now: PfNow,
    changes: Sequence[Change],
    manner: Manner,
) -> None:
    record = _intend(node, records, record, now)
    node.checkpoint("revert.intended")
    with ExitStack() as held:
        held.enter_context(manner.busy(f"reverting {now.label}"))
        for vf in now.vfs:
            held.enter_context(node.locks.function(vf.vf.address))
        hits = [hit for change in changes for hit in change.hits]
        if changes:
            refuse_claimed(node, [vf.vf for vf in now.vfs], hits)
        for hit in hits:
            take_back(node, hit)
        _pf(node, record, now)
        problems = _vfs(node, record)
        problems += _last(node, record)
    if problems:
        raise UndoIncomplete(record.address, problems)


def _note(node: Node, records: ApplyRecords, address: str) -> None:
    try:
        records.note_reverted(address, node.boot_id)
    except StateError as error:
        node.log(f"{address}: {error}")


def _tell(
    node: Node, address: str, changes: Sequence[Change], witness: Witness, error: BaseException
) -> None:
    """Say what has been given back and what has not, by another look."""
    try:
        record = ApplyRecords(node.state).read(address)
        if record is None:
            return
        remaining = plan_back(node, record, observe_pf(node, address)).changes
    except HwmgrError:
        return
    open_still = {(c.index, c.attribute) for c in remaining}
    for change in changes:
        if (change.index, change.attribute) not in open_still:
            witness.made(change)
    if isinstance(error, UndoIncomplete):
        # Everything was tried.
        for change in remaining:
            witness.failed(change, reason_of(error))
    else:
        witness.left(remaining)


def _intend(node: Node, records: ApplyRecords, record: ApplyRecord, now: PfNow) -> ApplyRecord:
    """Write down what revert will do; on a full disk the record of before serves too."""
    intended = record
    if record.vfs and _remakes(record, now):
        # They are made without drivers, so that these find them as they were; an apply that comes
        # instead of the rest of this has to offer them.
        unprobed = record.unprobed or bool(now.autoprobe)
        intended = replace(record.keeping(autoprobe=now.autoprobe), unprobed=unprobed)
    try:
        records.write(replace(intended, stage=ApplyStage.REVERTING))
    except StateError as error:
        if intended != record:
            raise
        node.log(f"{record.address}: {error}")
    return intended


def _remakes(record: ApplyRecord, now: PfNow) -> bool:
    before = record.before
    mode = before.eswitch_mode not in (None, now.eswitch_mode)
    return mode or before.num_vfs not in (None, now.pf.num_vfs)


def _pf(node: Node, record: ApplyRecord, now: PfNow) -> None:
    before, pf = record.before, record.address
    if before.eswitch_mode not in (None, now.eswitch_mode):
        pfsteps.set_mode(node, pf, before.eswitch_mode or "legacy", pfsteps.VFS_SECONDS)
    if before.mtu not in (None, now.mtu):
        pfsteps.set_mtu(node, pf, before.mtu or 0)
        node.checkpoint("revert.mtu")
    if before.up and not now.up:
        pfsteps.set_up(node, pf, up=True)
        node.checkpoint("revert.up")
    if before.num_vfs is not None and _remakes(record, now):
        if record.vfs and now.autoprobe:
            pfsteps.set_autoprobe(node, pf, wanted=False)
            node.checkpoint("revert.autoprobe")
        pfsteps.set_number(node, pf, before.num_vfs)


def _vfs(node: Node, record: ApplyRecord) -> list[str]:
    vfs = {vf.index: vf for vf in list_vfs(node.sysfs, record.address)}
    problems = []
    for index, before in sorted((record.vfs or {}).items()):
        if index not in vfs:
            problems.append(f"{record.address} has no VF {index} any more")
            continue
        held, unlike = hardware(node, _as_attachment(record, vfs[index], before))
        problems += held + unlike
    return problems


def _last(node: Node, record: ApplyRecord) -> list[str]:
    """Give back what has to wait for the VFs: a PF that is down refuses some of their settings."""
    now = observe_pf(node, record.address)
    before = record.before
    if before.autoprobe not in (None, now.autoprobe):
        pfsteps.set_autoprobe(node, record.address, bool(before.autoprobe))
        node.checkpoint("revert.probing")
    if before.up is False and now.up:
        pfsteps.set_up(node, record.address, up=False)
        node.checkpoint("revert.down")
    after = observe_pf(node, record.address)
    return [
        f"{change.attribute} of {after.label} is {change.now}, it was {change.then}"
        for change in pf_changes(record, after)
    ]


def _as_attachment(record: ApplyRecord, vf: VF, before: Before) -> Record:
    """Return what restore.hardware() takes: a VF whose driver, settings and netdevs may differ."""
    nobody = Owner("", "", NetnsIdentity("", 0, 0), record.since)
    mac = record.gave(vf.index).settings.mac
    return Record(
        address=vf.address,
        kind=Kind.DPDK,
        stage=Stage.DETACHING,
        boot_id=record.boot_id,
        owner=nobody,
        pf_address=record.address,
        pf_ifname=None,
        index=vf.index,
        before=before,
        settings=VFSettings(mac=mac),
    )
