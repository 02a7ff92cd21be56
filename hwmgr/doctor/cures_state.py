"""Cures that change the state directory: records, claims, other tools' files.

The caller holds the locks and has looked again. Each returns in words what could not be done.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr import adopt, claims, savedstate
from hwmgr.allocate import claim_life
from hwmgr.devicefiles import holder_files
from hwmgr.doctor.checks_vfs import plain_settings
from hwmgr.errors import RecordTorn
from hwmgr.inuse import OpenFiles
from hwmgr.inventory import inventory, of_vf
from hwmgr.locate import inside, is_marked, marked_name, marked_owner
from hwmgr.model import (
    Before,
    Kind,
    Netdev,
    Owner,
    PciAddress,
    Record,
    Stage,
)
from hwmgr.netns import identity_of, open_namespace
from hwmgr.pci import find_pf, find_vf
from hwmgr.restore import give_up, strike
from hwmgr.sight import Life

if TYPE_CHECKING:
    from hwmgr.doctor.findings import Finding
    from hwmgr.model import VF, VFSettings
    from hwmgr.node import Node

# Whoever is root in a pod can set an alias: what it names must be a container's id and an
# interface's name before anything is called so.
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_IFNAME = re.compile(r"[^\s/:]{1,15}")


def give_back(node: Node, finding: Finding) -> list[str]:
    """End the attachment that a record tells of, wherever its netdev is.

    One whose owner lives goes on while a process drives the device: somebody rebound it on purpose.
    """
    record = node.journal.read(finding.subject)
    if record is not None:
        if finding.id == "vf-lost":
            files = holder_files(node.sysfs, record.address, node.dev)
            holder = OpenFiles(node.proc).holder(*files)
            if holder is not None:
                return [f"{record.address}: {holder} has its device file open; end it first"]
        give_up(node, record)
    return []


def forget(node: Node, finding: Finding) -> list[str]:
    """Strike the record of a function that somebody else has been given."""
    record = node.journal.read(finding.subject)
    if record is not None:
        strike(node, record)
    return []


def set_aside(node: Node, finding: Finding) -> list[str]:
    """Move a function's record to journal-torn/."""
    node.journal.set_aside(finding.subject)
    return []


def set_file_aside(node: Node, finding: Finding) -> list[str]:
    """Move a file of the state directory to journal-torn/; one of the journal has a plain name."""
    names = finding.value.split("/") if "/" in finding.value else ["", finding.value]
    if names[0] == "" and finding.id.startswith("record-"):
        names[0] = "journal"
    names = [name for name in names if name]
    node.state.set_aside(*names)
    return []


def claim(node: Node, finding: Finding) -> list[str]:
    """Write the claim of a living attachment."""
    record = node.journal.read(finding.subject)
    if record is not None and record.owner.netns.path:
        claims.write(node.state, record.address, record.owner.netns.path)
    return []


def unclaim(node: Node, finding: Finding) -> list[str]:
    """Remove a claim that is for no namespace any more."""
    path = claims.claimed_by(node.state, finding.subject)
    if path is not None and claim_life(node, path) is Life.GONE:
        claims.release(node.state, finding.subject, path)
    return []


def rename_pf(node: Node, finding: Finding) -> list[str]:
    """Put the PF's name of now into a record."""
    record = node.journal.read(finding.subject)
    if record is not None:
        node.journal.write(replace(record, pf_ifname=finding.value))
    return []


def remove_file(node: Node, finding: Finding) -> list[str]:
    """Remove the file of a killed write, durably."""
    node.state.remove(*os.path.relpath(finding.value, node.state.root).split("/"))
    return []


def give_back_saved(node: Node, finding: Finding) -> list[str]:
    """Give back what another tool's file tells, or only remove it where somebody has the function.

    A file of an earlier boot, or older than the function's present owner, tells nothing any more.
    """
    found = [e for e in savedstate.all_entries(node.state) if e.id == finding.value]
    if not found:
        return []
    entry = found[0]
    if not node.journal.has(entry.address or ""):
        netns = claims.claimed_by(node.state, entry.address or "")
        records = adopt.foreign_records(node, entry.container_id or "", entry.ifname or "", netns)
        for record in records:
            if entry.path in record.saved_files:
                if record.boot_id == node.boot_id:
                    node.journal.write(replace(record, note={}))
                give_up(node, record)
    names = entry.id.split("/")
    node.state.remove(*names)
    if len(names) > 1:
        node.state.remove_folder_if_empty(names[0])
    return []


def rebuild(node: Node, finding: Finding) -> list[str]:
    """Write the record of a living attachment anew, and its claim where that is lost too."""
    record = from_alias(node, PciAddress(finding.subject), finding.value)
    if record is None:
        return [f"{finding.subject}: its alias does not tell whose it is"]
    node.journal.write(record)
    if claims.claimed_by(node.state, record.address) is None:
        claims.write(node.state, record.address, record.owner.netns.path)
    return []


def from_alias(node: Node, address: PciAddress, path: str) -> Record | None:
    """Make the record of a VF from its marked netdev in the namespace behind ``path``.

    What its state file tells is better and is taken first; the alias tells container and name.
    """
    fd = open_namespace(path)
    try:
        netns = identity_of(path, fd)
        marked = [n for n in inside(node, fd, address) if is_marked(n, address)]
    finally:
        os.close(fd)
    if not marked:
        return None
    names = [marked_name(n) for n in marked]
    container = marked_owner(marked[0])
    if not _CONTAINER.fullmatch(container) or not all(map(_IFNAME.fullmatch, names)):
        return None
    saved = _saved(node, address, container, marked[0].name, path)
    if saved is not None:
        owner = replace(saved.owner, netns=netns)
        return replace(saved, owner=owner, stage=Stage.ATTACHED, note={})
    vf = find_vf(node.sysfs, address)
    pf_names = node.sysfs.names(f"bus/pci/devices/{vf.pf_address}/net")
    return Record(
        address=address,
        kind=Kind.VF,
        stage=Stage.ATTACHED,
        boot_id=node.boot_id,
        owner=Owner(container, marked[0].name, netns, since=node.clock()),
        pf_address=vf.pf_address,
        pf_ifname=pf_names[0] if pf_names else None,
        index=vf.index,
        before=Before(
            driver=vf.driver,
            driver_override=vf.driver_override,
            settings=plain_settings_of(node, vf),
            netdevs=tuple(
                Netdev(0, name, n.mac, n.mtu, up=False, parent=address)
                for n, name in zip(marked, names, strict=True)
            ),
        ),
    )


def plain_settings_of(node: Node, vf: VF) -> VFSettings | None:
    """Return what a VF is to have when nobody has it; None when its PF cannot be asked."""
    infos = inventory(node, [find_pf(node.sysfs, vf.pf_address)])
    return plain_settings(of_vf(infos, vf.address), infos)


def _saved(
    node: Node, address: PciAddress, container: str, ifname: str, path: str
) -> Record | None:
    try:
        found = adopt.foreign_records(node, container, ifname, path)
    except RecordTorn:
        return None
    return next((r for r in found if r.address == address and r.boot_id == node.boot_id), None)
