"""The daemon's socket: made so that only root reaches it, and never taken from a living daemon."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_FALLBACK_BACKLOG = 4096  # the kernel's own default since 5.4
_PEER = struct.Struct("iII")  # struct ucred, include/linux/socket.h
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class SocketError(ValueError):
    """The socket cannot be made; the message says what to do."""


class Listener:
    """A listening unix socket. ``hide`` takes its file away, unless it is the manager's."""

    def __init__(self, sock: socket.socket, path: str, lock: int | None) -> None:
        self.sock = sock
        self._path = path
        self._lock = lock
        self._file = None if lock is None else _file_of(path)

    @classmethod
    def given(cls, sock: socket.socket) -> Listener:
        """Use a socket that the service manager listens on. Raises SocketError."""
        if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
            raise SocketError("the socket of the unit must be ListenStream= of a path")
        sock.setblocking(False)
        return cls(sock, "", None)

    @classmethod
    def at(cls, path: str) -> Listener:
        """Make the socket; one that a dead daemon left is replaced. Raises SocketError."""
        with ExitStack() as undo:
            try:
                _make_folder(os.path.dirname(path))
                lock = _lock(f"{path}.lock")
                undo.callback(os.close, lock)
                _remove_stale(path)
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
                undo.callback(sock.close)
                before = os.umask(0o177)
                try:
                    sock.bind(path)
                finally:
                    os.umask(before)
                sock.listen(backlog())
            except OSError as error:
                why = error.strerror or str(error)
                raise SocketError(
                    f"{error.filename or path}: {why} (--socket names another place)"
                ) from error
            sock.setblocking(False)
            undo.pop_all()
        return cls(sock, path, lock)

    def hide(self) -> None:
        """Let nobody find the socket any more, and the next daemon make its own."""
        if self._lock is None:
            return
        if self._file is not None and _file_of(self._path) == self._file:
            os.unlink(self._path)
        os.close(self._lock)
        self._lock = None


def backlog(path: str = "/proc/sys/net/core/somaxconn") -> int:
    """Return how many clients the kernel lets wait to be accepted, at most (listen(2))."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return _FALLBACK_BACKLOG


def only_root(own_uid: int) -> Callable[[socket.socket], str]:
    """Return what says why a client may not speak to us, "" for root and for ourselves."""

    def admit(sock: socket.socket) -> str:
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        pid, uid, _gid = _PEER.unpack(data)
        return "" if uid in (0, own_uid) else f"refused process {pid} of user {uid}: not root"

    return admit


def _make_folder(path: str) -> None:
    if not os.path.isdir(path):
        os.makedirs(path, mode=0o700, exist_ok=True)
        os.chmod(path, 0o700)
        return
    found = os.stat(path)
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & _OTHERS_WRITE:
        raise SocketError(f"{path} is not root's alone; run: chown root {path}; chmod 700 {path}")


def _lock(path: str) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise SocketError(
            f"another multus-daemon serves here: {path} is locked; stop that one first"
        ) from error
    return fd


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is something else than a socket; remove it", path)
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    # Go's daemon takes no lock; it must be stopped before ours takes its place.
    raise SocketError(f"another program serves {path}; stop it first")


def _file_of(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
