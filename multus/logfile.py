"""The log file of multus-cni's ``logFile`` key, with the rotation of its ``logOptions``."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multus.config import LogConfig

_MEGABYTE = 1024 * 1024
_DAY_SECONDS = 86400
_DEFAULT_SIZE, _DEFAULT_AGE, _DEFAULT_BACKUPS = 100, 5, 5


def append(config: LogConfig, line: str) -> str:
    """Append one line, rotating first where that is due; returns what failed, "" if nothing.

    One write of one line to a file opened for appending: lines of parallel calls do not mix.
    """
    try:
        os.makedirs(os.path.dirname(config.file) or ".", mode=0o755, exist_ok=True)
        _rotate_if_due(config)
        fd = os.open(config.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, (line + "\n").encode("utf-8", "backslashreplace"))
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        return f"logFile {config.file} cannot be written: {error}"
    return ""


def _rotate_if_due(config: LogConfig) -> None:
    limit = (config.max_size or _DEFAULT_SIZE) * _MEGABYTE
    try:
        status = os.stat(config.file)
    except FileNotFoundError:
        return
    if not os.path.isfile(config.file) or status.st_size < limit:
        return
    base, extension = os.path.splitext(config.file)
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime())
    old = f"{base}-{stamp}{extension}"
    os.rename(config.file, old)
    if config.compress is not False:
        _compress(old)
    _prune(config, base, extension)


def _compress(path: str) -> None:
    import gzip
    import shutil

    with open(path, "rb") as source, gzip.open(path + ".gz", "wb") as target:
        shutil.copyfileobj(source, target)
    os.unlink(path)


def _prune(config: LogConfig, base: str, extension: str) -> None:
    """Remove old files beyond the number and the age (days) that are to be kept."""
    folder, stem = os.path.split(base)
    names = [
        name
        for name in os.listdir(folder or ".")
        if name.startswith(stem + "-") and name.endswith((extension, extension + ".gz"))
    ]
    oldest = time.time() - (config.max_age or _DEFAULT_AGE) * _DAY_SECONDS
    keep = config.max_backups or _DEFAULT_BACKUPS
    for place, name in enumerate(sorted(names, reverse=True)):
        path = os.path.join(folder, name)
        if place >= keep or os.stat(path).st_mtime < oldest:
            os.unlink(path)
