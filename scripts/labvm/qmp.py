"""QEMU's monitor: commands and their answers over its JSON protocol."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from labvm.errors import MachineError

if TYPE_CHECKING:
    import socket

POLL = 0.02  # seconds: a migration's end is not announced unless events are negotiated


class Monitor:
    """One conversation with one QEMU."""

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        connection.settimeout(timeout)
        self._file = connection.makefile("rw", encoding="utf-8")
        self._receive()  # the greeting
        self.call("qmp_capabilities")

    def call(self, command: str, **arguments: object) -> dict[str, object]:
        """Run one command and return what it answers; raises MachineError when it refuses."""
        try:
            self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            self._file.flush()
            while True:
                answer = self._receive()
                if "error" in answer:
                    msg = f"QEMU refuses {command}: {answer['error']}"
                    raise MachineError(msg)
                if "return" in answer:
                    found = answer["return"]
                    return found if isinstance(found, dict) else {}
        except OSError as error:
            msg = f"QEMU does not answer {command}: {error}"
            raise MachineError(msg) from error

    def _receive(self) -> dict[str, object]:
        line = self._file.readline()
        if not line:
            msg = "QEMU ended"
            raise MachineError(msg)
        message: dict[str, object] = json.loads(line)
        return message

    def save(self, path: str) -> None:
        """Stop the machine and write its state to path."""
        self._use_mapped_ram()
        self.call("stop")
        self.call("migrate", uri=f"file:{path}")
        self._migrated()

    def load(self, path: str) -> None:
        """Take the state that `save` wrote, and let the machine go on from there."""
        self._use_mapped_ram()
        self.call("migrate-incoming", uri=f"file:{path}")
        self._migrated()
        self.call("cont")

    def _use_mapped_ram(self) -> None:
        # Memory at fixed places in the file, empty pages left out: quick to read.
        self.call(
            "migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}]
        )

    def _migrated(self) -> None:
        while True:
            state = self.call("query-migrate")
            if state.get("status") == "completed":
                return
            if state.get("status") == "failed":
                msg = f"the snapshot failed: {state.get('error-desc', 'QEMU gives no reason')}"
                raise MachineError(msg)
            time.sleep(POLL)
