"""A plugin whose calls are counted by its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from multus.cnitypes import CNIError
from multus.jsonfields import Fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from multus.clock import Clock
    from multus.daemon.metrics import Histogram
    from multus.delegates import DelegateCall, PluginRunner

T = TypeVar("T")


class MeasuredPlugin:
    """Has another runner do the work, and adds what it took to a histogram."""

    def __init__(self, runner: PluginRunner, histogram: Histogram, clock: Clock) -> None:
        self._runner = runner
        self._histogram = histogram
        self._clock = clock

    def add(self, call: DelegateCall) -> Mapping[str, object]:
        """See PluginRunner.add."""
        return self._measured(call, self._runner.add)

    def check(self, call: DelegateCall) -> None:
        """See PluginRunner.check."""
        self._measured(call, self._runner.check)

    def delete(self, call: DelegateCall) -> None:
        """See PluginRunner.delete."""
        self._measured(call, self._runner.delete)

    def gc(self, call: DelegateCall) -> None:
        """See PluginRunner.gc."""
        self._measured(call, self._runner.gc)

    def status(self, call: DelegateCall) -> None:
        """See PluginRunner.status."""
        self._measured(call, self._runner.status)

    def release_container(self, container_id: str) -> None:
        """Let go of whatever the plugin holds for a container, if it is one that can."""
        release = getattr(self._runner, "release_container", None)
        if release is not None:
            release(container_id)

    def _measured(self, call: DelegateCall, verb: Callable[[DelegateCall], T]) -> T:
        begun, outcome = self._clock.monotonic(), "999"
        try:
            result = verb(call)
            outcome = "ok"
        except CNIError as error:
            outcome = str(error.code)
            raise
        finally:
            kind = call.plugin or Fields(call.conf, "the configuration").text("type")
            took = self._clock.monotonic() - begun
            self._histogram.add((kind, call.command, outcome), took)
        return result
