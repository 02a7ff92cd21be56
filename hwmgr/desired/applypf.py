"""Apply to one PF: one recorded change after the other, until there is nothing to do."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from hwmgr import driver, modules
from hwmgr.applyrecord import ApplyRecord, ApplyRecords, ApplyStage
from hwmgr.desired import pfsteps, vfsteps
from hwmgr.desired.changes import OFFER, Leftover, Plan
from hwmgr.desired.intent import intended, offered_at_creation
from hwmgr.desired.observed import observe_pf
from hwmgr.desired.planning import plan_pf, unloaded
from hwmgr.desired.takeback import refuse, refuse_claimed, take_back
from hwmgr.desired.wanted import wanted_of_pf, wanted_of_vfs
from hwmgr.desired.witness import Nobody
from hwmgr.errors import (
    ApplyIncomplete,
    HwmgrError,
    StateError,
    SysfsError,
    WriteHangs,
    reason_of,
)
from hwmgr.model import USERSPACE_DRIVERS
from hwmgr.pci import find_pf, find_vf, list_vfs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from hwmgr.desired.changes import Change
    from hwmgr.desired.observed import PfNow
    from hwmgr.desired.state import Desired, DesiredPf
    from hwmgr.desired.witness import Witness
    from hwmgr.model import VF
    from hwmgr.node import Node

# A driver with broken firmware can hang in sriov_numvfs, and one whose VF is open in unbind.
WRITE_SECONDS = 120.0
# The mode, the PF, its VFs, their netdevs, and a look at all of it; more never comes to an end.
_PASSES = 6


def _silently(_what: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Manner:
    """How to apply. ``force`` takes VFs from those who have them; ``only_vfs`` leaves PFs alone;

    ``pf`` is the address of the one PF that is meant. ``busy`` is entered around each change, and
    ``witness`` is told what becomes of it.
    """

    force: bool = False
    only_vfs: bool = False
    pf: str | None = None
    write_seconds: float = WRITE_SECONDS
    busy: Callable[[str], AbstractContextManager[None]] = _silently
    witness: Witness = field(default_factory=Nobody)


def plan_one(node: Node, entry: DesiredPf, now: PfNow, manner: Manner) -> Plan:
    """Return what makes one PF as desired, with what an unfinished apply has left in mind."""
    record = ApplyRecords(node.state).read(now.pf.address)
    loadable = frozenset(d for d in unloaded(entry, now) if modules.is_loadable(node, d))
    plan = partial(plan_pf, entry, now, only_vfs=manner.only_vfs, loadable=loadable)
    if record is None or record.boot_id != node.boot_id:
        return plan()
    leftover = Leftover(record.before.autoprobe) if record.unprobed else None
    return plan(leftover=leftover, given=record.given)


class PfApplication:
    """The application to one PF, whose lock is held."""

    def __init__(
        self, node: Node, desired: Desired, entry: DesiredPf, address: str, manner: Manner
    ) -> None:
        self.node = node
        self.entry = entry
        self.address = address
        self.manner = manner
        self.records = ApplyRecords(node.state)
        self.kept = self.records.read(address)  # as the file has it
        self.record = self._opened(desired)
        self.done: list[Change] = []
        self.offered: set[int | None] = set()

    def _opened(self, desired: Desired) -> ApplyRecord:
        found = self.kept
        if found is not None and found.boot_id == self.node.boot_id:
            return replace(found, source=desired.path)
        # What an earlier boot had before it is nothing to go back to: the hardware has forgotten.
        return ApplyRecord(
            address=find_pf(self.node.sysfs, self.address).address,
            boot_id=self.node.boot_id,
            stage=ApplyStage.APPLYING,
            source=desired.path,
            since=self.node.clock(),
        )

    def apply(self) -> list[Change]:
        """Change what differs until nothing does; return the changes. See applying.apply()."""
        last: tuple[Change, ...] = ()
        for _ in range(_PASSES):
            now = observe_pf(self.node, self.address)
            plan = plan_one(self.node, self.entry, now, self.manner)
            refuse(plan, force=self.manner.force)
            # One that no driver wanted is not offered again.
            changes = tuple(
                c for c in plan.changes if c.why != OFFER or c.index not in self.offered
            )
            if not changes:
                self._close(now)
                return self.done
            if changes == last:
                break
            last = changes
            # What a change of the PF makes of the rest of the plan is seen when it is done.
            own = tuple(c for c in changes if c.index is None)
            self._carry_out_all(own or changes, changes, now)
        raise ApplyIncomplete(
            [f"{c.subject}: {c.attribute} is {c.now} and does not become {c.then}" for c in last]
        )

    def _carry_out_all(self, todo: Sequence[Change], planned: Sequence[Change], now: PfNow) -> None:
        for number, change in enumerate(todo, start=1):
            try:
                self._carry_out(change, now)
            except BaseException as error:
                if isinstance(error, HwmgrError):
                    error.add_note(f"at {change} ({change.why})")
                self.manner.witness.failed(change, reason_of(error))
                self.manner.witness.left([c for c in planned if c not in todo[:number]])
                raise

    def _close(self, now: PfNow) -> None:
        """Write down that it is done, and what is wanted: that is not left over, whoever set it."""
        fits = self.done or (self.record.steps and self.record.stage is not ApplyStage.APPLIED)
        closed = replace(
            self.record,
            stage=ApplyStage.APPLIED,
            steps=tuple(replace(step, done=True) for step in self.record.steps),
            unprobed=False,
            wanted=wanted_of_vfs(self.entry, now),
            # Of the PF itself nothing has been looked at.
            wanted_pf=self.record.wanted_pf if self.manner.only_vfs else wanted_of_pf(self.entry),
        )
        if closed == self.kept:
            return
        try:
            self._write(closed)
        except StateError as error:
            if fits:
                raise
            # Everything is as desired; doctor will know less of it.
            self.node.log(f"{self.address}: {error}")
        self.node.checkpoint("apply.recorded")

    def _write(self, record: ApplyRecord) -> None:
        self.records.write(record)
        self.record = self.kept = record

    def _carry_out(self, change: Change, now: PfNow) -> None:
        with ExitStack() as locks:
            locks.enter_context(self.manner.busy(str(change)))
            touched = self._touched(change, now)
            for vf in touched:
                locks.enter_context(self.node.locks.function(vf.address))
            refuse_claimed(self.node, touched, change.hits)
            if change.hits:
                # Where it cannot be written down, nobody is to lose a VF for nothing.
                self._write(replace(self.record, stage=ApplyStage.APPLYING))
            for hit in change.hits:
                take_back(self.node, hit)
            fresh = not self.done
            self._write(intended(self.node, self.entry, self.record, change, now, fresh=fresh))
            self.node.checkpoint(f"apply.intended.{change.attribute}")
            if change.index is None:
                self._act_on_pf(change, now)
            else:
                self._act_on_vf(change)
            self.node.log(str(change))
            self.node.checkpoint(f"apply.did.{change.attribute}")
        self.done.append(change)
        self.manner.witness.made(change)

    def _touched(self, change: Change, now: PfNow) -> list[VF]:
        if change.index is not None:
            return [find_vf(self.node.sysfs, change.address or "")]
        remakes = change.attribute in ("numVfs", "eswitchMode")
        return [vf.vf for vf in now.vfs] if remakes else []

    def _act_on_pf(self, change: Change, now: PfNow) -> None:
        node, pf = self.node, self.address
        if change.attribute == "module":
            modules.load(node, str(change.then), pf)
        elif change.attribute == "eswitchMode":
            pfsteps.set_mode(node, pf, str(change.then), self.manner.write_seconds)
        elif change.attribute == "mtu":
            pfsteps.set_mtu(node, pf, cast("int", change.then))
        elif change.attribute == "up":
            pfsteps.set_up(node, pf, up=bool(change.then))
        elif change.attribute == "autoprobe":
            pfsteps.set_autoprobe(node, pf, bool(change.then))
        else:
            self._make_vfs(now, cast("int", change.then))

    def _make_vfs(self, now: PfNow, number: int) -> None:
        node, pf = self.node, self.address
        offered = offered_at_creation(self.entry, now)
        switched = offered is not None and offered != now.autoprobe and number > 0
        if switched:
            pfsteps.set_autoprobe(node, pf, bool(offered))
            node.checkpoint("apply.autoprobe")
        try:
            pfsteps.set_number(node, pf, number, anew=True)
        except WriteHangs:
            raise  # They may come yet.
        except SysfsError as error:
            if switched:
                self._probing_as_before(now, error)
            raise
        # Without its netdev a VF would look like one that somebody has in another namespace.
        for vf in list_vfs(node.sysfs, now.pf.address):
            if vf.driver not in USERSPACE_DRIVERS:
                vfsteps.await_netdev(node, vf)

    def _probing_as_before(self, now: PfNow, error: SysfsError) -> None:
        """Switch probing back: no VFs were made, and who makes some by hand wants drivers."""
        try:
            pfsteps.set_autoprobe(self.node, self.address, bool(now.autoprobe))
            self._write(replace(self.record, unprobed=False))
        except HwmgrError as problem:
            error.add_note(f"and {problem}")

    def _act_on_vf(self, change: Change) -> None:
        node, vf = self.node, find_vf(self.node.sysfs, change.address or "")
        if change.settings is not None:
            vfsteps.configure(node, vf, change.settings)
        elif change.attribute == "effectiveMac":
            vfsteps.reset_driver(node, vf)
        elif change.attribute == "driverOverride":
            driver.write_override(node.sysfs, vf.address, None)
        elif change.attribute == "mtu":
            vfsteps.set_mtu(node, vf, cast("int", change.then))
        elif change.why == OFFER:
            vfsteps.offer(node, vf)
            self.offered.add(change.index)
        else:
            vfsteps.bind(node, vf, str(change.then))
