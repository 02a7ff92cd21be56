"""What state a VF is in, and why: one decision from gathered facts, no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.driver import BIFURCATED_DRIVERS
from hwmgr.model import (
    USERSPACE_DRIVERS,
    Kind,
    LinkState,
    Stage,
    VFSettings,
    VFState,
    describe,
    is_userspace,
    is_vfio,
)

if TYPE_CHECKING:
    from hwmgr.applyrecord import Given
    from hwmgr.model import VF, Record

# Names that a netdev has only when somebody gave it back badly: the kernel's dev%d when its own
# name was taken on the host, sriov-cni of 2018's dev<ifindex>, our hw<ifindex>, multus' net<N>.
_LEFTOVER_NAME = re.compile(r"(?:dev|hw|net)\d+(?:d1)?$")


@dataclass(frozen=True, slots=True)
class HostNetdev:
    """A VF's netdev as the host sees it; ``routed`` and ``addressed`` mean the host uses it."""

    name: str
    alias: str = ""
    master: str | None = None
    addressed: bool = False
    routed: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """All that decides on a VF's state.

    ``torn`` is why its record cannot be read; ``same_boot`` and ``owner_alive`` are about the
    record, or about that of the PF (``pf_record``) when the PF has been given away as a whole.
    ``given`` is what the desired state has made of it, which is not left over.
    ``claim`` is the namespace of a live claim file; ``holder`` names a process that has the device
    file open.
    """

    vf: VF
    netdevs: tuple[HostNetdev, ...] = ()
    settings: VFSettings | None = None
    record: Record | None = None
    pf_record: Record | None = None
    torn: str | None = None
    same_boot: bool = True
    owner_alive: bool = False
    claim: str | None = None
    holder: str | None = None
    given: Given | None = None


def decide(facts: Facts) -> tuple[VFState, str]:
    """Return a VF's state and the reason in words for the administrator."""
    if facts.torn is not None:
        return VFState.BROKEN, f"its record is damaged: {facts.torn}"
    if facts.record is not None:
        return _recorded(facts, facts.record)
    if facts.pf_record is not None:
        holder = describe(facts.pf_record)
        if facts.same_boot and facts.owner_alive:
            return VFState.ALLOCATED, f"its PF is held as a whole by {holder}"
        return VFState.LEAKED, f"its PF was held as a whole by {holder}, which is gone"
    foreign = in_use(facts)
    if foreign is not None:
        return VFState.FOREIGN, foreign
    if facts.vf.driver is None:
        return VFState.BROKEN, "no driver has it; see 'hwmgr vf bind'"
    leftovers = _leftovers(facts)
    if leftovers:
        return VFState.DIRTY, "left over: " + ", ".join(leftovers)
    return VFState.FREE, ""


def in_use(facts: Facts) -> str | None:
    """Say who uses a VF that no record has, None when nobody does."""
    vf = facts.vf
    if facts.claim is not None:
        return f"sriov-cni's claim file gives it to namespace {facts.claim}"
    if facts.holder is not None:
        return f"{facts.holder} has its device file open"
    for netdev in facts.netdevs:
        if netdev.master is not None:
            return f"the host uses {netdev.name}: it is a port of {netdev.master}"
        if netdev.addressed or netdev.routed:
            what = "an address" if netdev.addressed else "a route"
            return f"the host uses {netdev.name}: it has {what}"
    if vf.network and vf.driver is not None and not is_userspace(vf.driver) and not vf.netdevs:
        return f"{vf.driver} has it but its netdev is not here: another namespace has it"
    given = facts.given.driver if facts.given else None
    if is_vfio(vf.driver) and vf.driver not in (*USERSPACE_DRIVERS, given):
        # Attaching binds to none of vfio's variants, so it is nobody's leaving.
        return f"{vf.driver} has it, for a virtual machine"
    return None


def _recorded(facts: Facts, record: Record) -> tuple[VFState, str]:
    vf, who = facts.vf, describe(record)
    if (record.pf_address, record.index) != (vf.pf_address, vf.index):
        place = f"VF {record.index} of {record.pf_address}"
        now = f"VF {vf.index} of {vf.pf_address}"
        return VFState.BROKEN, f"it is {now}, its record of {who} says {place}"
    if not facts.same_boot:
        return VFState.LEAKED, f"held by {who} before the node was rebooted"
    if not facts.owner_alive:
        return VFState.LEAKED, f"held by {who}, whose namespace is gone"
    if record.stage is Stage.INTENDED:
        return VFState.ALLOCATED, f"attaching it to {who} has not finished"
    if record.stage is Stage.DETACHING:
        return VFState.ALLOCATED, f"taking it back from {who} has not finished"
    expected = record.driver or record.before.driver
    if vf.driver != expected:
        found = f"on {vf.driver}" if vf.driver else "without a driver"
        return VFState.BROKEN, f"held by {who}, but it is {found} and was left on {expected}"
    if record.kind is Kind.VF and vf.netdevs:
        return VFState.BROKEN, f"held by {who}, but its netdev {vf.ifname} is here"
    return VFState.ALLOCATED, f"held by {who}"


def _leftovers(facts: Facts) -> list[str]:
    vf, found = facts.vf, []
    wanted = facts.given
    if vf.driver in USERSPACE_DRIVERS and not (wanted and wanted.driver == vf.driver):
        found.append(f"driver {vf.driver}")
    if vf.driver_override is not None and not (wanted and wanted.driver == vf.driver_override):
        found.append(f"driver_override {vf.driver_override}")
    for netdev in facts.netdevs:
        if netdev.alias.startswith(f"hwmgr:{vf.address};"):
            found.append(f"our mark on {netdev.name}")
        elif _LEFTOVER_NAME.match(netdev.name) and vf.driver not in BIFURCATED_DRIVERS:
            found.append(f"name {netdev.name}")
    return found + unusual(facts.settings, wanted.settings if wanted else VFSettings())


def unusual(settings: VFSettings | None, wanted: VFSettings) -> list[str]:
    """Name the settings that neither a driver starts with nor apply gave.

    MAC and spoof check differ by driver.
    """
    if settings is None:
        return []
    found = []
    if settings.vlan and settings.vlan != wanted.vlan:
        found.append(f"VLAN {settings.vlan}")
    rates = (settings.min_rate or 0, settings.max_rate or 0)
    if rates not in ((0, 0), (wanted.min_rate or 0, wanted.max_rate or 0)):
        found.append(f"rate {settings.min_rate or 0}-{settings.max_rate or 0} Mbit/s")
    if settings.trust and not wanted.trust:
        found.append("trust on")
    if settings.link_state not in (None, LinkState.AUTO, wanted.link_state):
        found.append(f"link state {settings.link_state}")
    return found
