"""What the tests with a container runtime share: a node with containerd, not yet started."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.runtime.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def able() -> None:
    """Skip where such a node cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces, mounts, cgroups")
    if shutil.which("containerd") is None:
        pytest.skip("needs a container runtime: scripts/bootstrap runtime")


@pytest.fixture
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A node with multus as a program of its own, or of the class that a test is given."""
    kind: type[Rig] = getattr(request, "param", Rig)
    with kind(tmp_path) as made:
        yield made
