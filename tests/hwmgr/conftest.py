"""Fixtures of the device plane's tests: a machine of fakes in a folder of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes.machine import Machine, build
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder whose fsync costs nothing, for tests that go through thousands of them."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


@pytest.fixture
def machine(in_memory: Path) -> Iterator[Machine]:
    """An 82576 with seven VFs on igbvf."""
    made = build(str(in_memory), Nic())
    yield made
    made.close()
