"""The only module that opens /sys: reads, links and writes below a root that is passed in."""

from __future__ import annotations

import errno
import os

from hwmgr.deadline import within
from hwmgr.errors import SysfsError, WriteHangs

# An attribute is a page at most (Documentation/filesystems/sysfs.rst), 64 KiB on some machines.
_LONGEST = 65536


class Sysfs:
    """A sysfs tree; ``root`` is ``/sys`` on a node and a copy of a fixture in a test.

    All paths are relative to the root. Reads of what is absent give None or an empty list, since
    absence is an answer in sysfs (no ``driver`` link: unbound); everything else raises SysfsError.
    """

    def __init__(self, root: str = "/sys") -> None:
        self.root = root

    def read(self, path: str) -> str | None:
        """Return an attribute without its final newline; None when it does not exist.

        Raises SysfsError, for instance EINVAL from ``carrier`` of an interface that is down.
        """
        full = f"{self.root}/{path}"
        try:
            return _read(full, None)
        except OSError as error:
            raise SysfsError("read", full, error.errno or 0) from error

    def read_int(self, path: str) -> int | None:
        """Return an attribute as a number; None when it is absent, refused or not a number.

        A netdev that is on its way out refuses with EINVAL (net/core/net-sysfs.c).
        """
        return number(self.read_quiet(path))

    def read_quiet(self, path: str) -> str | None:
        """Return an attribute, None also where the driver refuses to tell (EOPNOTSUPP, EINVAL)."""
        try:
            return self.read(path)
        except SysfsError:
            return None

    def write(self, path: str, value: str) -> None:
        """Write an attribute in one write(2); never creates a file, so a typo fails as on a kernel.

        Raises SysfsError with the driver's errno.
        """
        full = f"{self.root}/{path}"
        try:
            fd = os.open(full, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise SysfsError(f"write {value!r} to", full, error.errno or 0) from error

    def write_within(self, path: str, value: str, seconds: float) -> None:
        """Write an attribute whose driver may not come back from it, in a child process.

        Raises WriteHangs when the write is not done after ``seconds``, SysfsError as write() does.
        """

        def work() -> int:
            try:
                self.write(path, value)
            except SysfsError as error:
                return error.errno
            return 0

        code = within(seconds, work)
        if code is None:
            raise WriteHangs(f"{self.root}/{path}", value, seconds)
        if code:
            raise SysfsError(f"write {value!r} to", f"{self.root}/{path}", code)

    def link_name(self, path: str) -> str | None:
        """Return the last part of a link's target (``driver``, ``iommu_group``, ``physfn``)."""
        try:
            return os.path.basename(os.readlink(f"{self.root}/{path}"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SysfsError("read link", f"{self.root}/{path}", error.errno or 0) from error

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, in no order; [] when it does not exist."""
        try:
            return os.listdir(f"{self.root}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise SysfsError("list", f"{self.root}/{path}", error.errno or 0) from error

    def exists(self, path: str) -> bool:
        """Tell whether a path exists (a dangling link does not)."""
        return os.path.exists(f"{self.root}/{path}")

    def folder(self, path: str) -> Folder | None:
        """Open a folder whose attributes are read one after the other; None when it is absent.

        The way to the folder is looked up once, which is half the cost of reading an attribute.
        To be closed by the caller, as by ``with``.
        """
        full = f"{self.root}/{path}"
        try:
            fd = os.open(full, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SysfsError("open", full, error.errno or 0) from error
        return Folder(full, fd)


class Folder:
    """One open folder; names are relative to it, answers as from the methods of Sysfs."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_raised: object) -> None:
        os.close(self._fd)

    def read(self, name: str) -> str | None:
        """See Sysfs.read."""
        try:
            return _read(name, self._fd)
        except OSError as error:
            raise SysfsError("read", f"{self._path}/{name}", error.errno or 0) from error

    def link_name(self, name: str) -> str | None:
        """See Sysfs.link_name."""
        try:
            return os.readlink(name, dir_fd=self._fd).rpartition("/")[2]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SysfsError("read link", f"{self._path}/{name}", error.errno or 0) from error

    def names(self, name: str = ".") -> list[str]:
        """See Sysfs.names."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise SysfsError("list", f"{self._path}/{name}", error.errno or 0) from error
        try:
            return os.listdir(fd)
        except FileNotFoundError:
            return []
        finally:
            os.close(fd)


def number(text: str | None) -> int | None:
    """Return an attribute's text as a number; None for None and for what is not a number."""
    try:
        return int(text, 0) if text is not None else None
    except ValueError:
        return None


def _read(path: str, dir_fd: int | None) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.read(fd, _LONGEST).decode("utf-8", "replace").rstrip("\n")
    except OSError as error:
        # The device went after its attribute had been opened (fs/kernfs/file.c): it is absent.
        if error.errno == errno.ENODEV:
            return None
        raise
    finally:
        os.close(fd)
