"""One QEMU process: start or restore it, talk to its agent, end it."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from labvm import machine, parcel
from labvm.errors import MachineError, TimeIsUpError
from labvm.qmp import Monitor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from labvm.cache import Image

BOOT_SECONDS = 180.0
ANSWER_SECONDS = 20.0  # for what takes well under one when all is well
CONSOLE_TAIL = 3000


class Session:
    """A machine that runs; use it in a `with` statement, whose end is the machine's end, too.

    With `state`, a disk that is made if it is missing, the machine boots with systemd.
    """

    def __init__(self, image: Image, *, numa: bool, state: Path | None = None) -> None:
        self._image = image
        self._numa = numa
        self._folder = tempfile.TemporaryDirectory(prefix="run-", dir=image.folder.parent)
        base = Path(self._folder.name)
        self._console = base / "console"
        self._complaints = base / "qemu"  # what QEMU itself says, of interest only when it fails
        self.disks = machine.Disks(base / "parcel", base / "results", state)
        parcel.make_empty(self.disks.parcel, parcel.PARCEL_BYTES)
        parcel.make_empty(self.disks.results, parcel.RESULTS_BYTES)
        if state is not None:
            parcel.make_state(state)
        self._ports: dict[str, socket.socket] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._monitor: Monitor | None = None
        self._pending = b""  # of the control port: less than a line

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the machine, at once, and remove its files."""
        if self._process is not None:
            self._process.kill()
        self._ended(None)
        self._folder.cleanup()

    def _ended(self, timeout: float | None) -> None:
        if self._process is not None:
            self._process.wait(timeout)
        for port in self._ports.values():
            port.close()
        self._pending = b""

    def boot(self) -> None:
        """Start the machine from nothing and wait until its agent is ready."""
        self._start([])
        self._expect("ready", BOOT_SECONDS)

    def boot_again(self) -> None:
        """Wait until the guest, told to shut down, has done so; then start it with the same disks.

        Raises MachineError when it does not shut down.
        """
        try:
            self._ended(BOOT_SECONDS)
        except subprocess.TimeoutExpired:
            msg = f"the guest has not shut down within {BOOT_SECONDS:g} s"
            raise MachineError(msg, self.console_tail()) from None
        self.boot()

    def restore(self, snapshot: Path) -> None:
        """Start the machine from a snapshot; raises MachineError when it does not come to life."""
        monitor = self._start(["-incoming", "defer"])
        monitor.load(str(snapshot))
        self._send({"do": "wake"})
        self._expect("awake", ANSWER_SECONDS)

    def save(self, snapshot: Path) -> None:
        """Write a snapshot. The machine stands still afterwards."""
        if self._monitor is None:
            msg = "the machine has not been started"
            raise MachineError(msg)
        self._monitor.save(str(snapshot))

    def _start(self, extra: Sequence[str]) -> Monitor:
        argv = machine.arguments(self._image, self.disks, self._console, numa=self._numa)
        theirs: dict[str, socket.socket] = {}
        for name in ("monitor", *machine.PORTS):
            self._ports[name], theirs[name] = socket.socketpair()
        argv += machine.port_arguments({name: end.fileno() for name, end in theirs.items()})
        with self._complaints.open("wb") as complaints:
            # setpriv: should this process be killed, the machine does not outlive it.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv, *extra],
                stdin=subprocess.DEVNULL,
                stdout=complaints,
                stderr=complaints,
                pass_fds=[end.fileno() for end in theirs.values()],
            )
        for end in theirs.values():
            end.close()
        try:
            self._monitor = Monitor(self._ports["monitor"], BOOT_SECONDS)
        except (MachineError, OSError) as error:
            raise MachineError(f"QEMU did not start: {error}", self.console_tail()) from error
        return self._monitor

    def run(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        parcel_length: int,
        timeout: float,
        streams: Mapping[str, BinaryIO],
        terminal: tuple[int, int, str] | None = None,
        stdin: BinaryIO | None = None,
    ) -> tuple[int, bool]:
        """Run a command in the guest; return its status and whether it left results.

        What it writes goes to streams as it comes, what stdin has goes to its terminal.
        timeout is in seconds; raises TimeIsUpError after it, MachineError when the machine ends.
        """
        deadline = time.monotonic() + timeout
        self._send(
            {
                "do": "run",
                "argv": list(argv),
                "env": dict(environment),
                "parcel": parcel_length,
                "now": time.time(),
                "seed": secrets.token_hex(32),
                "terminal": terminal,
            }
        )
        seen = {"stdout": 0, "stderr": 0}
        ended: dict[str, object] | None = None

        with selectors.DefaultSelector() as selector:
            selector.register(self._ports["control"], selectors.EVENT_READ, "control")
            for name in seen:
                selector.register(self._ports[name], selectors.EVENT_READ, name)
            if stdin is not None:
                selector.register(stdin, selectors.EVENT_READ, "stdin")
            while ended is None or any(seen[name] != ended[name] for name in seen):
                left = deadline - time.monotonic()
                ready = selector.select(left) if left > 0 else []
                if not ready:
                    msg = f"not done after {timeout:g} s: the machine was stopped"
                    raise TimeIsUpError(msg, self.console_tail())
                for key, _ in ready:
                    if key.data == "control":
                        ended = self._event("exit") or ended
                    elif key.data == "stdin":
                        self._ports["stdin"].sendall(os.read(key.fd, 4096))
                    else:
                        data = self._receive(key.data)
                        streams[key.data].write(data)
                        streams[key.data].flush()
                        seen[key.data] += len(data)
        return int(str(ended["status"])), bool(ended["out"])

    def _send(self, message: Mapping[str, object]) -> None:
        self._ports["control"].sendall(json.dumps(message).encode() + b"\n")

    def _receive(self, name: str) -> bytes:
        try:
            data = self._ports[name].recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            msg = "the machine ended by itself"
            raise MachineError(msg, self.console_tail())
        return data

    def _event(self, kind: str) -> dict[str, object] | None:
        """Read what the control port has; return the event of this kind if it is complete."""
        self._pending += self._receive("control")
        while b"\n" in self._pending:
            line, _, self._pending = self._pending.partition(b"\n")
            event: dict[str, object] = json.loads(line)
            if event["event"] == kind:
                return event
        return None

    def _expect(self, kind: str, timeout: float) -> None:
        port = self._ports["control"]
        deadline = time.monotonic() + timeout
        while True:
            port.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                if self._event(kind) is not None:
                    port.settimeout(None)
                    return
            except TimeoutError:
                msg = f"no {kind!r} from the guest's agent within {timeout:g} s"
                raise MachineError(msg, self.console_tail()) from None

    def console_tail(self) -> str:
        """Return the end of what the guest wrote to its console."""
        return "".join(
            path.read_text(encoding="utf-8", errors="replace")[-CONSOLE_TAIL:]
            for path in (self._complaints, self._console)
            if path.exists()
        )
