"""A node whose plugins are the installed shim, in C, with multus-daemon behind it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from multus import install
from tests.functional.daemon import DaemonProcess
from tests.runtime.rig import ROOT, Rig

if TYPE_CHECKING:
    from pathlib import Path


class DaemonRig(Rig):
    """See Rig. The daemon runs from the start; without it there is no program for a call."""

    plugins_outlive_calls = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        below = self.containerd.folder / "daemon"
        below.mkdir()
        self.daemon = DaemonProcess(below, self.state_dir, self.enter)
        request = install.Request(
            str(self.containerd.bin_dir),
            thin="none",
            socket=self.daemon.socket,
            spool=str(self.state_dir / "spool"),
            force=True,
        )
        assert install.install(request, _shipped(folder / "shipped")).shim == "c"
        self.daemon.start()

    def __exit__(self, *raised: object) -> None:
        self.daemon.close()
        super().__exit__(*raised)


def _shipped(folder: Path) -> Path:
    """Return a folder with what the wheel has: the compiled shim and the twin."""
    folder.mkdir()
    done = subprocess.run(
        [ROOT / "scripts/build-shim"], stdout=subprocess.PIPE, text=True, check=True
    )
    (folder / "hwmgr-shim").symlink_to(done.stdout.strip())
    for name in ("twin.py", "twin_down.py"):
        (folder / name).symlink_to(ROOT / "multus/shim" / name)
    return folder
