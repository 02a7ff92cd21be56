"""Starts programs and takes the time from start to end, one at a time or many at once."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MS = 1000.0


@dataclass(frozen=True, slots=True)
class Program:
    """One program to run: ``stdin`` is a file, so that feeding it costs nobody anything."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    stdin: str = os.devnull


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: seconds from its start, exit status (negative: the signal)."""

    seconds: float
    status: int


class FailedError(Exception):
    """A program that must succeed did not; the message has what it printed."""


def run(program: Program) -> Ended:
    """Run one program and return how it ended."""
    started = time.perf_counter()
    pid = _spawn(program, os.devnull)
    _, status = os.waitpid(pid, 0)
    return Ended(time.perf_counter() - started, os.waitstatus_to_exitcode(status))


def must(program: Program, output: str) -> float:
    """Run one program that must succeed, its output into a file; return milliseconds."""
    started = time.perf_counter()
    pid = _spawn(program, output)
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - started
    if status:
        with open(output, encoding="utf-8", errors="replace") as file:
            said = file.read()
        code = os.waitstatus_to_exitcode(status)
        raise FailedError(f"{program.argv[0]} ended with {code}: {said[-800:]}")
    return seconds * MS


@dataclass(frozen=True, slots=True)
class Job:
    """Programs that run one after the other; ``seconds`` of a job is from its first to its last."""

    name: str
    programs: tuple[Program, ...]


@dataclass(frozen=True, slots=True)
class Storm:
    """What came of many jobs: each one's seconds, the whole's, and who failed."""

    seconds: tuple[float, ...]
    whole: float
    failed: tuple[str, ...]


def storm(jobs: Sequence[Job], concurrency: int, folder: str) -> Storm:
    """Run jobs, so many at a time; no thread is in the way, this process only waits for children.

    The clock of a job starts when its first program does: waiting for a place is not its own.
    """
    waiting = deque(jobs)
    running: dict[int, tuple[Job, int, float]] = {}
    times: list[float] = []
    failed: list[str] = []
    began = time.perf_counter()
    while waiting or running:
        while waiting and len(running) < concurrency:
            job = waiting.popleft()
            pid = _spawn(job.programs[0], f"{folder}/{job.name}.0")
            running[pid] = (job, 0, time.perf_counter())
        pid, status = os.wait()
        if pid not in running:
            continue
        job, place, started = running.pop(pid)
        place += 1
        if status:
            failed.append(_complaint(job, place - 1, status, folder))
        elif place < len(job.programs):
            pid = _spawn(job.programs[place], f"{folder}/{job.name}.{place}")
            running[pid] = (job, place, started)
            continue
        times.append(time.perf_counter() - started)
    return Storm(tuple(times), time.perf_counter() - began, tuple(failed))


def in_turn(programs: Mapping[str, Program], rounds: int, output: str) -> dict[str, list[float]]:
    """Run each program once a round and return the milliseconds of each, round by round.

    In turn, so that a slower moment of the machine is everybody's.
    """
    found: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, program in programs.items():
            taken = must(program, output)
            if number:  # the first round warms caches up
                found[name].append(taken)
    return found


def end(pid: int, seconds: float = 10.0) -> None:
    """End a child of ours by SIGTERM, by SIGKILL when it does not go."""
    fd = os.pidfd_open(pid)
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(fd, number)
            if _ended(fd, seconds):
                break
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)
    os.waitpid(pid, 0)


def _ended(fd: int, seconds: float) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * MS))


def _spawn(program: Program, output: str) -> int:
    out = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.posix_spawn(
        program.argv[0],
        list(program.argv),
        dict(program.env),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, program.stdin, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, output, out, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )


def _complaint(job: Job, place: int, status: int, folder: str) -> str:
    with open(f"{folder}/{job.name}.{place}", encoding="utf-8", errors="replace") as file:
        said = " ".join(file.read().split())
    return f"{job.name}: status {os.waitstatus_to_exitcode(status)}: {said[-300:]}"


def numbered(count: int, prefix: str) -> Iterator[str]:
    """Return names with numbers."""
    return (f"{prefix}{number}" for number in range(count))
