"""Fixtures of the shims' tests: each runs with the C one, its sanitized build, and the twin."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from multus import install
from tests.shim import rig

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder with a short name, since a socket's may have 107 bytes, and with a cheap fsync."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


@pytest.fixture(scope="session")
def built() -> dict[str, Path]:
    """The compiled shims; scripts/bootstrap host has installed the compiler."""
    return {"c": rig.build(), "sanitized": rig.build("--sanitize")}


@pytest.fixture(params=["c", "sanitized", "python"])
def shim(request: pytest.FixtureRequest, in_memory: Path, built: dict[str, Path]) -> rig.Shim:
    """A shim that was installed as an administrator does it, without a thin program."""
    return make(request.param, in_memory, built)


@pytest.fixture
def both(in_memory: Path, built: dict[str, Path]) -> tuple[rig.Shim, rig.Shim]:
    """The C shim and the twin, each in a folder of its own, with names of one length."""
    folders = {kind: in_memory / kind[0] for kind in ("c", "python")}
    for folder in folders.values():
        folder.mkdir()
    c, python = (make(kind, folder, built) for kind, folder in folders.items())
    return c, python


def make(kind: str, folder: Path, built: dict[str, Path]) -> rig.Shim:
    """Install a shim of a kind below a folder."""
    source = folder / "shipped"
    source.mkdir()
    for name in ("twin.py", "twin_down.py"):
        (source / name).symlink_to(rig.SHIPPED / name)
    if kind in built:
        (source / "hwmgr-shim").symlink_to(built[kind])
    installed = install.install(install.Request(str(folder / "bin"), "none"), source)
    assert installed.shim == ("python" if kind == "python" else "c")
    made = rig.Shim(folder, kind)
    made.configure()
    return made
