"""What keeps network namespaces alive: processes, open descriptors and mounts, each by name."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NamespaceKey = tuple[int, int]
"""Device and inode of a namespace's nsfs file."""

# The first namespaces have fixed inodes (include/linux/proc_ns.h, PROC_PID_INIT_INO).
_INITIAL_PIDS = 0xEFFFFFFC
_CAP_SYS_PTRACE = 19  # include/uapi/linux/capability.h


# The kernel writes blanks and backslashes so, all else as it is (mangle_path(), fs/seq_file.c).
_ESCAPED = re.compile(rb"\\([0-3][0-7]{2})")
_NAMESPACE = re.compile(rb"net:\[(\d+)\]")


class HeldBy(StrEnum):
    """What kind of thing keeps a namespace alive."""

    MOUNT = "mount"
    PROCESS = "process"
    DESCRIPTOR = "descriptor"


@dataclass(frozen=True, slots=True)
class Holder:
    """One thing that keeps a namespace alive; ``path`` leads into it, ``text`` names the thing."""

    kind: HeldBy
    path: str
    text: str


def namespace_holders(proc: str) -> dict[NamespaceKey, tuple[Holder, ...]]:
    """Return what holds each network namespace of the node: mounts, processes, then descriptors.

    Mounts of other mount namespaces are reached through their processes' root. Processes that we
    may not look into are passed over.
    """
    found: dict[NamespaceKey, dict[Holder, None]] = {}
    device = _device(proc)
    for key, holder in (*_mounts(proc, device), *_processes(proc), *_descriptors(proc)):
        found.setdefault(key, {})[holder] = None
    order = tuple(HeldBy)
    return {
        key: tuple(sorted(holders, key=lambda h: order.index(h.kind)))
        for key, holders in found.items()
    }


class Holders:
    """What holds each network namespace; everything is looked through at most once."""

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._found: dict[NamespaceKey, tuple[Holder, ...]] | None = None

    def all(self) -> dict[NamespaceKey, tuple[Holder, ...]]:
        """Return the holders of every namespace, see namespace_holders."""
        if self._found is None:
            self._found = namespace_holders(self._proc)
        return self._found

    def of(self, key: NamespaceKey) -> Iterator[Holder]:
        """Yield the holders of one namespace; nobody is looked for before the first is wanted."""
        yield from self.all().get(key, ())


def sees_all_processes(proc: str) -> bool:
    """Tell whether we may look into every process of the host.

    That takes the first process namespace, and CAP_SYS_PTRACE (proc(5), /proc/pid/fd).
    """
    try:
        if os.stat(f"{proc}/self/ns/pid").st_ino != _INITIAL_PIDS:
            return False
        with open(f"{proc}/self/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("CapEff:"):
                    return bool(int(line.split()[1], 16) >> _CAP_SYS_PTRACE & 1)
    except (OSError, ValueError, IndexError):
        return False
    return False


def process_name(proc: str, pid: str) -> str:
    """Return a process's name (its comm), ``gone`` when it has ended."""
    try:
        with open(f"{proc}/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "gone"


def _device(proc: str) -> int:
    """Return nsfs' device number: it has one for all namespaces."""
    try:
        return os.stat(f"{proc}/self/ns/net").st_dev
    except OSError:
        return 0


def _pids(proc: str) -> list[str]:
    try:
        return sorted((name for name in os.listdir(proc) if name.isdigit()), key=int)
    except OSError:
        return []


def _processes(proc: str) -> Iterator[tuple[NamespaceKey, Holder]]:
    for pid in _pids(proc):
        path = f"{proc}/{pid}/ns/net"
        try:
            status = os.stat(path)
        except OSError:
            continue
        text = f"process {pid} ({process_name(proc, pid)})"
        yield (status.st_dev, status.st_ino), Holder(HeldBy.PROCESS, path, text)


def _descriptors(proc: str) -> Iterator[tuple[NamespaceKey, Holder]]:
    for pid in _pids(proc):
        folder = f"{proc}/{pid}/fd"
        try:
            numbers = sorted(os.listdir(folder))
        except OSError:
            continue
        for number in numbers:
            path = f"{folder}/{number}"
            try:
                # A namespace whose bind mount is gone shows as "/"; only such files are looked at:
                # stat(2) of a file on a dead server would not return.
                target = os.readlink(path)
                if target != "/" and not target.startswith("net:["):
                    continue
                status = os.stat(path)
            except OSError:
                continue
            text = f"descriptor {number} of process {pid} ({process_name(proc, pid)})"
            yield (status.st_dev, status.st_ino), Holder(HeldBy.DESCRIPTOR, path, text)


def _mounts(proc: str, device: int) -> Iterator[tuple[NamespaceKey, Holder]]:
    seen = set()
    for pid in ("self", *_pids(proc)):
        try:
            space = os.stat(f"{proc}/{pid}/ns/mnt").st_ino
        except OSError:
            # Without this file (a test's proc) only our own mounts are known.
            space = 0
        if space in seen:
            continue
        seen.add(space)
        root = "" if pid == "self" else f"{proc}/{pid}/root"
        for inode, path in mounted_namespaces(f"{proc}/{pid}/mountinfo"):
            text = f"mount {path}" + (f" of process {pid}" if root else "")
            yield (device, inode), Holder(HeldBy.MOUNT, root + path, text)


def mounted_namespaces(mountinfo: str) -> Iterator[tuple[int, str]]:
    """Yield inode and mount point of each network namespace in a mountinfo file (proc(5)).

    Anybody may mount on a path with a carriage return or a line separator in it (fusermount), which
    ends no line: the kernel's own newlines do.
    """
    try:
        with open(mountinfo, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return
    for line in lines:
        fields = line.split(b" ")
        found = _NAMESPACE.fullmatch(fields[3]) if len(fields) > 4 else None
        if found is not None:
            path = _ESCAPED.sub(lambda m: bytes((int(m[1], 8),)), fields[4])
            yield int(found[1]), os.fsdecode(path)
