"""The daemon's life: it listens, serves, and ends in good order when it is told to."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from multus.daemon.connection import Connection
from multus.daemon.listener import backlog

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from multus.daemon.calllog import CallLog
    from multus.daemon.desk import Desk
    from multus.daemon.listener import Listener
    from multus.daemon.systemd import Notifier

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Daemon:
    """Serves one socket, and perhaps TCP clients that want to look, until a signal comes.

    ``admit`` looks at each client of the socket; ``drain_seconds`` is what calls get to end.
    """

    def __init__(
        self,
        listener: Listener,
        admit: Callable[[socket.socket], str],
        log: CallLog,
        notifier: Notifier,
        drain_seconds: float,
    ) -> None:
        self._listener = listener
        self._admit = admit
        self._log = log
        self._notifier = notifier
        self._drain_seconds = drain_seconds
        self._ending = asyncio.Event()
        self._unread: set[asyncio.Future[None]] = set()

    def ready(self) -> bool:
        """Tell whether calls are welcome."""
        return not self._ending.is_set()

    async def run(self, desk: Desk, metrics: tuple[str, int] | None) -> bool:
        """Serve until a signal comes and the calls are done; tells whether all were in time.

        Raises OSError, before any call is taken, where ``metrics`` cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._told_to_end)
        looking = None
        if metrics is not None:
            looking = await loop.create_server(
                lambda: Connection(_everybody, desk.look, self._log.problem, calls=False), *metrics
            )
        # Not create_unix_server: from Python 3.13 on that takes the socket's file away at the end,
        # and one that the service manager listens on is nobody's but the manager's.
        server = await loop.create_server(
            lambda: self._connection(desk), sock=self._listener.sock, backlog=backlog()
        )
        watchdog = loop.create_task(self._feed_watchdog())
        self._log.say("ready")
        self._notifier.tell("READY=1")
        await self._ending.wait()
        self._notifier.tell("STOPPING=1")
        self._listener.hide()
        # Who connected before it was hidden may still be in the kernel's queue: one round of the
        # loop hears of them, the next one makes them connections.
        for _ in range(3):
            await asyncio.sleep(0)
        server.close()
        in_time = await self._drain(desk)
        if looking is not None:
            looking.close()
        watchdog.cancel()
        return in_time

    async def _drain(self, desk: Desk) -> bool:
        self._log.say(f"ending: {len(desk.at_work)} calls are waiting or at work")
        end = asyncio.get_running_loop().time() + self._drain_seconds
        while left_over := [*desk.at_work, *self._unread]:
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                self._log.problem(f"ending with {len(left_over)} calls not done")
                return False
            await asyncio.wait(left_over, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        self._log.say("ended")
        return True

    def _connection(self, desk: Desk) -> Connection:
        received = asyncio.get_running_loop().create_future()
        self._unread.add(received)
        received.add_done_callback(self._unread.discard)
        return Connection(self._admit, desk.take, self._log.problem, received)

    def _told_to_end(self) -> None:
        if self._ending.is_set():
            self._log.problem("told to end twice: ending at once")
            os._exit(1)
        self._ending.set()

    async def _feed_watchdog(self) -> None:
        seconds = self._notifier.watchdog_seconds(os.getpid())
        while seconds is not None:
            self._notifier.tell("WATCHDOG=1")
            await asyncio.sleep(seconds / 2)


def _everybody(_sock: socket.socket) -> str:
    return ""
