"""What revert would change: a PF and its VFs compared with what they were before apply. Reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr import vfsettings
from hwmgr.desired.changes import Change, Plan
from hwmgr.desired.hostuse import for_the_host
from hwmgr.desired.intent import before_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.applyrecord import ApplyRecord
    from hwmgr.desired.observed import PfNow
    from hwmgr.model import Before
    from hwmgr.node import Node

_WHY = "as it was before apply"


def plan_back(node: Node, record: ApplyRecord, now: PfNow) -> Plan:
    """Return what would make a PF and its VFs as they were."""
    changes = _changes(node, record, now)
    stuck = {hit.vf.address: hit.stuck for c in changes for hit in c.hits if hit.stuck}
    problems = [f"{address}: {why}; end it first" for address, why in stuck.items()]
    if changes and now.holder is not None:
        problems.append(f"{now.label}: {now.holder}")
    warnings, cuts = for_the_host(now.label, now.used, changes)
    return Plan(tuple(changes), tuple(problems), warnings, cuts)


def _changes(node: Node, record: ApplyRecord, now: PfNow) -> list[Change]:
    found = list(pf_changes(record, now))
    remakes = any(c.attribute in ("numVfs", "eswitchMode") for c in found)
    for vf in now.vfs:
        before = (record.vfs or {}).get(vf.vf.index)
        if before is None or remakes:
            continue
        # Who holds a VF would be given back what apply made of it, and no record would tell more.
        hits = (vf,) if vf.holder is not None else ()
        for attribute, is_now, was in _vf_differences(before, before_of(node, vf.vf)):
            pf, address = now.pf.address, vf.vf.address
            found.append(
                Change(
                    pf, now.label, vf.vf.index, address, attribute, is_now, was, _WHY, hits
                )
            )  # fmt: skip
        if hits and not any(c.address == vf.vf.address for c in found):
            found.append(
                Change(
                    now.pf.address, now.label, vf.vf.index, vf.vf.address, "owner", vf.holder, None,
                    _WHY, hits,
                )
            )  # fmt: skip
    return found


def pf_changes(record: ApplyRecord, now: PfNow) -> Iterator[Change]:
    """Yield what would make the PF itself as it was."""
    before = record.before
    held = tuple(vf for vf in now.vfs if vf.holder is not None)
    for attribute, was, is_now in (
        ("eswitchMode", before.eswitch_mode, now.eswitch_mode),
        ("mtu", before.mtu, now.mtu),
        ("up", before.up, now.up),
        ("numVfs", before.num_vfs, now.pf.num_vfs),
        ("autoprobe", before.autoprobe, now.autoprobe),
    ):
        if was is not None and was != is_now:
            hits = held if attribute in ("numVfs", "eswitchMode") else ()
            pf = now.pf.address
            yield Change(pf, now.label, None, None, attribute, is_now, was, _WHY, hits)


def _vf_differences(before: Before, now: Before) -> Iterator[tuple[str, object, object]]:
    for name, was, is_now in (
        ("driver", before.driver, now.driver),
        ("driverOverride", before.driver_override, now.driver_override),
    ):
        if was != is_now:
            yield name, is_now, was
    if before.settings is not None and now.settings is not None:
        wanted = before.settings
        if wanted.mac == vfsettings.NO_MAC:
            wanted = replace(wanted, mac=None)
        for name, change in vfsettings.steps(vfsettings.differences(now.settings, wanted)):
            key = {"rate": "max_rate"}.get(name, name)
            yield name, getattr(now.settings, key), getattr(change, key)
    for was_netdev, now_netdev in zip(before.netdevs, now.netdevs, strict=False):
        for name in ("name", "mac", "mtu", "up"):
            was, is_now = getattr(was_netdev, name), getattr(now_netdev, name)
            if was != is_now:
                yield f"netdev {name}", is_now, was
