"""Ends plugins that go on after the multus which started them was killed.

A runtime kills a CNI plugin when its own call is cancelled (kubelet gives it two minutes), and so
may the kernel. A delegate of the dead call then goes on by itself: what it takes after DEL has been
by belongs to nobody.
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING, Protocol

from multus.invoke import LOCK_HELD, STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_END_SECONDS = 5.0


class Orphans(Protocol):
    """Knows the plugins of calls that are no more."""

    def end(self, container_id: str) -> int:
        """End those that work for a container; the caller holds its lock. Returns how many."""


class KernelOrphans:
    """Finds them in /proc by the marks in their environment: container and state directory.

    A daemon that a plugin has started for good is spared: it leads, or is in, a session of its own,
    while plugins stay in the process group that they got (see KernelRunner) in the caller's.
    """

    def __init__(self, env: Mapping[str, str], state_dir: str, proc: str = "/proc") -> None:
        self._env = env
        self._state_dir = state_dir
        self._proc = proc

    def end(self, container_id: str) -> int:
        """See Orphans.end. A multus under another one leaves this to that one."""
        if self._env.get(LOCK_HELD) == container_id:
            return 0
        marks = {
            f"{LOCK_HELD}={container_id}".encode(),
            f"{STATE_DIR}={self._state_dir}".encode(),
        }
        ended = 0
        for pid in self._processes():
            if not self._is_orphan(pid, marks):
                continue
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                # Only now does the number stand for one process: look whether it is that one.
                if self._is_orphan(pid, marks):
                    _end(pidfd)
                    ended += 1
            finally:
                os.close(pidfd)
        return ended

    def _processes(self) -> Iterator[int]:
        own = os.getpid()
        for name in os.listdir(self._proc):
            if name.isdecimal() and int(name) != own:
                yield int(name)

    def _is_orphan(self, pid: int, marks: set[bytes]) -> bool:
        try:
            with open(f"{self._proc}/{pid}/environ", "rb") as file:
                marked = marks.issubset(file.read().split(b"\0"))
            return marked and os.getpgid(pid) != os.getsid(pid)
        except OSError:
            return False


def _end(pidfd: int) -> None:
    """Kill, and wait: it may be in the middle of a system call."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(_END_SECONDS * 1000)
