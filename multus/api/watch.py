"""One kind of objects as an API server tells of them: a list, then its changes, for ever.

The stream is ended by the server from time to time, breaks, or is silent for longer than bookmarks
let it be. What was a good stream is taken up again at once where it ended; everything else (a
stream that never was one, an ERROR, a version that the server has forgotten) begins with a new
list, after a pause that grows. Between two streams nothing is certain, and the sink is told so.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from multus.api.clusterapi import ApiError, ApiUnreachableError
from multus.jsonfields import FieldError, Fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from multus.api.clusterapi import Stream, WatchApi
    from multus.clock import Clock
    from multus.jsonfields import Json


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """Seconds of a watch.

    ``request`` bounds a list, and a stream's beginning. ``stream`` is how long the server is asked
    to go on, twice as long at most: clients of Kubernetes' own ask for 5 to 10 minutes, too.
    ``silence`` is half more than kube-apiserver lets pass between two bookmarks (a minute); it
    has none while nothing changes (1.20: nothing of that kind), so the stream is begun again then.
    A stream that lived for ``settled`` was a good one. One that goes on from where another broke
    begins with what was missed meanwhile, for which it gets ``catching_up``. Pauses grow from
    ``first_pause`` to ``longest_pause``.
    """

    request: float = 10.0
    stream: float = 300.0
    silence: float = 90.0
    settled: float = 1.0
    catching_up: float = 0.5
    first_pause: float = 0.2
    longest_pause: float = 30.0


class Sink(Protocol):
    """Who is told. All of it comes from the watch's own thread."""

    def trim(self, obj: Json) -> Json:
        """Return what it keeps of an object; of what it has kept, the same."""

    def replace(self, objects: Iterable[Json]) -> None:
        """Take these for all that there is."""

    def opened(self, catching_up: float) -> None:
        """From now on every change is told, and what was missed within that many seconds."""

    def apply(self, kind: str, obj: Json) -> None:
        """Take a change: ADDED, MODIFIED or DELETED."""

    def heard(self) -> None:
        """Nothing has changed up to now."""

    def lost(self, why: str) -> None:
        """What was told may be out of date, until ``opened``."""


class Watch:
    """A watch in a thread of its own, from ``start`` to ``close``.

    A fault of ours that ends the thread leaves the sink lost, so that nobody trusts it any more.
    """

    def __init__(
        self,
        api: WatchApi,
        path: str,
        query: Mapping[str, str],
        sink: Sink,
        clock: Clock,
        limits: WatchLimits | None = None,
        *,
        cached_list: bool = False,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Prepare it. ``cached_list``: the list may be what the server has at hand.

        ``chance`` returns a number from 0 to 1; it keeps the nodes of a cluster from asking in
        step.
        """
        self._api, self._path, self._query = api, path, query
        self._sink, self._clock = sink, clock
        self._limits = limits or WatchLimits()
        self._listed: Mapping[str, str] = {"resourceVersion": "0"} if cached_list else {}
        self._chance = chance
        self._version: str | None = None
        self._failures = 0
        self._broke = False
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        name = f"multus-watch-{path.rpartition('/')[2]}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End it: at once while it reads or pauses, within ``request`` while it asks."""
        with self._lock:
            self._ended.set()
            stream = self._stream
        if stream is not None:
            stream.close()

    def join(self, seconds: float) -> bool:
        """Wait until it has ended; False when it has not in that time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._round()
        finally:
            self._sink.lost("the watch has ended")

    def _round(self) -> None:
        """List unless there is something to go on from, follow the stream, pause if it was bad."""
        opened: float | None = None
        why = "the server ended the stream"
        try:
            if self._version is None:
                self._version = self._list()
                self._broke = False
            stream = self._begin(self._version)
            try:
                stream.open()
                opened = self._clock.monotonic()
                self._sink.opened(self._limits.catching_up if self._broke else 0.0)
                for event in stream:
                    self._take(event)
                self._broke = False
            finally:
                self._stream = None
                stream.release()
        except ApiError as error:
            why = str(error)
            self._broke = True
        self._sink.lost(why)
        if opened is not None and self._clock.monotonic() - opened >= self._limits.settled:
            self._failures = 0
            return
        self._version = None
        self._ended.wait(self._pause())

    def _pause(self) -> float:
        limits = self._limits
        # 2 ** 16 is beyond any pause; the exponent must not grow for days.
        longest = min(limits.first_pause * 2.0 ** min(self._failures, 16), limits.longest_pause)
        self._failures += 1
        return longest * (0.5 + self._chance() / 2)

    def _list(self) -> str:
        query = {**self._query, **self._listed}
        found = self._api.list(
            self._path, timeout=self._limits.request, query=query, trim=self._sink.trim
        )
        try:
            items = Fields(found, "the list").objects("items") or []
        except FieldError as error:
            raise ApiUnreachableError(self._path, str(error)) from error
        version = self._version_of(found)
        self._sink.replace(items)
        return version

    def _begin(self, version: str) -> Stream:
        limits = self._limits
        seconds = max(int(limits.stream * (1 + self._chance())), 1)
        stream = self._api.watch(
            self._path,
            timeout=limits.request,
            silence=limits.silence,
            query={
                **self._query,
                "allowWatchBookmarks": "true",
                "resourceVersion": version,
                "timeoutSeconds": str(seconds),
            },
        )
        with self._lock:
            if self._ended.is_set():
                stream.close()
            self._stream = stream
        return stream

    def _take(self, event: Json) -> None:
        kind, obj = event.get("type"), event.get("object")
        if not isinstance(obj, dict):
            raise ApiUnreachableError(self._path, "an event without an object")
        if kind == "ERROR":
            # What the server means by it is no matter: it has lost the thread.
            self._version = None
            code = obj.get("code")
            status = code if isinstance(code, int) else None
            raise ApiError(self._path, str(obj.get("message")), status)
        version = self._version_of(obj)
        if kind in ("ADDED", "MODIFIED", "DELETED"):
            self._sink.apply(str(kind), obj)
        else:
            self._sink.heard()
        self._version = version

    def _version_of(self, obj: Json) -> str:
        meta = obj.get("metadata")
        version = meta.get("resourceVersion") if isinstance(meta, dict) else None
        if not isinstance(version, str) or not version:
            raise ApiUnreachableError(self._path, "something without a resourceVersion")
        return version
