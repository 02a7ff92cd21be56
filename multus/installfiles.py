"""Files that are replaced together: all of them, or none, and none while it can be seen half."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def is_plain(path: Path) -> bool:
    """Tell whether a path is a file and no link to one."""
    return path.is_file() and not path.is_symlink()


def replace_all(folder: Path, files: list[tuple[Path, bytes, int]]) -> tuple[str, ...]:
    """Write path, content and mode of each file; returns those that were different before.

    Raises OSError; then all are as they were.
    """
    changed = []
    with ExitStack() as undo:
        for path, data, mode in files:
            if (
                is_plain(path)
                and path.read_bytes() == data
                and path.stat().st_mode & 0o7777 == mode
            ):
                continue
            kept = _keep(path)
            undo.callback(_put_back, path, kept)
            _replace(path, data, mode)
            changed.append(str(path))
        fsync(folder)
        undo.pop_all()
    for path, _, _ in files:
        remove(_beside(path, "kept"))
    return tuple(changed)


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{what}")


def _keep(path: Path) -> Path | None:
    """Give a file that will be replaced a second name; returns it, None without a file."""
    kept = _beside(path, "kept")
    remove(kept)
    if not os.path.lexists(path):
        return None
    os.link(path, kept, follow_symlinks=False)
    return kept


def _put_back(path: Path, kept: Path | None) -> None:
    if kept is None:
        remove(path)
    else:
        kept.rename(path)
        remove(kept)  # rename(2) does nothing where both are one file


def _replace(path: Path, data: bytes, mode: int) -> None:
    temporary = _beside(path, "new")
    remove(temporary)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        temporary.rename(path)
    except BaseException:
        remove(temporary)
        raise


def remove(path: Path) -> None:
    """Remove a file; one that is absent is fine."""
    with suppress(FileNotFoundError):
        path.unlink()


def fsync(folder: Path) -> None:
    """Have what was renamed and removed in a folder on disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
