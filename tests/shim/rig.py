"""A shim in a folder of its own, a daemon that does as a test says, and a thin program."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hwmgr import frames
from hwmgr.frames import Answer, Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "multus" / "shim"
CONTAINER = "c0ffee"
BASE = {
    "CNI_CONTAINERID": CONTAINER,
    "CNI_IFNAME": "eth0",
    "CNI_NETNS": "/proc/1/ns/net",
    "CNI_PATH": "/opt/cni/bin",
}
# Stands in for the installed programs: says what it was given.
THIN = """#!/bin/sh
echo "thin $0 $CNI_COMMAND $CNI_CONTAINERID"
cat
exit 7
"""


def build(*options: str) -> Path:
    """Compile the shim; returns the executable."""
    done = subprocess.run(
        [ROOT / "scripts" / "build-shim", *options], stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(done.stdout.strip())


@dataclass(frozen=True)
class Done:
    """How a shim ended."""

    status: int
    stdout: bytes
    stderr: bytes

    def error(self) -> dict[str, Any]:
        """Return the error document, which must be all that was printed."""
        assert self.status == 1, self
        document: dict[str, Any] = json.loads(self.stdout)
        assert set(document) == {"cniVersion", "code", "msg", "details"}
        return document


@dataclass(frozen=True)
class Shim:
    """The programs in their folder, with settings, a spool and a socket beside them."""

    folder: Path
    kind: str

    @property
    def socket(self) -> Path:
        return self.folder / "s"

    @property
    def spool(self) -> Path:
        return self.folder / "state" / "spool"

    @property
    def conf(self) -> Path:
        return self.folder / "bin" / "hwmgr-shim.conf"

    def configure(self, **settings: object) -> None:
        """Write the settings: those that every test has, and more; None leaves one out."""
        values = {"socket": self.socket, "spool": self.spool, "connect_ms": 0, "answer_ms": 20000}
        lines = [
            f"{key}={value}" for key, value in {**values, **settings}.items() if value is not None
        ]
        self.conf.write_text("# settings\n\n" + "\n".join(lines) + "\n")

    def thin(self) -> Path:
        """Make a folder of thin programs; returns it."""
        made = self.folder / "thin"
        made.mkdir()
        for name in ("multus", "sriov"):
            (made / name).write_text(THIN)
            (made / name).chmod(0o755)
        return made

    def start(
        self,
        command: str,
        program: str = "multus",
        *,
        env: Mapping[str, str] | None = None,
        **streams: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a call; stdin, stdout and stderr as for Popen."""
        environment = {**BASE, "CNI_COMMAND": command, **(env or {})}
        pipe = subprocess.PIPE
        whole: dict[str, Any] = {"stdin": pipe, "stdout": pipe, "stderr": pipe, **streams}
        return subprocess.Popen([self.folder / "bin" / program], env=environment, **whole)

    def run(self, command: str, given: bytes = b"{}", program: str = "multus", **more: Any) -> Done:
        """Do a call to its end."""
        with self.start(command, program, **more) as process:
            sent = given if process.stdin is not None else None
            stdout, stderr = process.communicate(sent, timeout=60)
            return Done(process.returncode, stdout or b"", stderr or b"")

    def spooled(self) -> list[Call]:
        """Return what is in the spool, which must hold nothing half-made."""
        names = sorted(os.listdir(self.spool)) if self.spool.exists() else []
        assert not [name for name in names if name.startswith(".")]
        return [frames.decode_call((self.spool / name).read_bytes()) for name in names]


@dataclass
class FakeDaemon:
    """Listens, keeps the calls, and answers each as ``behave`` does with its connection."""

    path: Path
    answer: Answer | bytes = field(default_factory=lambda: Answer(0, b"{}\n"))
    behave: Callable[[socket.socket], object] | None = None
    calls: list[Call] = field(default_factory=list)

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._listener = undo.enter_context(socket.socket(socket.AF_UNIX))
            self._listener.bind(str(self.path))
            self._listener.listen(64)
            self._thread = threading.Thread(target=self._serve)
            self._thread.start()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._undo.close()
        self.path.unlink()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(ConnectionError):
                (self.behave or self.reply)(connection)

    def reply(self, connection: socket.socket) -> None:
        """Take a call and answer it."""
        self.calls.append(take(connection))
        whole = self.answer
        data = whole if isinstance(whole, bytes) else frames.encode_answer(whole)
        connection.sendall(data)


def take(connection: socket.socket) -> Call:
    """Read one whole call."""
    head = receive(connection, frames.HEADER_BYTES)
    read = frames.read_head(head)
    return frames.read_body(read, receive(connection, read.env_bytes + read.stdin_bytes))


def receive(connection: socket.socket, count: int) -> bytes:
    """Read so many bytes."""
    data = bytearray()
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError("the shim went away")
        data += part
    return bytes(data)
