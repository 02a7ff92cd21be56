"""What goes into the guest and what comes back, as tar archives on raw disks."""

from __future__ import annotations

import compileall
import subprocess
import tarfile
from typing import TYPE_CHECKING

from labvm.cache import CHECKOUT
from labvm.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Sizes are part of the machine, and so of every snapshot. The files are sparse: they take no room.
PARCEL_BYTES = 512 << 20
RESULTS_BYTES = 1 << 30
STATE_BYTES = 1 << 30
# The guest would need a second or two to compile these, and its Python is the one that runs here.
COMPILED = ("hwmgr", "multus")
TAKEN = "taken"
SCRIPT = "lab-script"  # where a script from outside the checkout lies in it


def write_parcel(disk: Path, script: Path | None, taken: Sequence[Path] = ()) -> int:
    """Write the checkout with what is not committed to disk; return the archive's length in bytes.

    script is one more file, put into the archive's root as SCRIPT; those taken along lie in TAKEN.
    """
    for package in COMPILED:
        compileall.compile_dir(CHECKOUT / package, quiet=2)
    listing = subprocess.run(
        [
            "git",
            "-C",
            str(CHECKOUT),
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
        stdout=subprocess.PIPE,
        check=True,
    )
    with disk.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for name in listing.stdout.decode().split("\0"):
                path = CHECKOUT / name
                # A file that is deleted but not yet committed as such is listed, too.
                if name and (path.is_file() or path.is_symlink()):
                    archive.add(path, name, filter=_owned_by_root)
            for package in COMPILED:
                for path in (CHECKOUT / package).glob("**/__pycache__/*.pyc"):
                    archive.add(path, str(path.relative_to(CHECKOUT)), filter=_owned_by_root)
            if script is not None:
                archive.add(script, SCRIPT, filter=_owned_by_root)
            for path in taken:
                archive.add(path, f"{TAKEN}/{path.name}", filter=_owned_by_root)
        length = file.tell()
        if length > PARCEL_BYTES:
            msg = f"the checkout is {length} bytes long, the lab's disk for it {PARCEL_BYTES}"
            raise LabError(msg)
        file.truncate(PARCEL_BYTES)
    return length


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def make_empty(disk: Path, size: int) -> None:
    """Make a disk of this size that holds nothing and takes no room."""
    with disk.open("wb") as file:
        file.truncate(size)


def make_state(disk: Path) -> None:
    """Make the disk that keeps what a guest with systemd writes; one that is there stays."""
    if not disk.exists():
        make_empty(disk, STATE_BYTES)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-m", "0", str(disk)], check=True)


def read_results(disk: Path, folder: Path) -> list[str]:
    """Unpack what the guest left into folder; return the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    # The program: Debian's tarfile has no filter yet that keeps links from leading outside.
    done = subprocess.run(
        ["tar", "-xv", "--no-same-owner", "-C", str(folder), "-f", str(disk)],
        stdout=subprocess.PIPE,
        check=True,
    )
    return [name for name in done.stdout.decode().splitlines() if not name.endswith("/")]
