"""The only module that enters network namespaces, and says which namespace a path stands for."""

from __future__ import annotations

import errno
import functools
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hwmgr.errors import NamespaceError
from hwmgr.model import NetnsIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_OWN = "/proc/thread-self/ns/net"


def open_namespace(path: str) -> int:
    """Open a namespace file and return its descriptor; raises NamespaceError when it is not one.

    A path under /var/run/netns whose bind mount is gone is an ordinary empty file: that is
    reported as EINVAL, not as a namespace. Nothing else is opened: paths come from mount tables
    that any user can write (user_namespaces(7)); a FIFO there would hold us, a device do something.
    """
    try:
        seen = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            # nsfs has one device number for all namespaces.
            if os.fstat(seen).st_dev != os.stat(_OWN).st_dev:
                raise NamespaceError(path, errno.EINVAL, "the file is not a network namespace")
            fd = os.open(f"/proc/self/fd/{seen}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(seen)
    except (OSError, ValueError) as error:
        code = error.errno if isinstance(error, OSError) and error.errno else errno.EINVAL
        raise NamespaceError(path, code) from error
    if not _is_nsfs(fd):
        os.close(fd)
        raise NamespaceError(path, errno.EINVAL, "the file is not a network namespace")
    return fd


def identity(path: str) -> NetnsIdentity:
    """Say which namespace a path stands for; raises NamespaceError when it stands for none."""
    fd = open_namespace(path)
    try:
        return identity_of(path, fd)
    finally:
        os.close(fd)


def identity_of(path: str, fd: int) -> NetnsIdentity:
    """Say which namespace an open descriptor stands for (fstat: readlink fails on a bind mount)."""
    status = os.fstat(fd)
    return NetnsIdentity(path, status.st_dev, status.st_ino)


@contextmanager
def entered(fd: int) -> Iterator[None]:
    """Have the calling thread in the namespace for the block, and back in its own after it.

    Only the calling thread moves: namespaces belong to tasks (setns(2)), so other workers of one
    process are not affected. If the way back fails the process must not go on: SystemExit.
    """
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(fd)
        try:
            yield
        finally:
            try:
                _setns(home)
            except OSError as error:
                raise SystemExit(f"cannot return to the host's namespace: {error}") from error
    finally:
        os.close(home)


def has_interface(fd: int, ifname: str) -> bool:
    """Tell whether an interface of that name exists in the namespace."""
    import socket

    with entered(fd):
        try:
            socket.if_nametoindex(ifname)
        except OSError:
            return False
    return True


def _is_nsfs(fd: int) -> bool:
    """Tell whether the file is a network namespace: its /proc link reads ``net:[inode]``.

    A bind-mounted namespace shows its mount path there instead, so ask the kernel for the type
    (NS_GET_NSTYPE, ioctl_ns(2)).
    """
    import fcntl

    ns_get_nstype = 0xB703
    try:
        return fcntl.ioctl(fd, ns_get_nstype) == _CLONE_NEWNET
    except OSError:
        return False


def _setns(fd: int) -> None:
    setns, last_errno = _libc_setns()
    if setns(fd, _CLONE_NEWNET) != 0:
        code = last_errno()
        raise OSError(code, os.strerror(code))


@functools.cache
def _libc_setns() -> tuple[Callable[[int, int], int], Callable[[], int]]:
    """Return the C library's setns(2) and what tells its errno. Loading takes longer than calling.

    os.setns is new in Python 3.12 and Debian 12 has 3.11.
    """
    import ctypes

    return ctypes.CDLL(None, use_errno=True).setns, ctypes.get_errno
