"""Checks of idle VFs: without driver, or not as their driver left them. Pure.

The admin MAC and the spoof check differ by driver, so only VFs of one PF are compared with each
other, and only where they agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.desired.state import NO_DRIVER
from hwmgr.doctor.findings import Cure, Evidence, Finding, Severity
from hwmgr.doctor.kept import idle_vfs
from hwmgr.locate import is_marked, marked_name, marked_owner
from hwmgr.model import USERSPACE_DRIVERS, LinkState, VFSettings, VFState, VlanProto
from hwmgr.vfstate import unusual

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.doctor.facts import Facts
    from hwmgr.inventory import VFInfo

_FEWEST_SIBLINGS = 3


def check(facts: Facts) -> Iterator[Finding]:
    """Yield what is wrong with VFs that nobody holds by a record."""
    siblings: dict[str, list[VFInfo]] = {}
    for info in facts.vfs:
        siblings.setdefault(info.vf.pf_address, []).append(info)
    for info in idle_vfs(facts):
        if info.vf.driver is None:
            yield _unbound(facts, info)
        else:
            # What counts as left over is hwmgr.vfstate's to say.
            if not facts.apply_is_unknown(info.vf.pf_address):
                if info.state is VFState.DIRTY:
                    yield from _driver(facts, info)
                yield from _settings(info, siblings[info.vf.pf_address])
            yield from _marked_here(facts, info)


def _unbound(facts: Facts, info: VFInfo) -> Finding:
    vf = info.vf
    meant = vf.pf_address not in facts.autoprobe or info.given.driver == NO_DRIVER
    given = info.given.driver is not None or facts.apply_is_unknown(vf.pf_address)
    evidence = [Evidence("no driver", f"/sys/bus/pci/devices/{vf.address}/driver")]
    if vf.driver_override:
        source = f"/sys/bus/pci/devices/{vf.address}/driver_override"
        evidence.append(Evidence(f"only {vf.driver_override} may take it", source))
    if given:
        source = f"{facts.state.root}/applied/{vf.pf_address}.json"
        to = info.given.driver or "something that its record does not tell any more"
        evidence.append(Evidence(f"apply gave it to {to}", source))
    elif meant:
        source = f"/sys/bus/pci/devices/{vf.pf_address}/sriov_drivers_autoprobe"
        evidence.append(Evidence("new VFs of its PF are to get no driver", source))
    return Finding(
        id="vf-unbound",
        severity=Severity.INFO if meant else Severity.ERROR,
        subject=vf.address,
        finding="no driver has it",
        evidence=tuple(evidence),
        repair=f"hwmgr vf bind {vf.address} DRIVER"
        if meant
        else "hwmgr apply FILE, which gives it to its driver"
        if given
        else "give it to its kernel driver",
        cure=None if meant or given else Cure.PROBE,
    )


def _driver(facts: Facts, info: VFInfo) -> Iterator[Finding]:
    vf, device = info.vf, f"/sys/bus/pci/devices/{info.vf.address}"
    if info.given.driver is not None and info.given.driver == vf.driver:
        return
    if vf.driver in USERSPACE_DRIVERS:
        meant = _meant(facts, info)
        if meant is None and not facts.all_processes:
            yield _perhaps_driven(vf.address, vf.driver or "", device)
            return
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


def _perhaps_driven(address: str, driver: str, device: str) -> Finding:
    return Finding(
        id="vf-driver-left",
        severity=Severity.INFO,
        subject=address,
        finding=f"{driver} has it, and whether a process drives it cannot be seen here",
        evidence=(
            Evidence(f"driver {driver}", f"{device}/driver"),
            Evidence("not every process can be seen", "/proc"),
        ),
        repair="run hwmgr on the host itself, as root",
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
    given = info.given.settings
    left = unusual(now, given) if info.state is VFState.DIRTY else []
    source = f"ip link show {info.pf_ifname}, vf {info.vf.index}"
    evidence = [Evidence(", ".join(left), source)] if left else []
    usual = usual_spoofchk(info, siblings)
    if (
        now.spoofchk is not None
        and now.spoofchk not in (usual, given.spoofchk)
        and usual is not None
    ):
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


def plain_settings(info: VFInfo, siblings: list[VFInfo]) -> VFSettings | None:
    """Return what an idle VF should have, of the settings that it has otherwise now.

    That is what apply gave it, else what every driver starts with; the spoof check is that of its
    siblings. What hwmgr.vfstate does not count as left over stays. None when the PF cannot be
    asked.
    """
    now, given = info.settings, info.given.settings
    if now is None:
        return None
    spoofchk = usual_spoofchk(info, siblings) if given.spoofchk is None else given.spoofchk
    if info.state is VFState.FREE:
        return VFSettings(spoofchk=spoofchk)
    rates = bool(now.min_rate or now.max_rate)
    plain_link = LinkState.AUTO if now.link_state not in (None, LinkState.AUTO) else None
    return VFSettings(
        vlan=(given.vlan or 0) if now.vlan else None,
        qos=(given.qos or 0) if now.vlan else None,
        proto=(given.proto or VlanProto.DOT1Q) if now.vlan else None,
        min_rate=(given.min_rate or 0) if rates else None,
        max_rate=(given.max_rate or 0) if rates else None,
        spoofchk=spoofchk,
        trust=bool(given.trust) if now.trust else None,
        link_state=given.link_state or plain_link,
    )


def usual_spoofchk(info: VFInfo, siblings: list[VFInfo]) -> bool | None:
    """Return the spoof check that all other idle VFs of the PF have, None where they differ."""
    others = {
        s.settings.spoofchk
        for s in siblings
        if _plainly_idle(s) and s.settings is not None and s.vf.address != info.vf.address
    }
    idle = sum(1 for s in siblings if _plainly_idle(s))
    return others.pop() if len(others) == 1 and idle > _FEWEST_SIBLINGS else None


def _plainly_idle(info: VFInfo) -> bool:
    """Tell whether nobody has a VF and apply has left its spoof check alone."""
    idle = info.record is None and info.state is not VFState.FOREIGN
    return idle and info.given.settings.spoofchk is None


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
