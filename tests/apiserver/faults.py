"""What can go wrong between a client and the stand-in, by verb, path and count."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

Kind = Literal[
    "close", "reset", "lost", "hang", "truncate", "slow", "garbage", "cut", "silent", "error"
]


@dataclass
class Fault:
    """One thing to go wrong; ``how`` is a Kind, or the status to answer.

    close, reset: the connection ends without an answer. hang: no answer for as long as the client
    waits. lost: it is done, the answer is not sent. truncate: the answer ends in the middle. slow:
    it comes byte by byte, for longer than anybody waits. garbage: it is a page for people.

    Of watches. cut: the first event breaks off in the middle, and the connection with it. silent:
    the stream begins and says nothing, for as long as the client waits. error: it tells of one.
    """

    verb: str
    path: str
    how: Kind | int
    first: int = 1
    times: int | None = None
    seen: int = 0

    def strikes(self, verb: str, path: str) -> bool:
        if self.verb not in ("*", verb) or not fnmatchcase(path, self.path):
            return False
        self.seen += 1
        return self.seen >= self.first and (
            self.times is None or self.seen < self.first + self.times
        )


@dataclass
class Faults:
    """Those that are in force."""

    known: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> None:
        with self._lock:
            self.known.append(fault)

    def clear(self) -> None:
        with self._lock:
            self.known.clear()

    def of(self, verb: str, path: str) -> Kind | int | None:
        """Return what is to go wrong with this request; every fault counts it."""
        with self._lock:
            struck = [fault.how for fault in self.known if fault.strikes(verb, path)]
        return struck[0] if struck else None
