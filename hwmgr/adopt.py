"""Records made of other tools' saved state, so that what they attached can be given back by us."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hwmgr import claims, seedstate, sriovcni_state
from hwmgr.errors import NamespaceError, RecordTorn
from hwmgr.locate import here, inside, open_owner
from hwmgr.model import USERSPACE_DRIVERS, Kind, Netdev, NetnsIdentity
from hwmgr.netns import identity
from hwmgr.pci import parse_address
from hwmgr.savedstate import Format, all_entries, modified
from hwmgr.store import StateDir

if TYPE_CHECKING:
    from hwmgr.model import Record
    from hwmgr.node import Node

# btime of /proc/stat is computed from the clock, which time servers move a little.
_BOOT_SLACK_SECONDS = 5.0
_IFNAMSIZ = 16


def foreign_records(
    node: Node,
    container_id: str,
    ifname: str,
    netns_path: str | None = None,
    folder: str | None = None,
) -> list[Record]:
    """Return what other tools' state says an attachment holds, as records; [] when nothing does.

    ``note["foreign"]`` of such a record names the format; no journal has it. What the file does not
    say is filled in from what is there. A record of an earlier boot, or of a VF that has a newer
    owner, has no boot id: then its files go and the hardware is left alone. Torn files are passed
    over. ``folder`` is the ``cniDir`` of a configuration that names its own.
    """
    found = []
    for root in dict.fromkeys((folder or node.state.root, node.state.root)):
        state = StateDir(root)
        for names in _candidates(state, container_id, ifname, netns_path):
            try:
                record = _adopt(node, state, names, container_id, ifname, netns_path)
            except RecordTorn as error:
                node.log(str(error))
                continue
            if record is not None:
                found.append(record)
    return found


def boot_time(proc: str = "/proc") -> float:
    """Return when this boot began, in seconds since the epoch; 0 where the kernel does not say."""
    try:
        with open(f"{proc}/stat", encoding="ascii") as file:
            for line in file:
                if line.startswith("btime "):
                    return float(line.split()[1])
    except (OSError, ValueError):
        return 0.0
    return 0.0


def _candidates(
    state: StateDir, container_id: str, ifname: str, netns_path: str | None
) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [(sriovcni_state.name(container_id, ifname),)]
    inode = _inode(netns_path)
    # The caller's name is that of the configuration (if0name) or the runtime's; a file of 2018 has
    # the first, or none at all.
    for if0name in (ifname, ""):
        found += seedstate.candidates(state, container_id, if0name, ifname, inode)
    return list(dict.fromkeys(found))


def _inode(netns_path: str | None) -> int | None:
    try:
        return identity(netns_path).inode if netns_path else None
    except NamespaceError:
        return None


def _adopt(
    node: Node,
    state: StateDir,
    names: tuple[str, ...],
    container_id: str,
    ifname: str,
    netns_path: str | None,
) -> Record | None:
    path = state.path(*names)
    data = state.read_bytes(*names)
    if data is None:
        return None
    mtime = modified(path)
    before_boot = mtime < boot_time(node.proc) - _BOOT_SLACK_SECONDS
    boot_id = "" if before_boot else node.boot_id
    value = seedstate.parse(path, data)
    if len(names) == 1 and not seedstate.is_bare(value):
        record = sriovcni_state.to_record(
            path, data, node.sysfs, container_id=container_id, ifname=ifname, mtime=mtime,
            boot_id=boot_id, netns=_claimed(node, value, netns_path),
        )  # fmt: skip
        source = Format.SRIOV_CNI
    else:
        record = seedstate.to_record(
            path, data, node.sysfs, container_id=container_id, mtime=mtime, boot_id=boot_id
        )
        source = Format.SEED if len(names) > 1 else Format.INTEL
        dpdk_name = record.owner.ifname if record and record.kind is Kind.DPDK else None
        if dpdk_name not in (None, ifname) and not names[-1].startswith(f"{container_id}-{ifname}"):
            return None
    if record is None:
        return None
    owner = replace(record.owner, ifname=ifname)
    if source is not Format.SRIOV_CNI:
        owner = replace(owner, netns=_at(owner.netns, netns_path))
    record = replace(record, owner=owner, note={"foreign": str(source)})
    if _given_on(node, state, record, names):
        return replace(record, boot_id="")
    return _completed(node, record, netns_path) if record.boot_id else record


def _claimed(node: Node, value: dict[str, Any], netns_path: str | None) -> NetnsIdentity | None:
    """Return the namespace in the claim file, or the caller's where there is none."""
    address = str(value.get("deviceID") or value.get("DeviceID") or "")
    claimed = claims.claimed_by(node.state, address) if parse_address(address) else None
    path = claimed or netns_path
    if not path:
        return None
    try:
        return identity(path)
    except NamespaceError:
        return NetnsIdentity(path, 0, 0)


