"""The programs in the lab start what those of an installation start."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAB = ROOT / "scripts/labvm/image/guest/bin"
LAUNCHERS = ROOT / "scripts/launchers"


def module_of(script: Path) -> str:
    (module,) = re.findall(r"^from ([a-z_.]+) import main\b", script.read_text(), re.MULTILINE)
    return str(module)


def installed() -> dict[str, str]:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    entries = {name: target.removesuffix(":main") for name, target in scripts.items()}
    return entries | {path.name: module_of(path) for path in LAUNCHERS.iterdir()}


@pytest.mark.parametrize("name", sorted(path.name for path in LAB.iterdir()))
def test_a_program_of_the_lab_is_the_installed_one(name: str) -> None:
    assert module_of(LAB / name) == installed()[name]
