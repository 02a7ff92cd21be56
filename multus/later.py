"""Things that are done after the call that wants them: one thread, a bounded queue, no promise."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class LaterFacts:
    """How many things were done, failed or dropped because too many waited, and wait."""

    done: int
    dropped: int
    waiting: int


class Later:
    """Does what it is given, one after another. The thread starts with the first thing."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._waiting: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._done = self._dropped = 0

    def post(self, action: Callable[[], None]) -> None:
        """Do it later, unless ``most`` others wait already; it must not raise."""
        with self._changed:
            if self._closed or len(self._waiting) >= self._most:
                self._dropped += 1
                return
            self._waiting.append(action)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self, seconds: float) -> None:
        """Take nothing more; give what waits that much time, and drop the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is None:
            return
        thread.join(seconds)
        with self._changed:
            self._dropped += len(self._waiting)
            self._waiting.clear()

    def facts(self) -> LaterFacts:
        """Return what became of what it was given."""
        with self._changed:
            return LaterFacts(self._done, self._dropped, len(self._waiting))

    def _run(self) -> None:
        while (action := self._next()) is not None:
            try:
                action()
            except Exception:  # noqa: BLE001 - the thread is there for the next one
                failed = True
            else:
                failed = False
            with self._changed:
                self._dropped += failed
                self._done += not failed

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.popleft() if self._waiting else None
