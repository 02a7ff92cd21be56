"""Settings of a VF that its PF's driver holds: set them one by one, give back what differs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr.errors import NetlinkError
from hwmgr.model import VFSettings, VlanProto

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.links import Links
    from hwmgr.node import Node

NO_MAC = "00:00:00:00:00:00"
_MAC_SECONDS = 2.0


def steps(wanted: VFSettings) -> Iterator[tuple[str, VFSettings]]:
    """Split settings into single changes, in the order in which sriov-cni applies them."""
    if wanted.vlan is not None:
        proto = wanted.proto or VlanProto.DOT1Q
        yield "vlan", VFSettings(vlan=wanted.vlan, qos=wanted.qos or 0, proto=proto)
    if wanted.mac is not None:
        yield "mac", VFSettings(mac=wanted.mac)
    if wanted.min_rate is not None or wanted.max_rate is not None:
        yield "rate", VFSettings(min_rate=wanted.min_rate or 0, max_rate=wanted.max_rate or 0)
    if wanted.spoofchk is not None:
        yield "spoofchk", VFSettings(spoofchk=wanted.spoofchk)
    if wanted.trust is not None:
        yield "trust", VFSettings(trust=wanted.trust)
    if wanted.link_state is not None:
        yield "link_state", VFSettings(link_state=wanted.link_state)


def differences(now: VFSettings, wanted: VFSettings) -> VFSettings:
    """Return those of the wanted settings that the hardware does not have now.

    A group (VLAN with QoS and protocol, the two rates) is set as a whole.
    """
    change = VFSettings()
    if wanted.vlan is not None:
        proto = wanted.proto or VlanProto.DOT1Q
        goal = (wanted.vlan, wanted.qos or 0, proto if wanted.vlan else None)
        have = (now.vlan, now.qos or 0, now.proto if now.vlan else None)
        if goal != have:
            change = replace(change, vlan=wanted.vlan, qos=wanted.qos or 0, proto=proto)
    if wanted.mac is not None and wanted.mac != now.mac:
        change = replace(change, mac=wanted.mac)
    rates = (wanted.min_rate, wanted.max_rate)
    if rates != (None, None) and (rates[0] or 0, rates[1] or 0) != (
        now.min_rate or 0,
        now.max_rate or 0,
    ):
        change = replace(change, min_rate=rates[0] or 0, max_rate=rates[1] or 0)
    if wanted.spoofchk is not None and wanted.spoofchk != now.spoofchk:
        change = replace(change, spoofchk=wanted.spoofchk)
    if wanted.trust is not None and wanted.trust != now.trust:
        change = replace(change, trust=wanted.trust)
    if wanted.link_state is not None and wanted.link_state != now.link_state:
        change = replace(change, link_state=wanted.link_state)
    return change


def apply(node: Node, links: Links, pf_index: int, vf: int, wanted: VFSettings) -> None:
    """Set what is wanted, one change a message; raises NetlinkError naming the one refused.

    i40e and ice apply a MAC after a reset of the VF, so it is waited for.
    """
    for name, change in steps(wanted):
        links.set_vf(pf_index, vf, change)
        if name == "mac":
            _wait_for_mac(node, links, pf_index, vf, wanted.mac or "")
        node.checkpoint(f"attach.set.{name}")


def give_back(
    links: Links, pf_index: int, vf: int, before: VFSettings, pinned: str | None = None
) -> list[str]:
    """Set back what differs from ``before``; return what could not be, in words.

    Where no admin MAC was set, igb shows the one that the VF's driver has announced. Setting zeros
    then would take that away from the VF, which receives nothing any more until its next reset; so
    zeros are set only in place of ``pinned``, the MAC that was set for the attachment.
    """
    problems = []
    now = links.vf_settings(pf_index).get(vf)
    if now is None:
        return [f"PF link {pf_index} does not list VF {vf}"]
    if before.mac == NO_MAC and now.mac != pinned:
        before = replace(before, mac=None)
    for _name, change in steps(differences(now, before)):
        try:
            links.set_vf(pf_index, vf, change)
        except NetlinkError as error:
            problems.append(str(error))
    return problems


def _wait_for_mac(node: Node, links: Links, pf_index: int, vf: int, mac: str) -> None:
    def settled() -> bool | None:
        now = links.vf_settings(pf_index).get(vf)
        return True if now is not None and now.mac == mac else None

    if node.udev.wait(settled, _MAC_SECONDS) is None:
        raise NetlinkError(f"the driver did not take MAC {mac} for VF {vf}", 110)


def unpinned() -> VFSettings:
    """Return the change that lets a VF choose its MAC again: an admin MAC of zeros."""
    return VFSettings(mac=NO_MAC)
