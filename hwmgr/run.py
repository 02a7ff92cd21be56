"""The only module that starts programs: an argument vector, a built environment, a time limit."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hwmgr.errors import RunError, RunTimeout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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
    """Runs real programs, each in a process group of its own."""

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str], stdin: bytes, timeout: float
    ) -> Completed:
        """See Runner.run. At the limit the whole group is killed: a plugin's IPAM child too."""
        import subprocess

        try:
            child = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(env),
                process_group=0,
            )
        except (OSError, ValueError) as error:
            errno = error.errno if isinstance(error, OSError) and error.errno else 22
            raise RunError(argv[0], errno) from error
        with child:
            try:
                stdout, stderr = child.communicate(stdin, timeout=max(timeout, 0.001))
            except subprocess.TimeoutExpired:
                _kill_group(child.pid)
                child.communicate()
                raise RunTimeout(argv[0], timeout) from None
            except BaseException:
                _kill_group(child.pid)
                raise
        return Completed(child.returncode, stdout, stderr)


def _kill_group(pid: int) -> None:
    import signal

    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
