"""The process's standard streams for command lines: also full, closed, short of letters."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from hwmgr.errors import HwmgrError

if TYPE_CHECKING:
    from collections.abc import Iterator


class OutputError(HwmgrError):
    """What was to be printed cannot be written to standard output."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"standard output cannot be written: {reason}")


@contextmanager
def writing() -> Iterator[None]:
    """Tell in the block's errors that it was standard output; BrokenPipeError stays what it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"{os.strerror(error.errno or 0)}; what it shows is not all") from error


def standard_streams() -> tuple[TextIO, TextIO]:
    """Return standard output and standard error of this process.

    The interpreter has None for one that was closed when it started: such an output is a closed
    stream here, such an error stream goes nowhere.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name may have characters that this terminal lacks; it is shown all the same.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return sys.stdout or _closed(), sys.stderr or open(os.devnull, "w", encoding="utf-8")


def discard(stream: TextIO) -> None:
    """Let what is still in a stream's buffer go nowhere: the interpreter flushes on its way out,
    and would complain."""
    with suppress(OSError, ValueError):
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def _closed() -> TextIO:
    stream = io.StringIO()
    stream.close()
    return stream
