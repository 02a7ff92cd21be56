"""One line a call in the daemon's log: what was asked, how it ended, how long it took.

What the engine says of a call while it is at work becomes part of that line.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from multus.logs import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ERROR, _INFO = 3, 6  # severities of RFC 5424, section 6.2.1
_LEVELS = {3: "error", 4: "warning", 6: "info", 7: "debug"}


@dataclass(slots=True)
class Notes:
    """What was said while one call was at work; one thread at a time writes to it."""

    lines: list[str] = field(default_factory=list)

    def take(self, _severity: int, text: str) -> None:
        """Keep a line for the call's own; a log's sink."""
        self.lines.append(text)

    def complain(self, text: str) -> None:
        """Keep what went wrong."""
        self.lines.append(one_line(text))


@dataclass(frozen=True, slots=True)
class Entry:
    """How one call ended; times in seconds."""

    verb: str
    program: str
    container: str
    ifname: str
    pod: str
    outcome: str
    code: int
    took: float
    waited: float
    message: str = ""


class CallLog:
    """Writes entries and the daemon's own lines to the node's log."""

    def __init__(self, sink: Callable[[int, str], None], now: Callable[[], str]) -> None:
        self._sink = sink
        self._now = now

    def call(self, entry: Entry) -> None:
        """Write how a call ended."""
        bad = entry.outcome in ("failed", "undone", "refused")
        self._write(_ERROR if bad else _INFO, text_of(entry), members_of(entry))

    def say(self, text: str) -> None:
        """Write what the daemon does."""
        self._write(_INFO, one_line(text), {"message": text})

    def problem(self, text: str) -> None:
        """Write what went wrong with the daemon."""
        self._write(_ERROR, one_line(text), {"message": text})

    def _write(self, severity: int, text: str, _members: Mapping[str, object]) -> None:
        self._sink(severity, text)


class JsonCallLog(CallLog):
    """The same, one JSON object a line."""

    def _write(self, severity: int, _text: str, members: Mapping[str, object]) -> None:
        level = _LEVELS.get(severity, "info")
        self._sink(severity, json.dumps({"time": self._now(), "level": level, **members}))


def text_of(entry: Entry) -> str:
    """Return an entry as one line for people."""
    who = f"{entry.container} {entry.ifname}".strip()
    pod = f" of {entry.pod}" if entry.pod else ""
    code = f" with code {entry.code}" if entry.code else ""
    times = f"in {entry.took * 1000:.1f} ms after {entry.waited * 1000:.1f} ms"
    head = f"{entry.program} {entry.verb} {who}{pod} {entry.outcome}{code} {times}"
    return one_line(f"{head}: {entry.message}" if entry.message else head)


def members_of(entry: Entry) -> dict[str, object]:
    """Return an entry for a program that reads it."""
    return {
        "verb": entry.verb,
        "program": entry.program,
        "container": entry.container,
        "ifname": entry.ifname,
        "pod": entry.pod,
        "outcome": entry.outcome,
        "code": entry.code,
        "ms": round(entry.took * 1000, 1),
        "wait_ms": round(entry.waited * 1000, 1),
        "message": entry.message,
    }
