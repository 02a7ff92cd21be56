"""One call at work: its configuration, its state folders, its deadlines, its log."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multus import cnitypes
from multus.clock import Deadlines
from multus.cnitypes import CNIError
from multus.intents import Intents
from multus.savedstate import SavedState
from multus.undo import Undo

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from multus.cnitypes import CmdArgs
    from multus.config import NetConf
    from multus.doors import Doors
    from multus.logs import Log

_READY_POLL_SECONDS = 0.25
_READY_SECONDS = 45.0
_NOT_READY = "the default network is not ready"
_MISSING = (
    "is still not there, which readinessindicatorfile names and that network's own agent writes"
    " (do its pods run on this node?)"
)


@dataclass(frozen=True, slots=True)
class Session:
    """What every verb works with."""

    doors: Doors
    args: CmdArgs
    conf: NetConf
    path: tuple[str, ...]
    deadlines: Deadlines
    intents: Intents
    saved: SavedState
    undo: Undo
    log: Log

    @classmethod
    def begin(cls, doors: Doors, args: CmdArgs, conf: NetConf) -> Session:
        """Start the clock of a call and open what it needs; nothing is written yet."""
        log = doors.open_log(conf.log)
        path = plugin_folders(conf.bin_dir, args.path)
        intents = Intents(doors.state)
        saved = SavedState(doors.open_state(conf.cni_dir))
        return cls(
            doors=doors,
            args=args,
            conf=conf,
            path=path,
            deadlines=Deadlines.starting(doors.clock.monotonic(), doors.limits),
            intents=intents,
            saved=saved,
            undo=Undo(doors, intents, saved, path, log),
            log=log,
        )

    def locked(
        self, container_id: str, timeout: float | None = None
    ) -> AbstractContextManager[None]:
        """Hold the container's lock, the outermost of all; raises LockTimeout."""
        from hwmgr.locks import Locks

        left = self.deadlines.forward - self.doors.clock.monotonic()
        limit = max(left, 0.0) if timeout is None else timeout
        return Locks(self.doors.state, limit).container(container_id)

    def for_others(self) -> float:
        """Return until when this call may work off what others left for later."""
        return self.deadlines.for_others(self.doors.clock.monotonic())

    def require_ready(self) -> None:
        """See that the default network is ready; raises CNIError 50."""
        path = self.conf.readiness_indicator_file
        if path and not os.path.exists(path):
            raise CNIError(cnitypes.NOT_AVAILABLE, f"{_NOT_READY}: {path} {_MISSING}")

    def wait_until_ready(self) -> None:
        """Wait for the readiness file of the default network; raises CNIError 11 at the limit."""
        path = self.conf.readiness_indicator_file
        if not path or os.path.exists(path):
            return
        clock = self.doors.clock
        began = clock.monotonic()
        give_up = min(began + _READY_SECONDS, self.deadlines.forward)
        self.log.detail(f"waiting for {path}, {give_up - began:.0f} s at most")
        while not os.path.exists(path):
            now = clock.monotonic()
            if now >= give_up:
                raise CNIError(
                    cnitypes.TRY_AGAIN_LATER,
                    f"{_NOT_READY}: after {now - began:.0f} s {path} {_MISSING}",
                )
            # The file's folder may not exist yet, so there is nothing that could be watched; and
            # inotify does not tell of what is done to an overlay from below.
            clock.sleep(_READY_POLL_SECONDS)


def plugin_folders(bin_dir: str, cni_path: str) -> tuple[str, ...]:
    """Return where plugins are looked for: binDir before CNI_PATH.

    An empty item would mean the working folder of whoever started the runtime; it is left out.
    """
    folders = [folder for folder in (bin_dir, *cni_path.split(":")) if folder]
    return tuple(dict.fromkeys(folders))
