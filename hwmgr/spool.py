"""Calls that were left for later: one file each in ``<state-dir>/spool``, written by a shim.

A file holds what hwmgr.frames.encode_call makes. Its name is
``<container>.<interface>.<nanoseconds since the epoch, 19 digits>.<pid>``, so names tell the order
and whom a call is about without being opened. What is in them runs as root, so a file is believed
only if it is a plain file of root or of our own user that nobody else could write, and if its name
is that of its content; everything else goes to ``spool-torn/`` and is never run.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.errors import RecordTorn, StateError

if TYPE_CHECKING:
    from hwmgr.frames import Call
    from hwmgr.store import StateDir

FOLDER = "spool"
TORN_FOLDER = "spool-torn"
_CONTAINER, _IFNAME = "CNI_CONTAINERID", "CNI_IFNAME"


@dataclass(frozen=True, slots=True)
class LeftCall:
    """A call that waits; ``name`` is its file's, ``since`` in seconds since the epoch."""

    name: str
    since: float
    call: Call

    @property
    def container_id(self) -> str:
        """The container that it is about."""
        return self.call.env.get(_CONTAINER, "")

    @property
    def ifname(self) -> str:
        """The container's interface that it is about."""
        return self.call.env.get(_IFNAME, "")

    def same_subject(self, other: LeftCall) -> bool:
        """Tell whether two calls are of one program, for one interface of one container."""
        mine = (self.call.program, self.container_id, self.ifname)
        return mine == (other.call.program, other.container_id, other.ifname)


class Spool:
    """The calls that were left on this node. Any number of processes may work them off."""

    def __init__(self, state: StateDir) -> None:
        self._state = state

    def path(self, name: str) -> str:
        """Return where a call is, or would be."""
        return self._state.path(FOLDER, name)

    def names(self, container_id: str | None = None) -> list[str]:
        """Return the files' names, oldest call first; of one container those that may be its own.

        Costs one listing; nothing is opened.
        """
        found = self._state.list(FOLDER)
        if container_id is not None:
            found = [name for name in found if name.startswith(container_id + ".")]
        return sorted(found, key=lambda name: (_nanoseconds(name) or 0, name))

    def count(self) -> int:
        """Return how many calls are left."""
        return len(self._state.list(FOLDER))

    def has(self, name: str) -> bool:
        """Tell whether a call is still left."""
        return os.path.lexists(self._state.path(FOLDER, name))

    def untouched(self, name: str, now: float) -> float:
        """Return for how many seconds nobody has left or tried a call; 0 when it is gone."""
        try:
            return now - os.lstat(self._state.path(FOLDER, name)).st_mtime
        except OSError:
            return 0.0

    def read(self, name: str) -> LeftCall | None:
        """Return a call, None when it is not left any more.

        Raises RecordTorn for a file that must not be run, StateError when it cannot be read.
        """
        # There is next to never anything to read, and every call of a runtime pays for imports.
        from hwmgr import frames

        path = self._state.path(FOLDER, name)
        longest = frames.HEADER_BYTES + frames.LONGEST_ENVIRONMENT + frames.LONGEST_INPUT
        data = _read(path, longest)
        if data is None:
            return None
        try:
            call = frames.decode_call(data)
        except frames.FrameError as error:
            raise RecordTorn(path, str(error)) from error
        nanoseconds = _nanoseconds(name)
        if nanoseconds is None:
            raise RecordTorn(path, "its name is not that of a call")
        found = LeftCall(name, nanoseconds / 1e9, call)
        if name.rsplit(".", 2)[0] != f"{found.container_id}.{found.ifname}":
            raise RecordTorn(path, "its name is not that of the call in it")
        return found

    def twins(self, call: LeftCall) -> list[str]:
        """Return the files of the same program, container and interface, itself among them."""
        subject = call.name.rsplit(".", 2)[0]
        found = []
        for name in self._state.list(FOLDER):
            if name.rsplit(".", 2)[0] == subject:
                try:
                    other = self.read(name)
                except RecordTorn:
                    continue
                if other is not None and other.same_subject(call):
                    found.append(name)
        return found

    def remove(self, name: str) -> None:
        """Strike a call that was worked off, durably; one that is gone is fine."""
        self._state.remove(FOLDER, name)

    def tried(self, name: str) -> None:
        """Note that a call was tried just now, in vain."""
        try:
            os.utime(self._state.path(FOLDER, name), follow_symlinks=False)
        except OSError:
            return  # it only keeps others from trying again at once

    def set_aside(self, name: str) -> None:
        """Move a file out of the way, for the administrator to see. Raises StateError."""
        self._state.move((FOLDER, name), (TORN_FOLDER, name))


def _nanoseconds(name: str) -> int | None:
    """Return the time in a file's name, None when it is not the name of a call."""
    parts = name.rsplit(".", 2)
    if len(parts) != 3 or len(parts[1]) != 19:
        return None
    digits = parts[1] + parts[2]
    return int(parts[1]) if digits.isascii() and digits.isdigit() else None


def _read(path: str, longest: int) -> bytes | None:
    # O_NONBLOCK: opening somebody's FIFO would wait for a writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if os.path.islink(path):
            raise RecordTorn(path, "it is a symbolic link") from error
        raise StateError(path, error.errno or 0) from error
    try:
        fault = _fault(os.fstat(fd), longest)
        if fault:
            raise RecordTorn(path, fault)
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(longest + 1)
    except OSError as error:
        raise StateError(path, error.errno or 0) from error
    finally:
        os.close(fd)


def _fault(status: os.stat_result, longest: int) -> str | None:
    """Say why a file may not be believed, None when it may."""
    if not stat.S_ISREG(status.st_mode):
        return "it is no plain file"
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others may write it"
    if status.st_size > longest:
        return f"{status.st_size} bytes are too many for a call"
    return None
