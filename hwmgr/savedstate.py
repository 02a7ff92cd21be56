"""Saved state of every format on the node, listed: ours, the 2018 plugin's, sriov-cni's."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from hwmgr import seedstate, sriovcni_state
from hwmgr.errors import HwmgrError, NamespaceError, RecordTorn
from hwmgr.journal import Journal
from hwmgr.model import Kind
from hwmgr.netns import identity
from hwmgr.pci import parse_address
from hwmgr.spool import FOLDER, TORN_FOLDER, Spool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.store import StateDir

_FOLDERS = ("journal", "journal-torn", "locks", "pci", FOLDER, TORN_FOLDER)


class Format(StrEnum):
    """Who writes a state file."""

    JOURNAL = "journal"
    SEED = "seed-2018"
    INTEL = "sriov-cni-0.2"
    SRIOV_CNI = "sriov-cni"
    CLAIM = "claim"
    LEFT_CALL = "left-call"


COMPANIONS = (Format.SEED, Format.INTEL, Format.SRIOV_CNI)
"""What a plugin writes of an attachment for its own DEL."""


@dataclass(frozen=True, slots=True)
class SavedEntry:
    """One state file in words common to all formats; ``problem`` says why it cannot be used.

    ``id`` is its path below the state directory, ``mtime`` seconds since the epoch.
    """

    id: str
    format: Format
    path: str
    mtime: float
    container_id: str | None = None
    ifname: str | None = None
    address: str | None = None
    pf: str | None = None
    mode: Kind | None = None
    netns_inode: int | None = None
    problem: str | None = None


def all_entries(state: StateDir) -> list[SavedEntry]:
    """Return every state file of every format; one that cannot be read is listed with the reason.

    Only a state directory that cannot be listed raises, StateError.
    """
    found = []
    for names in _files(state):
        try:
            if names[0] in (FOLDER, TORN_FOLDER):
                found += _of_spool(state, names)
                continue
            data = state.read_bytes(*names)
            if data is not None:
                found.append(_entry(state, names, data))
        except HwmgrError as error:
            path = state.path(*names)
            reason = error.reason if isinstance(error, RecordTorn) else str(error)
            found.append(_broken(names, path, reason))
    return found


def written_since(state: StateDir, address: str, since: float) -> list[SavedEntry]:
    """Return the companions of a function that were written after a time; older ones stay unread.

    What cannot be read tells nothing.
    """
    found = []
    for names in _files(state):
        if _format_of(names) not in COMPANIONS or modified(state.path(*names)) <= since:
            continue
        try:
            data = state.read_bytes(*names)
            entry = None if data is None else _entry(state, names, data)
        except HwmgrError:
            continue
        if entry is not None and entry.address == address and entry.problem is None:
            found.append(entry)
    return found


def content(state: StateDir, entry: SavedEntry) -> object:
    """Return what a state file holds: JSON data, or its text where it is not JSON."""
    names = entry.id.split("/")
    if entry.format is Format.LEFT_CALL:
        # Its environment and input are not ours to show: there may be a token in them.
        return None
    try:
        return state.read_json(*names)
    except RecordTorn:
        return (state.read_bytes(*names) or b"").decode("utf-8", "replace")


def find(state: StateDir, text: str) -> list[SavedEntry]:
    """Return the entry of that id, else all of that PCI address or container id (or its start)."""
    entries = all_entries(state)
    exact = [e for e in entries if e.id == text]
    if exact or not text:
        return exact
    return [e for e in entries if e.address == text or (e.container_id or "").startswith(text)]


def modified(path: str) -> float:
    """Return when a file was last written, in seconds since the epoch; 0 when it is gone."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _files(state: StateDir) -> Iterator[tuple[str, ...]]:
    for name in state.list("journal"):
        if parse_address(name.removesuffix(".json")) is not None:
            yield "journal", name
    for folder in ("journal-torn", "pci", FOLDER, TORN_FOLDER):
        for name in state.list(folder):
            if name != "vf_lock":
                yield folder, name
    for name in state.list():
        if seedstate.is_folder(name):
            for file in state.list(name):
                yield name, file
        elif name not in _FOLDERS and os.path.isfile(state.path(name)):
            yield (name,)


