"""The cache folder: what is built once, by what key, and under which lock."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labvm.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHECKOUT = Path(__file__).resolve().parents[2]
IMAGE_RECIPE = Path(__file__).resolve().parent / "image"
KEPT_IMAGES = 3


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: the kernel, the initrd and the root file system that the guest boots from."""

    folder: Path

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinux"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd"

    @property
    def root(self) -> Path:
        return self.folder / "root.img"

    def snapshot(self, key: str) -> Path:
        """Return where the snapshot of the machine with this key lies or will lie."""
        return self.folder / f"snapshot-{key}"


def cache_folder() -> Path:
    """Return the project's folder in the user's cache, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "hwmgr"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def image_folder() -> Path:
    """Return the folder of the image that this checkout's recipe makes, built or not."""
    digest = hashlib.sha256()
    recipe = sorted(path for path in IMAGE_RECIPE.rglob("*") if path.is_file())
    for path in [*recipe, CHECKOUT / "requirements.lock"]:
        digest.update(f"{path.relative_to(CHECKOUT)}\0".encode())
        digest.update(path.read_bytes())
    return cache_folder() / f"lab-{digest.hexdigest()[:12]}"


def ensure_image() -> Image:
    """Return the image, built first if it is missing; the tools it takes are installed first, too.

    Raises LabError when a step of the build fails.
    """
    folder = image_folder()
    if not folder.is_dir():
        _bootstrap("python", "lab")
        with locked("build"):
            if not folder.is_dir():  # somebody else may have built it while we waited
                _build(folder)
                _drop_old_images()
    os.utime(folder)
    return Image(folder)


def _build(folder: Path) -> None:
    venv = _bootstrap("python", "--print")
    apt = _bootstrap("apt", "--print")
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=cache_folder()))
    try:
        _call(
            [str(IMAGE_RECIPE / "build.sh"), str(CHECKOUT), venv, str(unfinished)],
            {**os.environ, "APT_CONFIG": apt},
        )
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _bootstrap(*arguments: str) -> str:
    return _call([str(CHECKOUT / "scripts" / "bootstrap"), *arguments], dict(os.environ))


def _call(argv: Sequence[str], environment: dict[str, str]) -> str:
    done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        msg = f"{Path(argv[0]).name} failed with status {done.returncode}: see above"
        raise LabError(msg)
    return done.stdout.strip()


def _drop_old_images() -> None:
    images = sorted(
        cache_folder().glob("lab-*"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for folder in images[KEPT_IMAGES:]:
        remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder of the cache so that nobody finds half of it."""
    doomed = folder.with_name(f"unfinished-{folder.name}-{os.getpid()}")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def clean() -> None:
    """Remove every image, and what builds and machines that were killed have left."""
    with locked("build"):
        for pattern in ("lab-*", "run-*", "unfinished-*"):
            for folder in cache_folder().glob(pattern):
                remove(folder)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock of this name among all runs of scripts/lab of this user."""
    with (cache_folder() / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"lab: waiting for another {name}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
