"""Who may work now: calls for one container one after another, and only so many at once.

Everything but the work itself happens on the event loop's thread, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

T = TypeVar("T")


class Gate:
    """Lets ``width`` in at once, first come, first served; who gives up waiting is skipped."""

    def __init__(self, width: int) -> None:
        self._free = width
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def unused(self) -> bool:
        """Tell whether nobody is inside of a gate of width 1, and nobody waits."""
        return self._free > 0

    async def enter(self) -> None:
        """Wait for a place; cancelling the wait gives the place up."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.leave()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Give the place to the next who still waits for one."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Dispatcher:
    """Gives calls their turn and a worker thread.

    A call that waits for its container occupies no worker. A nested call, made by a plugin on
    behalf of a call that is at work, has its own thread at once: its outer call waits for it, so
    neither may it wait for that one nor for a worker.

    Of all ``workers`` so many are ``reserved`` for tasks that must get on while the others hang.
    """

    def __init__(self, workers: int, reserved: int = 0) -> None:
        self.workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="call")
        self._gate = Gate(workers)
        self._unreserved = Gate(workers - reserved)
        self._containers: dict[str, Gate] = {}
        self._in_line = 0
        self._busy = 0

    @property
    def waiting(self) -> int:
        """How many calls wait for their container or for a worker."""
        return self._in_line + self._unreserved.waiting + self._gate.waiting

    @property
    def busy(self) -> int:
        """How many calls are at work."""
        return self._busy

    @asynccontextmanager
    async def turn(self, container_id: str) -> AsyncIterator[None]:
        """Hold the turn of a container for the block; "" is no container, and always free."""
        if not container_id:
            yield
            return
        line = self._containers.setdefault(container_id, Gate(1))
        try:
            self._in_line += 1
            try:
                await line.enter()
            finally:
                self._in_line -= 1
            try:
                yield
            finally:
                line.leave()
        finally:
            # One that gave up waiting may come here last, when the container has another line.
            if line.unused and self._containers.get(container_id) is line:
                del self._containers[container_id]

    async def work(
        self, task: Callable[[], T], begins: Callable[[], None], *, reserved: bool = False
    ) -> T:
        """Have a worker do a task; ``begins`` hears when there is one, and may still raise.

        With ``reserved`` it may be any worker.
        """
        if reserved:
            return await self._by_any(task, begins)
        await self._unreserved.enter()
        try:
            return await self._by_any(task, begins)
        finally:
            self._unreserved.leave()

    async def _by_any(self, task: Callable[[], T], begins: Callable[[], None]) -> T:
        await self._gate.enter()
        self._busy += 1
        try:
            begins()
            return await asyncio.get_running_loop().run_in_executor(self._pool, task)
        finally:
            self._busy -= 1
            self._gate.leave()

    async def work_beside(self, task: Callable[[], T]) -> T:
        """Have a thread of its own do a task."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = task()
            except Exception as error:  # noqa: BLE001 it is raised where the task was given
                loop.call_soon_threadsafe(done.set_exception, error)
            else:
                loop.call_soon_threadsafe(done.set_result, result)

        threading.Thread(target=run, name="nested", daemon=True).start()
        return await done
