"""What the functional tests share: a folder whose fsync costs nothing, a daemon on a node."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.functional.daemon import RunningDaemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.functional.node import Node


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder in memory, for tests that go through thousands of durable writes."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield made


@pytest.fixture
def daemon(node: Node) -> Iterator[RunningDaemon]:
    """A daemon that serves the ``node`` of the test's own module."""
    running = RunningDaemon(node)
    running.start()
    try:
        yield running
    finally:
        running.close()
