"""The terminal of whoever uses `scripts/lab shell`, while its keys belong to the guest."""

from __future__ import annotations

import sys
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING

from labvm.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def raw_terminal(descriptor: int) -> Iterator[None]:
    """Pass every key on as it is while the `with` statement lasts; LabError without a terminal."""
    if not sys.stdin.isatty():
        msg = "a shell needs a terminal: use `scripts/lab run` for scripts"
        raise LabError(msg)
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
