"""What systemd gives a service and wants to hear from it; without systemd nothing of it happens.

sd_listen_fds(3) and sd_notify(3).
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST_FD = 3  # SD_LISTEN_FDS_START


class ActivationError(ValueError):
    """The socket that we were started with is of no use; the message says why."""


def listen_sockets(env: Mapping[str, str], pid: int) -> list[socket.socket]:
    """Return the sockets that this process was started with. Raises ActivationError."""
    if env.get("LISTEN_PID") != str(pid):
        return []
    count = env.get("LISTEN_FDS", "")
    if not (count.isascii() and count.isdigit()):
        raise ActivationError(f"LISTEN_FDS={count!r} is not a number")
    found = []
    for fd in range(_FIRST_FD, _FIRST_FD + int(count)):
        try:
            os.set_inheritable(fd, False)
            found.append(socket.socket(fileno=fd))
        except OSError as error:
            raise ActivationError(f"descriptor {fd} is no socket: {error.strerror}") from error
    return found


class Notifier:
    """Tells the service manager how the service is."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._path = env.get("NOTIFY_SOCKET", "")
        self._watchdog = env.get("WATCHDOG_USEC", "")
        self._watched = env.get("WATCHDOG_PID", "")

    def watchdog_seconds(self, pid: int) -> float | None:
        """Return how often the manager wants to hear of us, None when it does not."""
        usec = self._watchdog
        if not (usec.isascii() and usec.isdigit() and int(usec)):
            return None
        return None if self._watched not in ("", str(pid)) else int(usec) / 1e6

    def tell(self, state: str) -> None:
        """Send a state, as ``READY=1``; nobody listening is no failure of ours."""
        if self._path[:1] not in ("/", "@"):
            return
        address = "\0" + self._path[1:] if self._path[0] == "@" else self._path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.connect(address)
                sock.send(state.encode())
        except OSError:
            return
