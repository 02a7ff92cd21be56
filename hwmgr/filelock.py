"""flock(2) on files, with a deadline: a killed holder frees them. Nothing else."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hwmgr.errors import LockTimeout, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK_POLL_SECONDS = 0.02


@contextmanager
def locked(path: str, *, timeout: float, remove: bool = False) -> Iterator[None]:
    """Hold an exclusive flock(2) on a file for the block; wait at most ``timeout`` seconds.

    flock belongs to the open file, so a killed holder frees it, and two threads of one process
    exclude each other too. With ``remove`` the holder unlinks the file at the end: for names
    that never come back, where files would pile up, and where every party locks by this method
    (a lock of a file that is not the path's any more is taken again). Raises LockTimeout with
    the holder's process id.
    """
    deadline = time.monotonic() + timeout
    while True:
        fd = _open(path)
        try:
            _flock(fd, path, deadline, timeout)
            if _is_at(fd, path):
                break
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    try:
        yield
    finally:
        if remove:
            with suppress(FileNotFoundError):
                os.unlink(path)
        os.close(fd)


def is_locked(path: str) -> bool:
    """Tell whether somebody holds a lock now; makes no file and keeps no reader out.

    A shared lock is taken for a moment: two who look do not take each other for a holder.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno == errno.EWOULDBLOCK
    finally:
        os.close(fd)
    return False


def _open(path: str) -> int:
    # The folder may be removed between its making and this: then it is an error like any other.
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(path, error.errno or 0) from error


def _is_at(fd: int, path: str) -> bool:
    """Tell whether the path still leads to the open file: its last holder may have unlinked it."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _flock(fd: int, path: str, deadline: float, timeout: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LockTimeout(path, timeout, _holder(fd)) from None
            # flock has no deadline of its own and an alarm would be process-wide, so look again.
            time.sleep(_LOCK_POLL_SECONDS)
        else:
            return


def _holder(fd: int) -> int | None:
    """Return the pid that /proc/locks gives for our file, None when it does not tell."""
    inode = os.fstat(fd).st_ino
    try:
        with open("/proc/locks", encoding="ascii") as file:
            for line in file:
                fields = line.split()
                if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                    return int(fields[4])
    except (OSError, ValueError):
        return None
    return None