def _at(netns: NetnsIdentity, netns_path: str | None) -> NetnsIdentity:
    """Return the namespace of a 2018 folder with a path that leads to it, if the caller has one."""
    if not netns_path:
        return netns
    try:
        there = identity(netns_path)
    except NamespaceError:
        return replace(netns, path=netns_path)
    # Outside a namespace's folder (0.2) nothing but the caller says which namespace it was.
    return there if netns.inode in (0, there.inode) else netns


def _given_on(node: Node, state: StateDir, record: Record, names: tuple[str, ...]) -> bool:
    """Tell whether somebody got the function after this file was written: it is not ours to touch.

    sriov-cni forgets nothing on a failed DEL but its state file's meaning: the next ADD of that VF
    writes another file and claims it anew.
    """
    if node.journal.read(record.address) is not None:
        return True
    own = "/".join(names)
    for entry in all_entries(state):
        newer = entry.mtime > record.owner.since and entry.format is not Format.CLAIM
        if newer and entry.id != own and entry.address == record.address:
            same = (entry.container_id, entry.ifname) == (
                record.owner.container_id,
                record.owner.ifname,
            )
            if not same and entry.problem is None:
                return True
    return False


def _completed(node: Node, record: Record, netns_path: str | None) -> Record:
    """Fill in of the netdevs what was not saved, from the netdevs as they are now."""
    if record.kind is Kind.DPDK or record.before.driver in (None, *USERSPACE_DRIVERS):
        return record
    found = here(node, record.address)
    fd = open_owner(node, record.owner.netns, netns_path)
    if fd is not None:
        try:
            found = found or inside(node, fd, record.address) or _named(node, fd, record)
        finally:
            os.close(fd)
    saved = record.before.netdevs
    count = max(len(found), len(saved), 1)
    netdevs = tuple(
        _merged(
            record,
            saved[position] if position < len(saved) else None,
            found[position] if position < len(found) else None,
            position,
        )
        for position in range(count)
    )
    return replace(record, before=replace(record.before, netdevs=netdevs))


def _named(node: Node, fd: int, record: Record) -> tuple[Netdev, ...]:
    """Return the netdev of the attachment's name: before Linux 5.14 none tells its PCI parent."""
    with node.netlink.links(fd) as links:
        one = links.find(record.owner.ifname)
    return (one,) if one is not None and one.parent is None else ()


def _merged(record: Record, saved: Netdev | None, now: Netdev | None, position: int) -> Netdev:
    if saved is not None:
        if saved.mac and saved.mtu:
            return saved
        return replace(
            saved,
            mac=saved.mac or (now.mac if now else ""),
            mtu=saved.mtu or (now.mtu if now else 0),
        )
    name = _host_name(record, position)
    if now is None:
        return Netdev(index=0, name=name, mac="", mtu=0, up=False)
    return Netdev(index=0, name=name, mac=now.mac, mtu=now.mtu, up=False)


def _host_name(record: Record, position: int) -> str:
    """Make up the name that udev gives a VF (``enp4s0f1v2``): the 2018 plugin saved none.

    A PF's is that of the configuration.
    """
    if record.kind is Kind.PF and record.pf_ifname:
        return record.pf_ifname + ("d1" if position else "")
    name = f"{record.pf_ifname or 'vf'}v{record.index or 0}" + (f"d{position}" if position else "")
    return (
        name
        if len(name) < _IFNAMSIZ
        else f"vf{record.address[-7:].replace(':', '').replace('.', '')}"
    )
