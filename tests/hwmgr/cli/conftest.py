"""What every test of the command line starts from: Ctrl-C is heard, as at a terminal."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Have SIGINT heard here and by children: a shell without job control has its background jobs
    ignore it (POSIX.1-2017, Shell & Utilities, 2.11), and Python then leaves it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
