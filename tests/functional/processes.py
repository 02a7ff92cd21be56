"""Work in processes of its own, forked from the test: to be killed, or to run at once."""

from __future__ import annotations

import os
import signal
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class SuicideAt:
    """A checkpoint function that sends SIGKILL to its own process at the n-th checkpoint."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self, _name: str) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def start(work: Callable[[], str]) -> tuple[int, int]:
    """Fork a process that does ``work``; return its id and the pipe that gets its answer."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    code = 1
    try:
        os.close(reader)
        os.write(writer, work().encode())
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the parent reports it
        os.write(writer, traceback.format_exc().encode()[-60_000:])
    finally:
        os._exit(code)


def finish(pid: int, reader: int) -> tuple[int, str]:
    """Wait for a process; return its status (negative: the signal that ended it) and answer."""
    answer = b""
    while part := os.read(reader, 65536):
        answer += part
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), answer.decode()


def together(works: Sequence[Callable[[], str]]) -> list[str]:
    """Run all at once and return their answers; AssertionError when one of them fails."""
    started = [start(work) for work in works]
    ended = [finish(*one) for one in started]
    failed = [answer for code, answer in ended if code]
    if failed:
        raise AssertionError(f"{len(failed)} of {len(works)} failed, the first:\n{failed[0]}")
    return [answer for _, answer in ended]
