"""The shim in the wheel, and what a call costs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from hwmgr import frames
from multus import cnitypes, version
from tests.shim.rig import ROOT, SHIPPED

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = ("MANIFEST.in", "README.md", "hwmgr", "multus", "pyproject.toml", "scripts")


def wheel(folder: Path, env: dict[str, str]) -> tuple[Path, str]:
    """Build a wheel from a copy of the checkout, offline; returns it and what was said."""
    clean = folder / "clean"
    clean.mkdir()
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, clean / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, clean)
    options = ["--no-build-isolation", "--no-deps", "--no-index", "-v", "-w", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(clean)],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    (made,) = folder.glob("*.whl")
    return made, done.stdout


def test_the_wheel_has_the_compiled_shim(tmp_path: Path) -> None:
    made, _ = wheel(tmp_path, {})
    assert re.fullmatch(r"hwmgr-.*-py3-none-linux_\w+\.whl", made.name)
    with zipfile.ZipFile(made) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("shim/hwmgr-shim"))
        assert archive.getinfo(name).external_attr >> 16 & 0o111
        data = archive.read(name)
    assert data.startswith(b"\x7fELF")
    assert b"hwmgr-shim: put here by multusctl install" in data


def test_without_a_compiler_the_wheel_has_the_twin_and_says_so(tmp_path: Path) -> None:
    made, said = wheel(tmp_path, {"CC": "no-such-compiler"})
    assert made.name.endswith("-py3-none-any.whl")
    assert "not compiled, this wheel has only its twin" in said
    with zipfile.ZipFile(made) as archive:
        names = {name for name in archive.namelist() if name.startswith("multus/shim/")}
    assert {name.rpartition("/")[2] for name in names} == {
        *("__init__.py", "shim.c", "twin.py", "twin_down.py"),
    }


def test_the_executable_needs_no_library(built: dict[str, Path]) -> None:
    # A dynamic one would name its interpreter in the program headers.
    assert b"/ld-linux" not in built["c"].read_bytes()[:4096]


@pytest.mark.parametrize("name", ["shim.c", "twin.py", "twin_down.py"])
def test_what_the_shims_repeat_is_equal_to_what_it_repeats(name: str) -> None:
    text = (SHIPPED / name).read_text()
    numbers = {
        "LONGEST_ENVIRONMENT": frames.LONGEST_ENVIRONMENT,
        "LONGEST_INPUT": frames.LONGEST_INPUT,
        "HEADER_BYTES": frames.HEADER_BYTES,
        "IFNAME_MAX_BYTES": cnitypes.IFNAME_MAX_BYTES,
        "INVALID_ENVIRONMENT": cnitypes.INVALID_ENVIRONMENT,
        "IO_FAILURE": cnitypes.IO_FAILURE,
        "TRY_AGAIN_LATER": cnitypes.TRY_AGAIN_LATER,
        "NOT_AVAILABLE": cnitypes.NOT_AVAILABLE,
    }
    found = re.findall(r"\b([A-Z_]+)(?: =)? \(?(\d+)u?(?: << (\d+))?", text)
    for key, number, shift in found:
        if key in numbers:
            assert int(number) << int(shift or 0) == numbers[key]
    expected = {"shim.c": 8, "twin.py": 2, "twin_down.py": 0}
    assert len({key for key, _, _ in found if key in numbers}) == expected[name]
    # The answer to VERSION is compared as it is printed, in test_down.
    assert f'"{version.CURRENT}"' in text
