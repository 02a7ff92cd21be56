"""Real network namespaces without a name: each lives as long as its descriptor is open."""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import os
import threading

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_NUMBERS = itertools.count()


class Namespace:
    """An empty namespace; ``path`` leads to it from this process and from others of this user."""

    def __init__(self) -> None:
        made = _new_namespace()
        # Far from the numbers that open(2) gives out: a dead namespace's path must stay dead.
        self.fd = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, 200 + next(_NUMBERS) % 700)
        os.close(made)
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"

    @property
    def key(self) -> tuple[int, int]:
        """Return its device and inode."""
        status = os.fstat(self.fd)
        return status.st_dev, status.st_ino

    def close(self) -> None:
        """Let go of it: with nobody else in it, it dies and its path leads nowhere."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _new_namespace() -> int:
    """Make a namespace in a thread of its own; without privileges in a child's user namespace."""
    found: list[int] = []
    libc = ctypes.CDLL(None, use_errno=True)

    def make() -> None:
        if libc.unshare(_CLONE_NEWNET) == 0:
            found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return found[0] if found else _unprivileged(libc)


def _unprivileged(libc: ctypes.CDLL) -> int:
    ready, child_ready = os.pipe()
    child_end, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        os.write(child_ready, b"-" if code else b"+")
        os.read(child_end, 1)
        os._exit(0)
    answer = os.read(ready, 1)
    try:
        if answer != b"+":
            raise PermissionError("neither CAP_SYS_ADMIN nor user namespaces: no test namespaces")
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.write(end, b".")
        os.waitpid(pid, 0)
        for fd in (ready, child_ready, child_end, end):
            os.close(fd)
