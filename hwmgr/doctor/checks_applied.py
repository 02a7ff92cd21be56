"""Checks of what apply remembers: records of no use, hardware that is otherwise by now. Pure.

What apply made of a node is made again by apply alone, which knows the file; so none has a cure
but a record of a PF that is gone.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from hwmgr.applyrecord import READABLE, SCHEMA, ApplyStage, Given
from hwmgr.desired.state import DEFAULT_DRIVER, NO_DRIVER
from hwmgr.doctor.findings import Cure, Evidence, Finding, Severity
from hwmgr.model import USERSPACE_DRIVERS, VFSettings, VFState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hwmgr.applyrecord import ApplyRecord
    from hwmgr.doctor.facts import Facts
    from hwmgr.doctor.facts_applied import AppliedFile
    from hwmgr.inventory import VFInfo
    from hwmgr.model import PF

_SHOWN = 8
_MODE = "eswitchMode"
_ANEW = "; that makes all its VFs anew"


def check(facts: Facts) -> Iterator[Finding]:
    """Yield what is wrong with apply's records, or no more as they say."""
    for file in facts.applied:
        if file.record is None:
            yield _unreadable(file)
        elif file.record.address not in facts.present:
            yield _gone(file)
        elif not file.busy:
            yield from _of_record(facts, file, file.record)


def _unreadable(file: AppliedFile) -> Finding:
    later = file.schema not in READABLE
    what = f"schema {file.schema}, this version knows {SCHEMA}" if later else file.problem
    return Finding(
        id="applied-schema" if later else "applied-torn",
        severity=Severity.ERROR,
        subject=file.address or file.path,
        finding=f"what apply remembers of it cannot be used: {what}",
        evidence=(Evidence(what or "", file.path),),
        repair="use the version of hwmgr that wrote it"
        if later
        else "move it away and run 'hwmgr apply FILE'; what was there before apply is lost then",
    )


def _gone(file: AppliedFile) -> Finding:
    address = file.address or ""
    return Finding(
        id="applied-no-device",
        severity=Severity.WARNING,
        subject=address,
        finding="apply remembers a PF that is gone",
        evidence=(
            Evidence("no such device", f"/sys/bus/pci/devices/{address}"),
            Evidence(f"record of {address}", file.path),
        ),
        repair="remove the file",
        cure=Cure.REMOVE_FILE,
        value=file.path,
    )


def _of_record(facts: Facts, file: AppliedFile, record: ApplyRecord) -> Iterator[Finding]:
    again = f"hwmgr apply {record.source}"
    if record.boot_id != facts.boot_id:
        yield Finding(
            id="applied-other-boot",
            severity=Severity.WARNING,
            subject=record.address,
            finding=f"{record.source} was applied before the node was rebooted, and not since",
            evidence=(
                Evidence(f"written in boot {record.boot_id}", file.path),
                Evidence(f"this boot is {facts.boot_id}", "/proc/sys/kernel/random/boot_id"),
            ),
            repair=f"{again}; if it is wanted no more, hwmgr apply --revert",
        )
    elif record.stage is not ApplyStage.APPLIED:
        what = "applying" if record.stage is ApplyStage.APPLYING else "reverting"
        yield Finding(
            id="applied-unfinished",
            severity=Severity.WARNING,
            subject=record.address,
            finding=f"{what} {record.source} to it was never finished",
            evidence=(Evidence(f"stage {record.stage}, and nobody is at work on it", file.path),),
            repair=f"{again} goes on, hwmgr apply --revert goes back",
        )
    else:
        drifted = [*_pf_drift(facts, record), *_vfs_drift(facts, record)]
        if drifted:
            more = len(drifted) - _SHOWN
            evidence = [*drifted[:_SHOWN], Evidence(f"applied from {record.source}", file.path)]
            if more > 0:
                evidence.insert(_SHOWN, Evidence(f"and {more} more", "hwmgr plan"))
            yield Finding(
                id="applied-drift",
                severity=Severity.WARNING,
                subject=record.address,
                finding=f"it is not as {record.source} wants it: {drifted[0].fact}",
                evidence=tuple(evidence),
                repair=again + (_ANEW if _remakes(drifted) else ""),
            )


