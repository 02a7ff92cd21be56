"""Commands of setuptools that put the compiled shim into the wheel; pyproject.toml names them.

Where nothing can compile it, the wheel is for every machine and holds only the twin in Python.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

NO_COMPILER = 3
INSTALLED = Path("multus", "shim", "hwmgr-shim")


def compiled() -> Path | None:
    """Return the compiled shim, None where there is no compiler; raises when compiling fails."""
    script = Path(__file__).with_name("build-shim")
    done = subprocess.run([str(script)], stdout=subprocess.PIPE, text=True)
    if done.returncode == NO_COMPILER:
        print("shim: not compiled, this wheel has only its twin in Python", file=sys.stderr)
        return None
    done.check_returncode()
    print(f"shim: compiled, {done.stdout.strip()}", file=sys.stderr)
    return Path(done.stdout.strip())


class BuildPy(build_py):
    """Builds the packages, the shim among their data."""

    def run(self) -> None:
        super().run()
        target = Path(self.build_lib, INSTALLED)
        if self.editable_mode:
            return
        shim = compiled()
        target.unlink(missing_ok=True)  # that of a build before
        if shim is not None:
            shutil.copy(shim, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        target = Path(self.build_lib, INSTALLED)
        outputs: list[str] = super().get_outputs(include_bytecode)
        return [*outputs, str(target)] if target.exists() else outputs


class BdistWheel(bdist_wheel):
    """Builds the wheel, for one kind of machine if the shim is in it, and for any Python 3."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if compiled() is not None:
            self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        return (python, abi, platform) if self.root_is_pure else ("py3", "none", platform)
