"""kube-apiserver and kubelet: built once per recipe, into the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clusterrig.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHECKOUT = Path(__file__).resolve().parents[2]
RECIPE = Path(__file__).resolve().with_name("build.sh")
VERSION = "1.20.2"
_KEPT = 2
_UNFINISHED = "building-kubernetes-"


def cache_folder() -> Path:
    """Return the project's folder in the user's cache, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "hwmgr"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def programs_folder() -> Path:
    """Return the folder of the programs that this checkout's recipe makes, built or not."""
    return cache_folder() / f"kubernetes-{VERSION}-{_digest(RECIPE)}"


def _digest(recipe: Path) -> str:
    return hashlib.sha256(recipe.read_bytes()).hexdigest()[:12]


def ensure_programs() -> Path:
    """Return the folder with kube-apiserver and kubelet, built first if it is missing.

    The Debian packages that the build and the cluster take are installed first, too. Raises
    ClusterError when a step of the build fails.
    """
    bootstrap("kubernetes")
    folder = programs_folder()
    if not folder.is_dir():
        with _locked("kubernetes"):
            if not folder.is_dir():  # somebody else may have built it while we waited
                _build(folder)
                _drop_old()
    os.utime(folder)
    return folder


def bootstrap(*arguments: str) -> str:
    """Run scripts/bootstrap and return its output."""
    return _call([str(CHECKOUT / "scripts" / "bootstrap"), *arguments], dict(os.environ))


def _build(folder: Path) -> None:
    print("cluster: building Kubernetes, once: 7 minutes on two cores", file=sys.stderr)
    apt = bootstrap("apt", "--print")
    for left in cache_folder().glob(f"{_UNFINISHED}*"):  # of a build that was killed
        shutil.rmtree(left)
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=cache_folder()))
    try:
        _call([str(RECIPE), VERSION, str(unfinished)], {**os.environ, "APT_CONFIG": apt})
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _call(argv: Sequence[str], environment: dict[str, str]) -> str:
    done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{Path(argv[0]).name} failed with status {done.returncode}: see above")
    return done.stdout.strip()


def _drop_old() -> None:
    found = sorted(
        cache_folder().glob("kubernetes-*/"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for folder in found[_KEPT:]:
        doomed = folder.with_name(f"{_UNFINISHED}old-{os.getpid()}")
        folder.rename(doomed)
        shutil.rmtree(doomed)


@contextmanager
def _locked(name: str) -> Iterator[None]:
    with (cache_folder() / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("cluster: waiting for another build", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
