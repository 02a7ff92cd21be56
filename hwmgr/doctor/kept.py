"""Judges who may still have a VF, or stand behind a state file, and which VFs nobody has. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.model import Kind, VFState

if TYPE_CHECKING:
    from hwmgr.doctor.facts import Facts
    from hwmgr.doctor.facts_state import Claim
    from hwmgr.inventory import VFInfo
    from hwmgr.savedstate import SavedEntry


def idle_vfs(facts: Facts) -> list[VFInfo]:
    """Return the VFs that nobody has, as far as is known: of these alone things are put right.

    A damaged record may be a living owner's, and so may another plugin's state file.
    """
    found = [i for i in facts.unrecorded() if i.state is not VFState.FOREIGN]
    addresses = {info.vf.address for info in found}
    entries = (e for e in facts.state.entries if e.address in addresses and e.container_id)
    kept = {entry.address for entry in entries if is_kept(facts, entry)}
    return [info for info in found if info.vf.address not in kept]


def is_kept(facts: Facts, entry: SavedEntry) -> bool:
    """Tell whether somebody alive stands behind a state file, or might, as far as we can see.

    sriov-cni before 2.7 makes no claims, and leaves ours: that somebody has the function is all
    there is to see, and of a device without a netdev not even that.
    """
    address = entry.address or ""
    claim = _claim_for(facts, entry)
    if claim is not None and (claim.live or claim.unjudged):
        return True
    if any(i.vf.address == address and i.state is VFState.FOREIGN for i in facts.vfs):
        return True
    if facts.elsewhere(address) or is_unclaimed_device(facts, entry):
        return True
    if not facts.all_processes and (entry.netns_inode is not None or entry.mode is Kind.DPDK):
        return True
    if entry.netns_inode is not None and any(i == entry.netns_inode for _d, i in facts.spaces):
        return True
    record = facts.record_of(address)
    return record is not None and record.owner.container_id == entry.container_id


def is_unclaimed_device(facts: Facts, entry: SavedEntry) -> bool:
    """Tell a state file that does not show whether its container lives."""
    known = entry.netns_inode is not None or _claim_for(facts, entry) is not None
    return entry.mode is Kind.DPDK and not known


def _claim_for(facts: Facts, entry: SavedEntry) -> Claim | None:
    """Return the claim of a state file's function, unless it is one of another's record."""
    claim = facts.state.claims.get(entry.address or "")
    record = facts.record_of(entry.address or "")
    if claim is None or record is None or record.owner.container_id == entry.container_id:
        return claim
    return None if claim.path == record.owner.netns.path else claim
