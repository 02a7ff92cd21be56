"""Who uses what, by /proc: namespaces that live, device files held open, netdevs with routes."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from hwmgr.errors import NamespaceError
from hwmgr.holders import mounted_namespaces
from hwmgr.netns import identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.model import NetnsIdentity

_RTF_UP = 0x1
_RTF_REJECT = 0x200
# Every interface that is up has these by itself: link-local and multicast.
_AUTOMATIC_V6 = ("fe80", "ff00")


class Namespaces:
    """Tells which recorded namespaces live; all processes are looked through at most once."""

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._held: frozenset[tuple[int, int]] | None = None

    def alive(self, netns: NetnsIdentity) -> bool:
        """Tell whether the namespace still is, by its path, a process or a mount."""
        if netns.path:
            try:
                if identity(netns.path).same_namespace(netns):
                    return True
            except NamespaceError:
                pass
        if self._held is None:
            self._held = frozenset(self._all())
        return (netns.dev, netns.inode) in self._held

    def _all(self) -> Iterator[tuple[int, int]]:
        device = 0
        for pid in _pids(self._proc):
            try:
                status = os.stat(f"{self._proc}/{pid}/ns/net")
            except OSError:
                continue
            device = status.st_dev
            yield status.st_dev, status.st_ino
        for inode, _path in mounted_namespaces(f"{self._proc}/self/mountinfo"):
            # nsfs has one device number for all namespaces.
            yield device, inode


class OpenFiles:
    """Tells which process has a device file open; all processes are looked through at most once.

    A virtual machine in a container opens the node of its own /dev, which shows here without the
    way to it (``/vfio/42``, d_path(9)), so device numbers are compared, and paths of what is no
    device.
    """

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._holders: dict[str | int, str] | None = None

    def holder(self, *files: str) -> str | None:
        """Return ``process <pid> (<name>)`` for one that has any of the files open, else None."""
        if not files:
            return None
        if self._holders is None:
            self._holders = dict(self._all())
        keys = [key for file in files for key in (file, _device_number(file)) if key is not None]
        pid = next((self._holders[key] for key in keys if key in self._holders), None)
        return None if pid is None else f"process {pid} ({_name(self._proc, pid)})"

    def _all(self) -> Iterator[tuple[str | int, str]]:
        for pid in _pids(self._proc):
            folder = f"{self._proc}/{pid}/fd"
            try:
                descriptors = os.listdir(folder)
            except OSError:
                continue
            for descriptor in descriptors:
                path = f"{folder}/{descriptor}"
                try:
                    target = os.readlink(path)
                except OSError:
                    continue
                # Only such files are looked at: stat(2) of a file on a dead server hangs.
                if "/vfio" in target or "/uio" in target:
                    yield target, pid
                    number = _device_number(path)
                    if number is not None:
                        yield number, pid


def _device_number(path: str) -> int | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_rdev if stat.S_ISCHR(status.st_mode) else None


def routed_netdevs(proc: str) -> frozenset[str]:
    """Return the netdevs of our namespace that a route of the main table leads through."""
    found = set()
    for fields in _rows(f"{proc}/net/route"):
        if len(fields) > 3 and fields[3] != "Flags" and int(fields[3], 16) & _RTF_UP:
            found.add(fields[0])
    for fields in _rows(f"{proc}/net/ipv6_route"):
        if len(fields) < 10 or fields[0].startswith(_AUTOMATIC_V6):
            continue
        if not int(fields[8], 16) & _RTF_REJECT:
            found.add(fields[9])
    return frozenset(found - {"lo"})


def default_netdevs(proc: str) -> frozenset[str]:
    """Return the netdevs of our namespace that a default route of the main table leads through."""
    found = set()
    for fields in _rows(f"{proc}/net/route"):
        if len(fields) > 7 and fields[3] != "Flags" and int(fields[3], 16) & _RTF_UP:
            destination, mask = fields[1], fields[7]
            if not int(destination, 16) and not int(mask, 16):
                found.add(fields[0])
    for fields in _rows(f"{proc}/net/ipv6_route"):
        if len(fields) < 10 or int(fields[0], 16) or int(fields[1], 16):
            continue
        if not int(fields[8], 16) & _RTF_REJECT:
            found.add(fields[9])
    return frozenset(found - {"lo"})


def _rows(path: str) -> list[list[str]]:
    try:
        # A name has any bytes but those that bytes.split() splits at (net/core/dev.c).
        with open(path, "rb") as file:
            return [[os.fsdecode(field) for field in line.split()] for line in file]
    except OSError:
        return []


def _pids(proc: str) -> list[str]:
    try:
        return [name for name in os.listdir(proc) if name.isdigit()]
    except OSError:
        return []


def _name(proc: str, pid: str) -> str:
    try:
        with open(f"{proc}/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "gone"
