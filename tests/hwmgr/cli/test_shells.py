"""The scripts that have a shell complete our command lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODULES = {"hwmgr": "hwmgr", "multusctl": "multus.ctl.app"}
BEGINNINGS = {
    "bash": "_{name}_completion() {{",
    "zsh": "#compdef {name}\n",
    "fish": "complete --command {name} ",
}
PLACES = {
    "bash": ".bash_completions/{name}.sh",
    "zsh": ".zfunc/_{name}",
    "fish": ".config/fish/completions/{name}.fish",
}


def run(program: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", MODULES[program], *words],
        cwd=ROOT,
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("program", MODULES)
@pytest.mark.parametrize("shell", BEGINNINGS)
def test_the_shell_that_is_named_gets_its_script(tmp_path: Path, program: str, shell: str) -> None:
    """Whatever shell started us: a node is set up by scripts."""
    begins = BEGINNINGS[shell].format(name=program)
    done = run(program, tmp_path, "--show-completion", shell)
    assert (done.returncode, done.stderr, done.stdout[: len(begins)]) == (0, "", begins)
    assert run(program, tmp_path, f"--show-completion={shell}").stdout == done.stdout
    installed = run(program, tmp_path, "--install-completion", shell)
    assert (installed.returncode, installed.stderr) == (0, "")
    place = tmp_path / PLACES[shell].format(name=program)
    assert place.read_text() == done.stdout.rstrip("\n") + ("\n" if shell == "fish" else "")


def test_a_shell_that_nobody_knows(tmp_path: Path) -> None:
    done = run("hwmgr", tmp_path, "--show-completion", "csh")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'csh' is not one of 'bash', 'zsh', 'fish'" in done.stderr
