"""Checks of VFs that somebody has without a record of ours: who, and where. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.doctor.findings import Cure, Evidence, Finding, Severity
from hwmgr.holders import HeldBy
from hwmgr.locate import is_marked, marked_name, marked_owner
from hwmgr.model import USERSPACE_DRIVERS, VFState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.doctor.facts import Facts
    from hwmgr.doctor.facts_spaces import Space
    from hwmgr.inventory import VFInfo
    from hwmgr.model import Netdev


def check(facts: Facts) -> Iterator[Finding]:
    """Yield who has a VF that no record has."""
    for info in facts.unrecorded():
        if info.state is VFState.FOREIGN:
            yield from _of(facts, info)


def _of(facts: Facts, info: VFInfo) -> Iterator[Finding]:
    vf = info.vf
    places = facts.elsewhere(vf.address)
    for space, netdev in places:
        if is_marked(netdev, vf.address) and not _is_stale(facts, vf.address, netdev):
            yield _marked_elsewhere(facts, info, space, netdev)
            return
    claim = facts.state.claims.get(vf.address)
    if claim is not None and (claim.live or claim.unjudged):
        source = f"{facts.state.root}/pci/{vf.address}"
        text = "end the pod of that namespace; its own plugin gives the VF back"
        yield _of_others(info, text, Severity.INFO, Evidence(f"names {claim.path}", source))
    elif vf.netdevs:
        text = f"none if it is meant; else take {vf.ifname} out of use (ip-link(8))"
        yield _of_others(info, text, Severity.INFO, Evidence(info.reason, "ip address; ip route"))
    elif vf.driver in USERSPACE_DRIVERS:
        text = "none if it is meant; else end that process"
        yield _of_others(info, text, Severity.INFO, Evidence(info.reason, "/proc/*/fd"))
    elif places:
        space, netdev = places[0]
        held = ", ".join(h.text for h in space.holders)
        evidence = Evidence(f"{netdev.name} is there, kept by {held}", space.path)
        text = f"{_ending(space)}; the VF comes home"
        yield _of_others(info, text, Severity.WARNING, evidence)
    elif vf.address in facts.no_netdevs:
        device = f"/sys/bus/pci/devices/{vf.address}"
        evidence = Evidence(f"driver {vf.driver}, which makes no netdev", f"{device}/driver")
        reason = f"{vf.driver} has it, for a use of its own"
        text = "none if it is meant"
        yield Finding("vf-foreign", Severity.INFO, vf.address, reason, (evidence,), text)
    else:
        yield _nowhere(facts, info)


def _ending(space: Space) -> str:
    """Say what ends a namespace: its pod, which is what mounts stand for, or what else keeps it."""
    if not space.holders:
        return f"end {space.path}"
    first = space.holders[0]
    if first.kind is HeldBy.MOUNT:
        return f"delete the pod that has {first.path}, or unmount that"
    return f"end {first.text}"


def _is_stale(facts: Facts, address: str, netdev: Netdev) -> bool:
    """Tell whether a mark is of an earlier attachment: sriov-cni ends ours and leaves the alias."""
    entries = (e for e in facts.state.entries if e.address == address)
    holders = {e.container_id for e in entries if e.container_id}
    return bool(holders) and marked_owner(netdev) not in holders


def _of_others(info: VFInfo, repair: str, severity: Severity, evidence: Evidence) -> Finding:
    return Finding("vf-foreign", severity, info.vf.address, info.reason, (evidence,), repair)


def _nowhere(facts: Facts, info: VFInfo) -> Finding:
    vf = info.vf
    everywhere = facts.all_processes and all(s.readable for s in facts.spaces.values())
    looked = "every process, descriptor and mount" if everywhere else "what we can see"
    return Finding(
        id="vf-nowhere",
        severity=Severity.ERROR,
        subject=vf.address,
        finding=f"{vf.driver} has it, but its netdev is in no namespace that can be found",
        evidence=(
            Evidence("no netdev here", f"/sys/bus/pci/devices/{vf.address}/net"),
            Evidence(f"looked through {looked}", "/proc"),
        ),
        repair="bind its driver anew: the netdev is made again here"
        if everywhere
        else "run hwmgr on the host itself, as root: here not all can be seen",
        cure=Cure.REBIND if everywhere else None,
    )


def _marked_elsewhere(facts: Facts, info: VFInfo, space: Space, netdev: Netdev) -> Finding:
    address, alias = info.vf.address, netdev.alias or ""
    mark = Evidence(f"alias {alias}", f"{space.path}, ip link show {netdev.name}")
    keepers = tuple(Evidence(f"keeps it: {h.text}", h.path) for h in space.holders)
    owner = marked_owner(netdev)
    claim = facts.state.claims.get(address)
    claimed = claim.path if claim is not None and claim.key == space.key else None
    if claimed or any(h.kind is HeldBy.MOUNT for h in space.holders):
        return Finding(
            id="record-missing",
            severity=Severity.ERROR,
            subject=address,
            finding=f"container {owner[:13]} has it as {netdev.name}, and its record is lost",
            evidence=(mark, *keepers),
            repair="write the record anew, from the alias and the state file",
            cure=Cure.REBUILD,
            value=claimed or space.path,
        )
    held = ", ".join(h.text for h in space.holders)
    return Finding(
        id="vf-lost-nameless",
        severity=Severity.ERROR,
        subject=address,
        finding=f"container {owner[:13]} had it; no record, and only {held} keeps its namespace",
        evidence=(mark, *keepers),
        repair=f"take {netdev.name} home, as {marked_name(netdev)}",
        cure=Cure.TAKE_HOME,
        value=space.path,
    )
