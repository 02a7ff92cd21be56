"""A daemon for the tests: a process in the host's namespace, asked by frames and by HTTP."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwmgr import frames
from tests.functional.node import Done, Node, environment, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

READY_SECONDS = 30.0
MODULE = "multus.daemon.main"


@dataclass
class Http:
    """An answer by HTTP."""

    status: int
    head: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class DaemonProcess:
    """One multus-daemon, below a folder; it can be killed and started again.

    ``enter`` is the command that it is started with. ``config`` goes to the end of its node
    configuration, into the section that is named.
    """

    def __init__(
        self,
        root: Path,
        state_dir: Path,
        enter: Sequence[str],
        config: str = "",
        *options: str,
        section: str = "log",
        name: str = "daemon",
    ) -> None:
        self.root, self._state_dir, self._enter = root, state_dir, tuple(enter)
        self.socket = str(root / f"{name}.run" / "multus.sock")
        self.log = root / f"{name}.log"
        self._config = root / f"{name}.yaml"
        sections = {
            "log": f"log:\n  target: {self.log}\n",
            "daemon": f"daemon:\n  socket: {self.socket}\n",
        }
        last = sections.pop(section)
        self._config.write_text("".join(sections.values()) + last + config)
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens: it says so on a socket as systemd's."""
        assert self.process is None or self.process.poll() is not None
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = self.root / "notify"
        path.unlink(missing_ok=True)
        notify.bind(str(path))
        notify.settimeout(READY_SECONDS)
        with notify:
            self.launch(self.started_with())
            assert notify.recv(64) == b"READY=1"

    def launch(self, env: Mapping[str, str]) -> None:
        """Start the process."""
        self.process = subprocess.Popen(self.argv(), env=env)

    def started_with(self) -> dict[str, str]:
        """Return its environment."""
        return {**self._env(), "NOTIFY_SOCKET": str(self.root / "notify")}

    def run_to_end(self) -> Done:
        """Run one that is expected to end by itself."""
        return run(self.argv(), self._env())

    def argv(self) -> list[str]:
        """Return the command that starts it."""
        return [*self._enter, sys.executable, "-m", MODULE, *self._options]

    def _env(self) -> dict[str, str]:
        return environment(self._state_dir, self._config)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 30.0) -> int:
        """Ask it to end; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = 30.0) -> int:
        """Wait for its end; returns the exit status."""
        assert self.process is not None
        return self.process.wait(seconds)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


class RunningDaemon(DaemonProcess):
    """The daemon of a node, and who calls it."""

    def __init__(self, node: Node, config: str = "", *options: str, **how: str) -> None:
        super().__init__(node.root, node.state_dir, node.enter, config, *options, **how)
        self.node = node

    def call(self, command: str, conf: Mapping[str, Any], **about: str) -> Done:
        """Make a framed call and wait for the answer; see begin."""
        with self.begin(command, conf, **about) as sock:
            answer = frames.decode_answer(read_all(sock))
        return Done(answer.status, answer.stdout.decode(), answer.stderr.decode())

    def begin(
        self,
        command: str,
        conf: Mapping[str, Any],
        *,
        container_id: str = "c1",
        ifname: str = "eth0",
        program: str = "multus",
        **env: str,
    ) -> socket.socket:
        """Send a framed call; the answer can be read from what is returned."""
        whole = {**self.node.env(command, container_id, ifname), **env}
        stdin = json.dumps(self.node.whole(conf)).encode()
        sock = self.connect()
        try:
            sock.sendall(frames.encode_call(frames.Call(program, whole, stdin)))
        except OSError:
            sock.close()
            raise
        return sock

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(60.0)
        try:
            sock.connect(self.socket)
        except OSError:
            sock.close()
            raise
        return sock

    def http(self, method: str, path: str, body: bytes | None = None) -> Http:
        """Make a request by HTTP."""
        with self.begin_http(method, path, body) as sock:
            return parse_http(read_all(sock))

    def begin_http(self, method: str, path: str, body: bytes | None = None) -> socket.socket:
        """Send a request by HTTP; the answer can be read from what is returned."""
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: dummy\r\n{length}\r\n"
        sock = self.connect()
        try:
            sock.sendall(head.encode() + (body or b""))
        except OSError:
            sock.close()
            raise
        return sock

    def go(self, command: str, conf: Mapping[str, Any], **about: Any) -> Http:
        """Make a call in the form of multus-cni's shim; see begin_go."""
        with self.begin_go(command, conf, **about) as sock:
            return parse_http(read_all(sock))

    def begin_go(
        self,
        command: str,
        conf: Mapping[str, Any],
        *,
        container_id: str = "c1",
        ifname: str = "eth0",
        path: str = "/cni",
        **more: Any,
    ) -> socket.socket:
        """Send a call in the form of multus-cni's shim; the answer can be read from the socket."""
        env = {"CNI_ARGS": "", **self.node.env(command, container_id, ifname)}
        config = base64.b64encode(json.dumps(self.node.whole(conf)).encode()).decode()
        body = {"env": env, "config": config, **more}
        return self.begin_http("POST", path, json.dumps(body).encode())


class ActivatedDaemon(RunningDaemon):
    """One that gets its socket from a service manager, which keeps it."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        os.mkdir(os.path.dirname(self.socket), 0o700)
        self._kept = socket.socket(socket.AF_UNIX)
        self._kept.bind(self.socket)
        self._kept.listen(16)

    def launch(self, env: Mapping[str, str]) -> None:
        fd = self._kept.fileno()
        script = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3);"
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
            "os.execvp(sys.argv[2], sys.argv[2:])"
        )
        argv = [sys.executable, "-c", script, str(fd), *self.argv()]
        self.process = subprocess.Popen(argv, env=env, pass_fds=(fd,))

    def close(self) -> None:
        super().close()
        self._kept.close()


def read_all(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def parse_http(data: bytes) -> Http:
    head, _, body = data.partition(b"\r\n\r\n")
    text = head.decode()
    return Http(int(text.split(" ")[1]), text, body)


def eventually(what: Any, seconds: float = 10.0) -> None:
    """Wait until something is true that nothing tells of."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
