"""Where multus writes what it does: syslog by default, and what its logging keys ask for.

multus-cni's levels are panic < error < verbose < debug; it logs at panic, so next to nothing.
Syslog gets one INFO line a verb whatever the level, since that is what an administrator asks for
first. The logging module costs as much start-up as everything else here, so it is not used.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from multus.config import LogConfig

_LEVELS = {"panic": 0, "error": 1, "verbose": 2, "debug": 3}
_SYSLOG_DAEMON = 3 << 3  # RFC 5424, section 6.2.1: facility 3
_SYSLOG_ERROR, _SYSLOG_INFO = 3, 6
_NODE_LEVELS = {"error": 3, "warning": 4, "info": 6, "debug": 7}


class Log(Protocol):
    """Takes lines for the administrator; writing them never fails a call."""

    def did(self, text: str) -> None:
        """Say what was done."""

    def problem(self, text: str) -> None:
        """Say what went wrong."""

    def detail(self, text: str) -> None:
        """Say what helps a developer."""


class NodeLog:
    """Writes to syslog, and to standard error and a file as the configuration says."""

    def __init__(
        self,
        config: LogConfig,
        *,
        syslog: Callable[[int, str], None],
        stderr: TextIO,
        now: Callable[[], str],
    ) -> None:
        self._config = config
        self._syslog = syslog
        self._stderr = stderr
        self._now = now
        self._level = _LEVELS.get(config.level.lower(), 0)
        if config.level and config.level.lower() not in _LEVELS:
            self._to_stderr(f"logLevel {config.level!r} is not known; using panic")

    def did(self, text: str) -> None:
        """See Log.did."""
        self._syslog(_SYSLOG_INFO, one_line(text))
        self._write("verbose", text)

    def problem(self, text: str) -> None:
        """See Log.problem."""
        self._syslog(_SYSLOG_ERROR, one_line(text))
        self._write("error", text)

    def detail(self, text: str) -> None:
        """See Log.detail."""
        self._write("debug", text)

    def _write(self, level: str, text: str) -> None:
        if _LEVELS[level] > self._level:
            return
        line = f"{self._now()} [{level}] {one_line(text)}"
        if self._config.to_stderr:
            self._to_stderr(line)
        if self._config.file:
            from multus.logfile import append

            fault = append(self._config, line)
            if fault:
                self._syslog(_SYSLOG_ERROR, fault)

    def _to_stderr(self, line: str) -> None:
        try:
            print(line, file=self._stderr)
        except (OSError, ValueError):
            return


def node_sink(
    target: str, level: str, *, stderr: TextIO, tag: str, now: Callable[[], str]
) -> Callable[[int, str], None]:
    """Return what takes (syslog severity, line) for the node's ``log.target`` and ``log.level``.

    A target is ``syslog``, ``stderr``, ``none`` or the path of a file. Lines begin with the tag,
    in a file with the time before it; without a tag, which syslog must have, they are left alone.
    """
    head = f"{tag}: " if tag else ""
    lowest = _NODE_LEVELS.get(level, _SYSLOG_INFO)

    def sink(severity: int, text: str) -> None:
        if severity > lowest or target == "none":
            return
        if target == "syslog":
            send_to_syslog(severity, text, tag=tag)
        elif target == "stderr":
            with suppress(OSError, ValueError):  # nobody reads it any more
                print(f"{head}{text}", file=stderr)
        else:
            from multus.config import LogConfig
            from multus.logfile import append

            append(LogConfig(file=target), f"{now()} {head}{text}" if tag else text)

    return sink


def one_line(text: str) -> str:
    """Return text without line breaks or control characters: one record is one line."""
    return "".join(char if char.isprintable() else " " for char in text)


def send_to_syslog(
    severity: int, text: str, *, tag: str = "multus", path: str = "/dev/log"
) -> None:
    """Send one line to the local syslog (RFC 3164 form); where there is none it is dropped."""
    import os
    import socket

    message = f"<{_SYSLOG_DAEMON | severity}>{tag}[{os.getpid()}]: {text}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as line:
            line.connect(path)
            line.send(message.encode("utf-8", "backslashreplace")[:4096])
    except OSError:
        return