def _entry(state: StateDir, names: tuple[str, ...], data: bytes) -> SavedEntry:
    path = state.path(*names)
    mtime = modified(path)
    base = SavedEntry(id="/".join(names), format=_format_of(names), path=path, mtime=mtime)
    if names[0] == "journal-torn":
        return replace(base, address=_address(names), problem="set aside: it was damaged")
    if base.format is Format.JOURNAL:
        return _of_record(base, state)
    if base.format is Format.CLAIM:
        return _of_claim(base, names, data)
    container_id, ifname = seedstate.split_name(names[-1])
    value = seedstate.parse(path, data)
    inode = int(names[0]) if len(names) > 1 else None
    base = replace(base, container_id=container_id, ifname=ifname, netns_inode=inode)
    if seedstate.is_bare(value):
        return replace(_of_dpdk(base, value), format=Format.INTEL, mode=Kind.DPDK)
    if len(names) > 1:
        return _of_seed(base, value)
    if sriovcni_state.is_one(value):
        return _of_sriov_cni(base, value)
    return replace(base, problem="it is of no known format")


def _of_spool(state: StateDir, names: tuple[str, ...]) -> list[SavedEntry]:
    path = state.path(*names)
    base = SavedEntry("/".join(names), Format.LEFT_CALL, path, modified(path))
    if names[0] == TORN_FOLDER:
        return [replace(base, problem="set aside: it must not be run")]
    left = Spool(state).read(names[1])
    if left is None:
        return []
    who = replace(base, container_id=left.container_id or None, ifname=left.ifname or None)
    return [replace(who, problem=f"a call of {left.call.program} that was left for later")]


def _of_record(base: SavedEntry, state: StateDir) -> SavedEntry:
    address = _address(tuple(base.id.split("/")))
    record = Journal(state).read(address or "")
    if record is None:
        return replace(base, problem="it is empty")
    return replace(
        base,
        container_id=record.owner.container_id,
        ifname=record.owner.ifname,
        address=record.address,
        pf=record.pf_ifname,
        mode=record.kind,
        netns_inode=record.owner.netns.inode or None,
    )


def _of_claim(base: SavedEntry, names: tuple[str, ...], data: bytes) -> SavedEntry:
    netns = data.decode("utf-8", "replace").strip()
    try:
        return replace(base, address=_address(names), netns_inode=identity(netns).inode)
    except NamespaceError:
        gone = f"stale: {netns!r} is no namespace any more"
        return replace(base, address=_address(names), problem=gone)


def _of_seed(base: SavedEntry, value: dict[str, Any]) -> SavedEntry:
    dpdk = value.get("dpdk")
    entry = _of_dpdk(base, {**(dpdk if isinstance(dpdk, dict) else {}), **value})
    mode = Kind.PF if value.get("pfOnly") is True else Kind.VF
    if value.get("DPDKMode") is True:
        mode = Kind.DPDK
    return replace(entry, mode=mode, pf=value.get("if0") or None)


def _of_dpdk(base: SavedEntry, value: dict[str, Any]) -> SavedEntry:
    address = parse_address(str(value.get("pci_addr") or ""))
    return replace(base, address=address, problem=None if address else "it names no PCI address")


def _of_sriov_cni(base: SavedEntry, value: dict[str, Any]) -> SavedEntry:
    address = parse_address(str(value.get("deviceID") or value.get("DeviceID") or ""))
    saved = value.get("OrigVfState")
    named = isinstance(saved, dict) and bool(saved.get("HostIFName"))
    return replace(
        base,
        address=address,
        pf=value.get("Master") or None,
        mode=Kind.DPDK if value.get("DPDKMode") is True or not named else Kind.VF,
        problem=None if address else "it names no PCI address",
    )


def _broken(names: tuple[str, ...], path: str, reason: str) -> SavedEntry:
    return SavedEntry(
        id="/".join(names),
        format=_format_of(names),
        path=path,
        mtime=modified(path),
        address=_address(names),
        problem=reason,
    )


def _format_of(names: tuple[str, ...]) -> Format:
    if names[0] in ("journal", "journal-torn"):
        return Format.JOURNAL
    if names[0] in (FOLDER, TORN_FOLDER):
        return Format.LEFT_CALL
    if names[0] == "pci":
        return Format.CLAIM
    return Format.SEED if len(names) > 1 else Format.SRIOV_CNI


def _address(names: tuple[str, ...]) -> str | None:
    return parse_address(names[-1].removesuffix(".json"))
