"""A node for one test: nothing on it is real but files, and plugins answer as they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.multus.fakes import A, B, C, FakeRunner, World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def world(tmp_path: Path, runner: FakeRunner) -> World:
    made = World(tmp_path, runner=runner)
    made.plugin(*(conf["type"] for conf in (A, B, C)))
    return made
