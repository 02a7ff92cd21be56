"""The three streams of a program: its input written, both outputs read, until a deadline."""

from __future__ import annotations

import os
import select
import time

LONGEST_OUTPUT = 16 << 20
FIRST_FREE = 3
_READ_BYTES = 1 << 16


class Pipes:
    """The three streams of one program: our ends, and its ends until it has them."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def open(self) -> None:
        """Make the pipes. Raises OSError; then those that were made are to be closed."""
        self.child_in, self._to = self._pipe()
        self._out, self.child_out = self._pipe()
        self._err, self.child_err = self._pipe()
        self._read = {self._out: bytearray(), self._err: bytearray()}

    def close(self, *fds: int) -> None:
        """Close some of them that are open still; without arguments all."""
        for fd in fds or tuple(self._open):
            if fd in self._open:
                self._open.discard(fd)
                os.close(fd)

    def exchange(self, stdin: bytes, deadline: float) -> bool:
        """Write the input and read both outputs to their ends; False at the deadline."""
        left = memoryview(stdin)
        poll = select.poll()
        for fd in (self._out, self._err):
            poll.register(fd, select.POLLIN)
        # What fits into the pipe is written at once: the program is not waited for.
        os.set_blocking(self._to, False)
        left = _written(self._to, left)
        if left:
            poll.register(self._to, select.POLLOUT)
        else:
            self.close(self._to)
        waiting = {self._out, self._err}
        while waiting:
            ready = poll.poll(milliseconds(deadline))
            if not ready:
                return False
            for fd, _events in ready:
                if fd == self._to:
                    left = _written(fd, left)
                    done = not left
                else:
                    done = self._drained(fd)
                if done:
                    poll.unregister(fd)
                    self.close(fd)
                    waiting.discard(fd)
        return True

    def output(self) -> tuple[bytes, bytes]:
        """Return what the program printed, standard output first."""
        return bytes(self._read[self._out]), bytes(self._read[self._err])

    def _drained(self, fd: int) -> bool:
        """Read once, which does not wait after poll(2); tell whether it was the end."""
        data = os.read(fd, _READ_BYTES)
        kept = self._read[fd]
        kept += data[: LONGEST_OUTPUT - len(kept)]
        return not data

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._open.update(ends)
        reader, writer = (self._above_the_streams(fd) for fd in ends)
        return reader, writer

    def _above_the_streams(self, fd: int) -> int:
        """Have a descriptor where giving the program its streams does not overwrite it."""
        if fd < FIRST_FREE:  # we were started without some of ours
            import fcntl

            low, fd = fd, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
            self._open.add(fd)
            self.close(low)
        return fd


def milliseconds(deadline: float) -> float:
    """Return what is left until a deadline on the monotonic clock, for poll(2)."""
    return max(deadline - time.monotonic(), 0.001) * 1000


def _written(fd: int, data: memoryview) -> memoryview:
    """Write what the pipe takes and return the rest; nothing is left where nobody reads."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BlockingIOError:
        return data
    except BrokenPipeError:
        return data[:0]
    return data
