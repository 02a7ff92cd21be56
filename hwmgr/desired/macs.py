"""MACs that VFs are to have whatever they have now, and which two functions would share. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.desired.state import MacPolicy, stable_mac
from hwmgr.vfsettings import NO_MAC

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hwmgr.desired.observed import PfNow, VfNow
    from hwmgr.desired.state import DesiredPf, VfGroup


def fixed_mac(group: VfGroup, index: int, now: PfNow) -> str | None:
    """Return the MAC that a VF is to have whatever it has now, None where the file gives none."""
    if isinstance(group.mac, tuple):
        return group.mac[group.indices.index(index)]
    if group.mac is MacPolicy.STABLE and now.mac is not None:
        return stable_mac(now.mac, index)
    return None


def wanted_macs(entry: DesiredPf, now: PfNow) -> dict[int, str]:
    """Return the MACs that VFs are to have whatever they have now, by index."""
    count = entry.num_vfs if entry.num_vfs is not None else now.pf.num_vfs
    found = {}
    for group in entry.groups:
        for index in group.indices:
            mac = fixed_mac(group, index, now)
            if mac is not None and index < count:
                found[index] = mac
    return found


def mac_clashes(entries: Mapping[str, DesiredPf], pfs: Sequence[PfNow]) -> list[str]:
    """Return in words which MACs two functions of this node would have."""
    problems: list[str] = []
    has: dict[str, str] = {}
    wants: dict[str, str] = {}
    for now in pfs:
        entry = entries.get(now.pf.address)
        wanted = wanted_macs(entry, now) if entry else {}
        for index, mac in wanted.items():
            where = f"{now.label} VF {index}"
            other = wants.setdefault(mac, where)
            if other != where:
                problems.append(f"MAC {mac} is wanted for {other} and for {where}")
        if now.mac is not None:
            has[now.mac] = now.label
        stays = entry is None or entry.num_vfs in (None, now.pf.num_vfs)
        for vf in now.vfs if stays else ():
            if vf.vf.index not in wanted:
                has |= dict.fromkeys(_macs_of(vf), f"{now.label} VF {vf.vf.index}")
    problems += [f"MAC {m}, wanted for {w}, is {has[m]}'s" for m, w in wants.items() if m in has]
    return problems


def _macs_of(vf: VfNow) -> set[str]:
    """Return the MACs that a VF has, its holder's among them."""
    of_the_pf = vf.settings.mac if vf.settings else None
    of_the_holder = vf.record.settings.mac if vf.record else None
    found = (vf.mac, of_the_pf, of_the_holder)
    return {mac for mac in found if mac is not None and mac != NO_MAC}
