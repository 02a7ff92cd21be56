"""The only module that starts programs: an argument vector, a built environment, a time limit."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hwmgr.errors import RunError, RunTimeout
from hwmgr.pipes import FIRST_FREE, Pipes, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_END_SECONDS = 5.0
# A program whose end nobody can tell: SIGCHLD is ignored, and the kernel keeps no account.
_UNKNOWN = 255


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended and what it printed."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Runner(Protocol):
    """Starts one program and waits for it."""

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str], stdin: bytes, timeout: float
    ) -> Completed:
        """Run ``argv`` (its first item a path) for at most ``timeout`` seconds.

        Raises RunError when it cannot be started, RunTimeout when it was ended at the limit.
        """


class KernelRunner:
    """Runs real programs, each in a process group of its own.

    By posix_spawn(3), which shares memory until the program runs, so that a large process starts
    one as quickly as a small one; and by a descriptor for the process, so that its end is an event
    and nobody has to look again and again. Any number of threads may run programs at once.

    ``kill`` sends a signal to a process group; what it has sent SIGKILL has ``end_seconds`` to end.
    """

    def __init__(
        self, kill: Callable[[int, int], None] = os.killpg, end_seconds: float = _END_SECONDS
    ) -> None:
        self._kill = kill
        self._end_seconds = end_seconds

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str], stdin: bytes, timeout: float
    ) -> Completed:
        """See Runner.run. At the limit the whole group is killed: a plugin's IPAM child too.

        It is over when the program has ended and nobody has its output open any more. Of either
        output no more than ``LONGEST_OUTPUT`` bytes are kept.
        """
        deadline, held = time.monotonic() + timeout, None
        with _pipes(argv[0]) as pipes:
            pid = _spawn(argv, env, pipes)
            try:
                if pipes.exchange(stdin, deadline):
                    returncode = _status(pid, deadline)
                    if returncode is not None:
                        return Completed(returncode, *pipes.output())
            except BaseException:
                self._end_group(pid)
                raise
            if not self._end_group(pid):
                held = pid
        raise RunTimeout(argv[0], timeout, held)

    def _end_group(self, pid: int) -> bool:
        """Kill a program with all that it started in its group; tell whether it has ended.

        One that sleeps uninterruptibly in the kernel ends when that lets go of it: it does nothing
        more before, and a thread waits for it, so that no account of it is kept for ever.
        """
        try:
            self._kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return True
        # Without a descriptor to wait with (EMFILE) it is left to the thread as well.
        with suppress(OSError):
            if _status(pid, time.monotonic() + self._end_seconds) is not None:
                return True
        import threading

        threading.Thread(target=_wait_for_good, args=(pid,), name="held", daemon=True).start()
        return False


@contextmanager
def _pipes(program: str) -> Iterator[Pipes]:
    """Have the streams of a program for the block; raises RunError where there are too many."""
    pipes = Pipes()
    try:
        try:
            pipes.open()
        except OSError as error:
            raise RunError(program, error.errno or 0) from error
        yield pipes
    finally:
        pipes.close()


def _spawn(argv: Sequence[str], env: Mapping[str, str], pipes: Pipes) -> int:
    """Start a program and return its process id; raises RunError."""
    try:
        actions = [
            *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()),
            (os.POSIX_SPAWN_DUP2, pipes.child_in, 0),
            (os.POSIX_SPAWN_DUP2, pipes.child_out, 1),
            (os.POSIX_SPAWN_DUP2, pipes.child_err, 2),
        ]
        pid = os.posix_spawn(
            argv[0],
            list(argv),
            env,
            file_actions=actions,
            setpgroup=0,
            setsigmask=(),
            # The interpreter ignores them for itself; a plugin expects to be ended by them.
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )
    except (OSError, ValueError) as error:
        errno = error.errno if isinstance(error, OSError) and error.errno else 22
        raise RunError(argv[0], errno) from error
    pipes.close(pipes.child_in, pipes.child_out, pipes.child_err)
    return pid


def _inheritable() -> list[int]:
    """Return descriptors that a program would get from us without being meant to.

    Python's own are not inherited, but a C library's may be, and those that we were started with.
    """
    found = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd >= FIRST_FREE and os.get_inheritable(fd):
                found.append(fd)
        except OSError:
            continue  # closed meanwhile
    return found


def _status(pid: int, deadline: float) -> int | None:
    """Return how a program ended, by a signal as negative number; None at the deadline."""
    try:
        ended = os.waitpid(pid, os.WNOHANG)
        if not ended[0]:
            if not _wait(pid, deadline):
                return None
            ended = os.waitpid(pid, 0)
    except (ChildProcessError, ProcessLookupError):
        return _UNKNOWN
    return os.waitstatus_to_exitcode(ended[1])


def _wait(pid: int, deadline: float) -> bool:
    """Wait for the end of a process; tell whether it came before the deadline."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(milliseconds(deadline)))
    finally:
        os.close(pidfd)


def _wait_for_good(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
