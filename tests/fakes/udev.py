"""A udev without waiting: time is a number, and what happens late happens when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmgr.uevents import EventsLost, Uevent

T = TypeVar("T")


class FakeMonitor:
    """See hwmgr.uevents.Monitor; ``queue`` is what comes next."""

    def __init__(self) -> None:
        self.queue: list[Uevent | EventsLost] = []

    def next(self, timeout: float) -> Uevent | EventsLost | None:
        return self.queue.pop(0) if self.queue else None


class FakeUdev:
    """See hwmgr.udev.Udev. ``later`` holds what happens while somebody waits, one at a look."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.later: list[Callable[[], None]] = []
        self.unsettled: set[int] = set()
        self.listening = FakeMonitor()

    def wait(self, condition: Callable[[], T | None], timeout: float) -> T | None:
        answer = condition()
        if answer is not None:
            return answer
        self.waits.append(timeout)
        while self.later:
            self.later.pop(0)()
            self.now += 0.1
            answer = condition()
            if answer is not None:
                return answer
        self.now += max(timeout, 0)
        self.unsettled.clear()
        return condition()

    def settled(self, ifindex: int) -> bool:
        return ifindex not in self.unsettled

    def monitor(self) -> FakeMonitor:
        return self.listening

    def clock(self) -> float:
        """Return seconds since the epoch, moved on by every wait."""
        return 1_700_000_000.0 + self.now
