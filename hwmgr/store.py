"""The only module that writes the state directory: durable records and locks, nothing else."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from hwmgr import filelock
from hwmgr.errors import RecordTorn, StateError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

# Records are a few kilobytes, with the configuration of a network in them.
_LONGEST = 8 << 20


class StateDir:
    """A folder of small JSON records; every write is complete and on disk, or did not happen.

    Folders are made 0700, files 0600. All names are checked: no empty one, no ``.``, ``..``, no
    separator, so nothing that a caller was told becomes a path elsewhere.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, *names: str) -> str:
        """Join plain names below the root; raises StateError for a name that is not plain."""
        for name in names:
            if not name or name in (".", "..") or "/" in name or "\0" in name:
                raise StateError(self.root, errno.EINVAL, f"{name!r} cannot name a state file")
        return os.path.join(self.root, *names)

    def read_bytes(self, *names: str) -> bytes | None:
        """Return the content of a file, None when it is absent.

        Raises RecordTorn for what none of us has written: a link, a folder, a file without end.
        """
        path = self.path(*names)
        # O_NONBLOCK: opening somebody's FIFO would wait for a writer.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(path, flags)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise RecordTorn(path, "it is a symbolic link") from error
            raise StateError(path, error.errno or 0) from error
        try:
            return _read_whole(fd, path)
        except OSError as error:
            raise StateError(path, error.errno or 0) from error
        finally:
            os.close(fd)

    def read_json(self, *names: str) -> object | None:
        """Return a record; None when absent. Raises RecordTorn when it is not JSON."""
        import json

        data = self.read_bytes(*names)
        if data is None:
            return None
        try:
            value: object = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise RecordTorn(self.path(*names), f"it is not JSON: {error}") from error
        return value

    def write_json(self, value: object, *names: str, lasting: bool = True) -> None:
        """Write a record; see write_bytes."""
        import json

        data = json.dumps(value, separators=(",", ":")).encode()
        self.write_bytes(data, *names, lasting=lasting)

    def write_bytes(self, data: bytes, *names: str, lasting: bool = True) -> None:
        """Replace a file by ``data``: temporary file, fsync, rename, fsync of the folder.

        rename(2) alone promises no order on disk: after a power cut the new name may stand for an
        empty file, which is how multus-cni lost its cache files. Without ``lasting`` the folder is
        not synced: a power cut may bring the older file back, or none, but never half a file. That
        is for what only repeats a lasting record.
        """
        path = self.path(*names)
        folder = os.path.dirname(path)
        temporary = f"{folder}/.{os.path.basename(path)[:200]}.{os.getpid()}.{time.monotonic_ns()}"
        try:
            make_folders(folder)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(fd)
                os.rename(temporary, path)
            except BaseException:
                _unlink(temporary)
                raise
            if lasting:
                _fsync_folder(folder)
        except OSError as error:
            raise StateError(path, error.errno or 0) from error

    def remove(self, *names: str) -> None:
        """Remove a file durably; one that is absent is fine."""
        path = self.path(*names)
        try:
            if _unlink(path):
                _fsync_folder(os.path.dirname(path))
        except OSError as error:
            raise StateError(path, error.errno or 0) from error

    def move(self, names: Sequence[str], to: Sequence[str]) -> None:
        """Give a file another name in the directory, durably; one that is gone is fine."""
        path, new = self.path(*names), self.path(*to)
        try:
            make_folders(os.path.dirname(new))
            try:
                os.rename(path, new)
            except FileNotFoundError:
                return
            _fsync_folder(os.path.dirname(new))
            _fsync_folder(os.path.dirname(path))
        except OSError as error:
            raise StateError(path, error.errno or 0) from error

    def set_aside(self, *names: str) -> None:
        """Move whatever has a name to ``journal-torn/``, for the administrator to see.

        A rename needs no room on the disk and moves a folder or a link as well. One that lies there
        already stays: the later one gets a number.
        """
        name, number = "-".join(n for n in names if n != "journal"), 0
        while os.path.lexists(self.path("journal-torn", f"{name}.{number}" if number else name)):
            number += 1
        self.move(names, ("journal-torn", f"{name}.{number}" if number else name))

    def remove_folder_if_empty(self, *names: str) -> None:
        """Remove a folder that holds nothing any more; anything else is fine."""
        try:
            os.rmdir(self.path(*names))
        except OSError:
            return

    def list(self, *names: str) -> list[str]:
        """Return the sorted names in a folder, without our temporary files; [] when absent."""
        path = self.path(*names)
        try:
            return sorted(name for name in os.listdir(path) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StateError(path, error.errno or 0) from error

    def stamps(self, *names: str) -> dict[str, tuple[int, int]]:
        """Return what changes with every write, by name: inode and mtime (ns); {} when absent.

        Two writes within one tick of the kernel's clock have one mtime, but not one inode.
        """
        path, found = self.path(*names), {}
        for name in self.list(*names):
            try:
                status = os.stat(f"{path}/{name}")
            except OSError:
                continue
            found[name] = (status.st_ino, status.st_mtime_ns)
        return found

    def writable(self) -> None:
        """Raise StateError unless records can be written (STATUS asks this)."""
        name = f".probe.{os.getpid()}.{time.monotonic_ns()}"
        self.write_bytes(b"", name)
        self.remove(name)

    def lock(
        self, *names: str, timeout: float, remove: bool = False
    ) -> AbstractContextManager[None]:
        """Hold an exclusive lock on a file for the block; see hwmgr.filelock.locked."""
        path = self.path(*names)
        try:
            make_folders(os.path.dirname(path))
        except OSError as error:
            raise StateError(path, error.errno or 0) from error
        return filelock.locked(path, timeout=timeout, remove=remove)

    def is_locked(self, *names: str) -> bool:
        """Tell whether somebody holds a lock now; see hwmgr.filelock.is_locked."""
        return filelock.is_locked(self.path(*names))


def _read_whole(fd: int, path: str) -> bytes:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise RecordTorn(path, "it is no plain file")
    if status.st_size > _LONGEST:
        raise RecordTorn(path, f"{status.st_size} bytes are too many for a state file")
    with os.fdopen(fd, "rb", closefd=False) as file:
        return file.read(_LONGEST)


def make_folders(path: str) -> None:
    """Make a folder and those above it, 0700 each; one that exists is left as it is."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and parent != path:
        make_folders(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None


def _fsync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
