"""Do what may block in the kernel in a child process, so that our own can say so and go on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LARGEST_STATUS = 255


def within(seconds: float, work: Callable[[], int]) -> int | None:
    """Return what ``work`` returns (0 or an errno), None when it is not done after ``seconds``.

    A thread would not do: one that sleeps uninterruptibly in the kernel keeps its whole process
    from ending. The child is killed and left behind; it ends when the kernel lets go of it. What
    ``work`` changes in memory is lost with the child. Locks that we hold stay held by a child that
    hangs: whoever came next would hang as well.
    """
    import select
    import signal

    pid = os.fork()
    if pid == 0:
        status = _LARGEST_STATUS
        try:
            _leave_the_streams()
            status = min(work(), _LARGEST_STATUS)
        finally:
            os._exit(status)
    done = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(done, select.POLLIN)
        if not poll.poll(seconds * 1000):
            os.kill(pid, signal.SIGKILL)
            return None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(done)


def _leave_the_streams() -> None:
    """Let go of what we print to: whoever reads it waits until nobody has it open any more."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
