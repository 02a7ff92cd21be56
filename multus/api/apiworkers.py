"""Threads that do one thing at a time and are kept for the next one."""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Job = tuple[Callable[[], None], Callable[[], None]]
    Inbox = SimpleQueue[Job | None]


class Workers:
    """As many threads as there were things to do at one time, of which ``kept`` stay idle.

    None is started before there is something to do. They do not keep the process alive.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._idle: deque[Inbox] = deque()
        self._closed = False

    def begin(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        """Do ``work`` in a thread, then ``done``, which tells whoever waits for it.

        The thread is free for the next thing before ``done``: one who asks again at once finds it.
        Neither may raise.
        """
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = SimpleQueue()
            threading.Thread(
                target=self._work, args=(inbox,), name="multus-api", daemon=True
            ).start()
        inbox.put((work, done))

    def close(self) -> None:
        """Let idle threads end now, and the others after what they do."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, deque()
        for inbox in idle:
            inbox.put(None)

    def _work(self, inbox: Inbox) -> None:
        while (job := inbox.get()) is not None:
            work, done = job
            work()
            with self._lock:
                stays = not self._closed and len(self._idle) < self._kept
                if stays:
                    self._idle.append(inbox)
            done()
            del job, work, done  # what they hold is not kept until the next one
            if not stays:
                return