def _remakes(drifted: list[Evidence]) -> bool:
    return any(e.fact.startswith(_MODE) for e in drifted)


def _pf_drift(facts: Facts, record: ApplyRecord) -> Iterator[Evidence]:
    pf = _pf_at_hand(facts, record)
    if pf is None:
        return
    device = f"/sys/bus/pci/devices/{pf.address}"
    netdev = next(iter(facts.here.get(pf.address, ())), None)
    now: dict[str, tuple[object, str]] = {
        "numVfs": (pf.num_vfs, f"{device}/sriov_numvfs"),
        "autoprobe": (pf.address in facts.autoprobe, f"{device}/sriov_drivers_autoprobe"),
    }
    if netdev is not None:
        now["mtu"] = (netdev.mtu, f"ip link show {netdev.name}")
        now["up"] = (netdev.up, f"ip link show {netdev.name}")
    if pf.address in facts.eswitch:
        show = f"devlink dev eswitch show pci/{pf.address}"
        now[_MODE] = (facts.eswitch[pf.address], show)
    for attribute, then in _wanted_of_pf(record).items():
        if attribute in now and now[attribute][0] != then:
            is_, source = now[attribute]
            yield Evidence(f"{attribute} is {is_}, it is to be {then}", source)


def _vfs_drift(facts: Facts, record: ApplyRecord) -> Iterator[Evidence]:
    pf = _pf_at_hand(facts, record)
    if pf is None:
        return
    given = (record.given if record.wanted is None else record.wanted) or {}
    for index in sorted(given):
        if index >= pf.num_vfs:
            source = f"/sys/bus/pci/devices/{pf.address}/sriov_numvfs"
            yield Evidence(f"VF {index}, which was set up, is gone", source)
    infos = {i.vf.index: i for i in facts.vfs if i.vf.pf_address == pf.address}
    for index in sorted(given):
        if index < pf.num_vfs and index in infos and infos[index].record is None:
            yield from _vf_drift(infos[index], given[index])


def _pf_at_hand(facts: Facts, record: ApplyRecord) -> PF | None:
    """Return the PF unless somebody has it as a whole."""
    if facts.record_of(record.address) is not None:
        return None
    return next((p for p in facts.pfs if p.address == record.address), None)


def _wanted_of_pf(record: ApplyRecord) -> Mapping[str, object]:
    """Return what the file said; a record of schema 1 tells only what the last apply changed."""
    wanted = record.wanted_pf
    if wanted is None:
        return {s.attribute: s.then for s in record.steps if s.index is None}
    found = {
        "numVfs": wanted.num_vfs,
        "autoprobe": wanted.autoprobe,
        "mtu": wanted.mtu,
        "up": wanted.up,
        _MODE: wanted.eswitch_mode,
    }
    return {attribute: then for attribute, then in found.items() if then is not None}


def _vf_drift(info: VFInfo, given: Given) -> Iterator[Evidence]:
    vf = info.vf
    if not _driver_fits(given.driver, vf.driver):
        source = f"/sys/bus/pci/devices/{vf.address}/driver"
        what = f"VF {vf.index} is on {vf.driver or 'no driver'}, it is to be on {given.driver}"
        yield Evidence(what, source)
    if info.settings is None or info.state is VFState.FOREIGN:
        return
    for field in fields(VFSettings):
        then, is_ = getattr(given.settings, field.name), getattr(info.settings, field.name)
        if None not in (then, is_) and then != is_:
            what = f"VF {vf.index} has {field.name} {is_}, it is to have {then}"
            yield Evidence(what, f"ip link show {info.pf_ifname}, vf {vf.index}")


def _driver_fits(given: str | None, now: str | None) -> bool:
    if given is None:
        return True
    if given == NO_DRIVER:
        return now is None
    if given == DEFAULT_DRIVER:
        return now is not None and now not in USERSPACE_DRIVERS
    return now == given
