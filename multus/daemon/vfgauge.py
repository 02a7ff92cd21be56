"""How many VFs are in which state, looked at when somebody asks, and not too often."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from hwmgr.errors import HwmgrError
from hwmgr.inventory import inventory
from hwmgr.model import VFState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwmgr.node import Node
    from multus.clock import Clock

# A node with a thousand VFs is looked through in a tenth of a second or so.
_FRESH_SECONDS = 5.0


class VFGauge:
    """Counts the VFs of a node; any thread may ask."""

    def __init__(self, node: Node, clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: Mapping[tuple[str, ...], float] = {}
        self._until = float("-inf")

    def read(self) -> Mapping[tuple[str, ...], float]:
        """Return the number of VFs by state; nothing when they cannot be looked at."""
        with self._lock:
            if self._clock.monotonic() >= self._until:
                self._seen = self._look()
                self._until = self._clock.monotonic() + _FRESH_SECONDS
            return self._seen

    def _look(self) -> Mapping[tuple[str, ...], float]:
        try:
            found = Counter(info.state for info in inventory(self._node))
        except HwmgrError:
            return {}
        return {(state.value,): float(found[state]) for state in VFState}
