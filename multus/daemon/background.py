"""Works off, beside the calls, the DELs that shims left while no daemon was there."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from multus.clock import Clock
    from multus.spooled import LeftCalls

# A shim that found no daemon may write its DEL after the daemon has looked for it.
_PAUSE_SECONDS = 30.0
_DRAIN_SECONDS = 60.0


class LeftCallsWorker:
    """One thread, from ``start`` to ``stop``; it never keeps the process from ending.

    ``tell`` hears of what it could not do in a way that nobody thought of. ``die`` ends the
    process, see Workshop.
    """

    def __init__(
        self,
        left: LeftCalls,
        clock: Clock,
        tell: Callable[[str], None],
        die: Callable[[str], NoReturn],
    ) -> None:
        self._left = left
        self._clock = clock
        self._tell = tell
        self._die = die
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="multus-left", daemon=True)

    def start(self) -> None:
        """Begin with all that is left now."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more."""
        self._ending.set()

    def _run(self) -> None:
        untouched = 0.0
        while not self._ending.is_set():
            try:
                self._left.drain_all(self._clock.monotonic() + _DRAIN_SECONDS, untouched)
            except SystemExit as error:
                self._die(str(error))
            except Exception as error:  # noqa: BLE001 - the thread must be there the next time
                self._tell(f"calls that were left for later stay left: {error!r}")
            untouched = _PAUSE_SECONDS
            self._ending.wait(_PAUSE_SECONDS)
