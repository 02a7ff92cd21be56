"""Fixtures of the device plane's tests: a machine of fakes in a folder of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.machine import Machine, build
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """An 82576 with seven VFs on igbvf."""
    made = build(str(tmp_path), Nic())
    yield made
    made.close()
