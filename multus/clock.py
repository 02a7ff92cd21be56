"""Time as a door: deadlines on the monotonic clock, the wall clock for records."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """What the engine wants to know of time."""

    def monotonic(self) -> float:
        """Return seconds that never jump."""

    def now(self) -> str:
        """Return the wall clock as RFC 3339 in UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait, where there is no event to wait for."""


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """See Clock.monotonic."""
        return time.monotonic()

    def now(self) -> str:
        """See Clock.now."""
        return stamp(time.time())

    def sleep(self, seconds: float) -> None:
        """See Clock.sleep."""
        time.sleep(seconds)


def stamp(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a whole call with its rollback may take, and one delegate's part of it.

    The defaults stay below the two minutes after which kubelet gives up and forgets us
    (kuberuntime's runtimeRequestTimeout).
    """

    whole: float = 90.0
    delegate: float = 60.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """When a call must be over: attaching ends at ``forward``, undoing it at ``final``."""

    forward: float
    final: float
    per_delegate: float

    @classmethod
    def starting(cls, now: float, limits: Limits) -> Deadlines:
        """Begin a call. A quarter of the time is kept back for undoing what was begun."""
        whole = limits.whole
        return cls(now + whole * 0.75, now + whole, limits.delegate)

    def for_attach(self, now: float) -> float:
        """Return the deadline of a delegate that starts now."""
        return min(now + self.per_delegate, self.forward)

    def for_others(self, now: float) -> float:
        """Return until when a call that starts now may work on what others left: half its time."""
        return now + max(self.forward - now, 0.0) / 2

    def for_undo(self, now: float, steps_left: int) -> float:
        """Return the deadline of one undo step: a fair share, so that a hung one starves none."""
        share = max((self.final - now) / max(steps_left, 1), 1.0)
        return now + min(self.per_delegate, share)
