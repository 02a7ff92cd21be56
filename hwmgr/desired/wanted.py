"""What a file says of a PF and its VFs, as the apply record keeps it for doctor. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr.applyrecord import Given, PfAttributes
from hwmgr.desired.macs import fixed_mac
from hwmgr.desired.state import MacPolicy

if TYPE_CHECKING:
    from hwmgr.desired.observed import PfNow, VfNow
    from hwmgr.desired.state import DesiredPf, VfGroup


def wanted_of_pf(entry: DesiredPf) -> PfAttributes:
    """Return what an entry has of the PF itself; nothing where somebody else manages it."""
    if entry.externally_managed:
        return PfAttributes()
    return PfAttributes(
        num_vfs=entry.num_vfs,
        mtu=entry.mtu,
        up=entry.up,
        eswitch_mode=entry.eswitch_mode,
        autoprobe=entry.autoprobe,
    )


def wanted_of_vfs(entry: DesiredPf, now: PfNow) -> dict[int, Given]:
    """Return what an entry has of the VFs that are there, by index."""
    there = {vf.vf.index: vf for vf in now.vfs}
    return {
        index: Given(group.driver, replace(group.settings, mac=_mac(group, index, there, now)))
        for group in entry.groups
        for index in group.indices
        if index in there
    }


def _mac(group: VfGroup, index: int, there: dict[int, VfNow], now: PfNow) -> str | None:
    if group.mac is MacPolicy.KEEP:
        vf = there[index]
        # Somebody without a record of ours has it: its MAC goes with him.
        others = vf.holder is not None and vf.record is None
        return None if others or vf.settings is None else vf.settings.mac
    return fixed_mac(group, index, now)
