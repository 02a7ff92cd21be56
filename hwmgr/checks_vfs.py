"""Checks of idle VFs: without driver, or not as their driver left them. Pure.

The admin MAC and the spoof check differ by driver, so only VFs of one PF are compared with each
other, and only where they agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.findings import Cure, Evidence, Finding, Severity
from hwmgr.locate import is_marked, marked_name, marked_owner
from hwmgr.model import USERSPACE_DRIVERS, LinkState, VFState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.facts import Facts
    from hwmgr.inventory import VFInfo
    from hwmgr.model import VFSettings

_FEWEST_SIBLINGS = 3


def check(facts: Facts) -> Iterator[Finding]:
    """Yield what is wrong with VFs that nobody holds by a record."""
    siblings: dict[str, list[VFInfo]] = {}
    for info in facts.vfs:
        siblings.setdefault(info.vf.pf_address, []).append(info)
    for info in facts.unrecorded():
        if info.state is VFState.FOREIGN:
            continue
        if info.vf.driver is None:
            yield _unbound(facts, info)
        else:
            # What counts as left over is hwmgr.vfstate's to say.
            if info.state is VFState.DIRTY:
                yield from _driver(facts, info)
            yield from _settings(info, siblings[info.vf.pf_address])
            yield from _marked_here(facts, info)


def _unbound(facts: Facts, info: VFInfo) -> Finding:
    vf = info.vf
    meant = vf.pf_address not in facts.autoprobe
    evidence = [Evidence("no driver", f"/sys/bus/pci/devices/{vf.address}/driver")]
    if vf.driver_override:
        source = f"/sys/bus/pci/devices/{vf.address}/driver_override"
        evidence.append(Evidence(f"only {vf.driver_override} may take it", source))
    if meant:
        source = f"/sys/bus/pci/devices/{vf.pf_address}/sriov_drivers_autoprobe"
        evidence.append(Evidence("new VFs of its PF are to get no driver", source))
    return Finding(
        id="vf-unbound",
        severity=Severity.INFO if meant else Severity.ERROR,
        subject=vf.address,
        finding="no driver has it",
        evidence=tuple(evidence),
        repair=f"hwmgr vf bind {vf.address} DRIVER" if meant else "give it to its kernel driver",
        cure=None if meant else Cure.PROBE,
    )


def _driver(facts: Facts, info: VFInfo) -> Iterator[Finding]:
    vf, device = info.vf, f"/sys/bus/pci/devices/{info.vf.address}"
    if vf.driver in USERSPACE_DRIVERS:
        meant = _meant(facts, info)
        left = Evidence(f"driver {vf.driver}, and no process has its file open", f"{device}/driver")
        yield Finding(
            id="vf-userspace" if meant else "vf-driver-left",
            severity=Severity.INFO if meant else Severity.WARNING,
            subject=vf.address,
            finding=f"{vf.driver} has it, for whom is not known"
            if not meant
            else f"{vf.driver} has it, and is meant to",
            evidence=(left, meant) if meant else (left,),
            repair="none" if meant else "give it back to its kernel driver",
            cure=None if meant else Cure.PROBE,
        )
    elif vf.driver_override is not None and vf.address not in facts.kept_drivers:
        yield Finding(
            id="override-left",
            severity=Severity.WARNING,
            subject=vf.address,
            finding=f"driver_override is {vf.driver_override}, the driver is {vf.driver}",
            evidence=(Evidence(vf.driver_override, f"{device}/driver_override"),),
            repair="clear driver_override",
            cure=Cure.CLEAR_OVERRIDE,
        )


def _meant(facts: Facts, info: VFInfo) -> Evidence | None:
    """Say who wants a VF on a userspace driver, None when nobody is known to."""
    vf = info.vf
    kept = facts.kept_drivers.get(vf.address)
    if kept is not None:
        return Evidence("driverctl keeps it there", kept)
    if facts.kubelet is not None and vf.address in facts.kubelet.advertised:
        return Evidence("a device plugin offers it to pods", facts.kubelet.folder)
    if vf.driver_override == vf.driver:
        return Evidence(
            "driver_override keeps it there", f"/sys/bus/pci/devices/{vf.address}/driver_override"
        )
    return None


def _settings(info: VFInfo, siblings: list[VFInfo]) -> Iterator[Finding]:
    now = info.settings
    if now is None:
        return
    left = _unusual(now) if info.state is VFState.DIRTY else []
    source = f"ip link show {info.pf_ifname}, vf {info.vf.index}"
    evidence = [Evidence(", ".join(left), source)] if left else []
    usual = usual_spoofchk(info, siblings)
    if usual is not None and now.spoofchk is not None and now.spoofchk != usual:
        is_, others = ("on", "off") if now.spoofchk else ("off", "on")
        left.append(f"spoof check {is_}")
        text = f"spoof check {is_}, {others} for all other idle VFs of its PF"
        evidence.append(Evidence(text, source))
    if left:
        yield Finding(
            id="vf-settings",
            severity=Severity.WARNING,
            subject=info.vf.address,
            finding="nobody has it, yet it has " + ", ".join(left),
            evidence=tuple(evidence),
            repair="reset them",
            cure=Cure.RESET_SETTINGS,
        )


def _unusual(now: VFSettings) -> list[str]:
    left = []
    if now.vlan:
        left.append(f"VLAN {now.vlan}")
    if now.min_rate or now.max_rate:
        left.append(f"rate {now.min_rate or 0}-{now.max_rate or 0} Mbit/s")
    if now.trust:
        left.append("trust on")
    if now.link_state not in (None, LinkState.AUTO):
        left.append(f"link state {now.link_state}")
    return left


def usual_spoofchk(info: VFInfo, siblings: list[VFInfo]) -> bool | None:
    """Return the spoof check that all other idle VFs of the PF have, None where they differ."""
    others = {
        s.settings.spoofchk
        for s in siblings
        if s.record is None and s.settings is not None and s.vf.address != info.vf.address
    }
    idle = sum(1 for s in siblings if s.record is None)
    return others.pop() if len(others) == 1 and idle > _FEWEST_SIBLINGS else None


def _marked_here(facts: Facts, info: VFInfo) -> Iterator[Finding]:
    for netdev in facts.here.get(info.vf.address, ()):
        alias = netdev.alias or ""
        if is_marked(netdev, info.vf.address):
            yield Finding(
                id="alias-left",
                severity=Severity.WARNING,
                subject=info.vf.address,
                finding=f"{netdev.name} is marked for container {marked_owner(netdev)[:13]}, "
                "which has no record",
                evidence=(Evidence(f"alias {alias}", f"ip link show {netdev.name}"),),
                repair=f"clear the alias, name it {marked_name(netdev)}",
                cure=Cure.CLEAR_ALIAS,
                value=alias,
            )
