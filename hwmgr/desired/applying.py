"""Apply: make the node as a file has it; plan: say what that would change."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from hwmgr.applyrecord import ApplyRecords
from hwmgr.desired.applypf import PfApplication, plan_one
from hwmgr.desired.atrest import await_netdevs, refuse_at_rest
from hwmgr.desired.changes import Plan, Refusal, joined, refusal
from hwmgr.desired.macs import mac_clashes
from hwmgr.desired.observed import observe
from hwmgr.desired.patience import PatientSysfs
from hwmgr.desired.planning import matched
from hwmgr.desired.takeback import refuse
from hwmgr.errors import ApplyIncomplete, HwmgrError, RecordUnusable, reason_of
from hwmgr.model import PciAddress

if TYPE_CHECKING:
    from hwmgr.desired.applypf import Manner
    from hwmgr.desired.changes import Change
    from hwmgr.desired.observed import PfNow
    from hwmgr.desired.state import Desired, DesiredPf
    from hwmgr.node import Node

# udevd starts it at the first VF that an apply makes, and that apply may have many more to set up.
_ONLY_VFS_LOCK_SECONDS = 600.0
_ANEW = "apply the file without --only-vfs to have it as desired again"


def make_plan(node: Node, desired: Desired, manner: Manner) -> Plan:
    """Return what apply would do, touching nothing."""
    pfs = observe(node)
    entries, problems = matched(desired, pfs, manner.pf)
    plans = [
        _plan_or_refusal(node, entries[now.pf.address], now, manner)
        for now in pfs
        if now.pf.address in entries
    ]
    return joined(plans, *problems, *mac_clashes(entries, pfs))


def _plan_or_refusal(node: Node, entry: DesiredPf, now: PfNow, manner: Manner) -> Plan:
    try:
        return plan_one(node, entry, now, manner)
    except RecordUnusable as error:
        return refusal(now.pf.address, now.label, reason_of(error))


def apply(node: Node, desired: Desired, manner: Manner) -> list[Change]:
    """Make the node as desired; return the changes made, [] when it was so already.

    Raises PlanRefused and DeviceBusy before anything is touched, ApplyIncomplete and what the
    hardware answers once every PF has been tried; so too RecordUnusable of a PF whose record
    cannot be read. Whatever ends it, applying again goes on and ``revert`` goes back.
    """
    node = patient(node, manner.write_seconds)
    pfs = observe(node)
    labels = {now.pf.address: now.label for now in pfs}
    entries, problems = matched(desired, pfs, manner.pf)
    if manner.only_vfs:
        # Somebody may be making these VFs right now; what stands in the way shows under the lock.
        refuse(Plan((), tuple(problems)), force=False)
    else:
        look = partial(make_plan, node, desired, manner)
        refuse_at_rest(node, entries, look, force=manner.force)
    done: list[Change] = []
    failed: list[HwmgrError] = []
    for address, entry in entries.items():
        try:
            with node.locks.pf(address, _ONLY_VFS_LOCK_SECONDS if manner.only_vfs else None):
                if manner.only_vfs:
                    if ApplyRecords(node.state).is_reverted(address, node.boot_id):
                        manner.witness.passed_over(f"{address} has been reverted; {_ANEW}")
                        continue
                    await_netdevs(node, address)
                application = PfApplication(node, desired, entry, address, manner)
                if not manner.only_vfs:
                    ApplyRecords(node.state).forget_reverted(address)
                done += application.apply()
        except HwmgrError as error:
            if isinstance(error, RecordUnusable):
                pf = PciAddress(address)
                manner.witness.refused(Refusal(pf, labels[pf], reason_of(error)))
            failed.append(error)
    if len(failed) > 1:
        raise ApplyIncomplete([reason_of(e) for e in failed]) from failed[0]
    if failed:
        raise failed[0]
    return done


def await_pfs(node: Node, desired: Desired, seconds: float) -> None:
    """Wait until every entry has a PF and udevd has named it; what is missing apply() says."""

    def there() -> bool | None:
        pfs = observe(node)
        entries, problems = matched(desired, pfs)
        named = all(
            pf.pf.ifname is not None and _settled(node, pf)
            for pf in pfs
            if pf.pf.address in entries
        )
        return True if named and not problems else None

    node.udev.wait(there, seconds)


def patient(node: Node, seconds: float) -> Node:
    """Return the node with a deadline for each write to sysfs."""
    return replace(node, sysfs=PatientSysfs(node.sysfs, seconds))


def _settled(node: Node, now: PfNow) -> bool:
    index = node.sysfs.read_int(f"class/net/{now.pf.ifname}/ifindex")
    return index is None or node.udev.settled(index)
