"""What the daemon counts, in Prometheus' text form (exposition format 0.0.4).

The client library for Python is larger than all that is counted here: a few counters and two
histograms are written out by hand.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

KIND = "text/plain; version=0.0.4; charset=utf-8"
# Seconds: an in-process call takes milliseconds, kubelet gives up after two minutes.
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
# A network object can name any plugin type, and a family must not grow without end.
_MOST_SERIES = 500
_OTHER = "other"

Labels = tuple[str, ...]


class Histogram:
    """Counts and seconds by labels; any thread may add to it."""

    def __init__(self, name: str, text: str, labels: Labels) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._lock = threading.Lock()
        self._buckets: dict[Labels, list[int]] = {}
        self._seconds: dict[Labels, float] = {}

    def add(self, values: Labels, seconds: float) -> None:
        """Count one that took so long."""
        with self._lock:
            if values not in self._buckets and len(self._buckets) >= _MOST_SERIES:
                values = (_OTHER,) * len(values)
            buckets = self._buckets.setdefault(values, [0] * (len(_BOUNDS) + 1))
            buckets[bisect_left(_BOUNDS, seconds)] += 1
            self._seconds[values] = self._seconds.get(values, 0.0) + seconds

    def lines(self) -> Iterator[str]:
        """Give the family's lines."""
        yield f"# HELP {self._name} {self._text}"
        yield f"# TYPE {self._name} histogram"
        with self._lock:
            found = [(key, list(b), self._seconds[key]) for key, b in self._buckets.items()]
        for values, buckets, seconds in sorted(found):
            count = 0
            pairs = list(zip(self._labels, values, strict=True))
            for bound, more in zip([*map(_number, _BOUNDS), "+Inf"], buckets, strict=True):
                count += more
                yield f"{self._name}_bucket{_braces([*pairs, ('le', bound)])} {count}"
            yield f"{self._name}_sum{_braces(pairs)} {_number(round(seconds, 6))}"
            yield f"{self._name}_count{_braces(pairs)} {count}"


class Metrics:
    """All families of the daemon.

    ``gauges`` are read when somebody looks: a name and help text, and the values by labels.
    """

    def __init__(self) -> None:
        self.calls = Histogram(
            "multus_call_seconds",
            "Calls by program, verb and outcome, from the call's arrival to its answer.",
            ("program", "verb", "outcome"),
        )
        self.delegates = Histogram(
            "multus_delegate_seconds",
            "Plugins by type, verb and outcome (ok, or the code of the error).",
            ("type", "verb", "outcome"),
        )
        self.waits = Histogram(
            "multus_wait_seconds", "What calls waited for their container and a worker.", ()
        )
        self._gauges: list[tuple[str, str, Callable[[], Mapping[Labels, float]], Labels]] = []

    def gauge(
        self, name: str, text: str, read: Callable[[], Mapping[Labels, float]], labels: Labels = ()
    ) -> None:
        """Add a family whose values are read when somebody looks."""
        self._gauges.append((name, text, read, labels))

    def text(self) -> bytes:
        """Return everything, in Prometheus' text form."""
        lines = [*self.calls.lines(), *self.delegates.lines(), *self.waits.lines()]
        for name, text, read, labels in self._gauges:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
            for values, number in sorted(read().items()):
                pairs = list(zip(labels, values, strict=True))
                lines.append(f"{name}{_braces(pairs)} {_number(number)}")
        return ("\n".join(lines) + "\n").encode()


def _braces(pairs: list[tuple[str, str]]) -> str:
    if not pairs:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}"


def _escaped(value: str) -> str:
    plain = value.encode("utf-8", "replace").decode()
    return plain.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return f"{value:g}" if value != int(value) else str(int(value))
