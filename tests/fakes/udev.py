"""A udev without waiting: time is a number, and what happens late happens when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class FakeUdev:
    """See hwmgr.udev.Udev. ``later`` holds what happens while somebody waits, one at a look."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.later: list[Callable[[], None]] = []
        self.unsettled: set[int] = set()

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

    def clock(self) -> float:
        """Return seconds since the epoch, moved on by every wait."""
        return 1_700_000_000.0 + self.now
