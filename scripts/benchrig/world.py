"""The benchmark's own world: namespaces, folders in memory, plugins, an API server, daemons."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchrig import programs
from benchrig.programs import Program

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).resolve().parents[2]
PLUGINS = "/usr/lib/cni"
_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass
class Daemon:
    """A running multus-daemon and where it is found."""

    pid: int
    socket: str
    state_dir: str

    def resident(self) -> float:
        """Return its resident memory in megabytes."""
        return self._status("VmRSS") / 1024

    def peak(self) -> float:
        """Return the most it has had, in megabytes."""
        return self._status("VmHWM") / 1024

    def _status(self, name: str) -> float:
        text = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in text.splitlines() if line.startswith(name + ":"))
        return float(line.split()[1])


@dataclass
class World:
    """Everything is below one folder in memory, and gone after the ``with`` block.

    The process is in network and mount namespaces of its own already (see scripts/bench).
    """

    python: str
    root: str = ""
    pods: list[str] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.root = self._stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm"))
        run("ip", "link", "set", "lo", "up")
        os.makedirs("/run/netns", exist_ok=True)
        run("mount", "-t", "tmpfs", "none", "/run/netns")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def folder(self, name: str) -> str:
        """Return a folder, made if need be."""
        path = f"{self.root}/{name}"
        os.makedirs(path, exist_ok=True)
        return path

    def file(self, name: str, content: str | Mapping[str, Any]) -> str:
        """Write a file and return its path."""
        path = f"{self.root}/{name}"
        text = content if isinstance(content, str) else json.dumps(content)
        Path(path).write_text(text)
        return path

    def need_pods(self, count: int) -> None:
        """Have at least so many network namespaces for pods."""
        missing = range(len(self.pods), count)
        batch = "".join(f"netns add p{number}\n" for number in missing)
        if batch:
            subprocess.run(["ip", "-batch", "-"], input=batch.encode(), check=True)
            self.pods += [f"p{number}" for number in missing]

    def api_server(self, objects: list[dict[str, Any]]) -> str:
        """Serve objects; returns the path of a kubeconfig."""
        listing = self.file("objects.yaml", "\n---\n".join(json.dumps(o) for o in objects))
        kubeconfig = f"{self.root}/kubeconfig"
        argv = [self.python, "-m", "tests.apiserver", kubeconfig, listing]
        env = {**_ENV, "PYTHONPATH": str(CHECKOUT)}
        server = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=CHECKOUT, env=env)
        self._stack.callback(server.stdout.close if server.stdout else lambda: None)
        self._stack.callback(programs.end, server.pid)
        if server.stdout is None or not server.stdout.readline():
            raise programs.FailedError("the API server of the tests did not start")
        return kubeconfig

    def daemon(self, name: str, **env: str) -> Daemon:
        """Start a daemon with a state directory of its own."""
        home = self.folder(name)
        socket, state_dir = f"{home}/run/multus.sock", f"{home}/state"
        config = self.file(
            f"{name}/config.yaml",
            f"state_dir: {state_dir}\nallowed_dirs: [{self.root}]\nlog: {{target: none}}\n"
            f"daemon: {{socket: {socket}}}\n",
        )
        whole = {**_ENV, "PYTHONPATH": str(CHECKOUT), "HWMGR_CONFIG": config, **env}
        argv = [self.python, "-m", "multus.daemon.main"]
        with open(f"{home}/log", "wb") as log:
            pid = os.posix_spawn(
                argv[0], argv, whole, file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), 2)]
            )
        self._stack.callback(programs.end, pid)
        made = Daemon(pid, socket, state_dir)
        self._wait_for(made, f"{home}/log")
        return made

    def bin_folder(self, daemon: Daemon, which: str, *, shim: str = "") -> str:
        """Return a folder with ``multus`` and ``sriov`` that forward to a daemon.

        ``which`` is c or python; ``shim`` is the C shim's executable, else it is built.
        """
        from multus.install import Request, install

        name = os.path.basename(os.path.dirname(daemon.state_dir))
        folder, source = self.folder(f"bin-{which}-{name}"), self.folder("shims")
        for file in (CHECKOUT / "multus/shim").iterdir():
            if file.is_file():
                shutil.copy(file, source)
        if which == "c":
            shutil.copy(shim or built_shim(), f"{source}/hwmgr-shim")
        spool = f"{daemon.state_dir}/spool"
        wanted = Request(folder, "none", daemon.socket, spool, python=which == "python")
        install(wanted, Path(source))
        return folder

    def cni(
        self,
        path: str,
        verb: str,
        container: str,
        pod: str,
        stdin: str,
        ifname: str = "eth0",
        args: str = "",
    ) -> Program:
        """Return a call of a plugin as a runtime makes it."""
        env = {
            **_ENV,
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": f"/run/netns/{pod}",
            "CNI_IFNAME": ifname,
            "CNI_PATH": PLUGINS,
            "CNI_ARGS": args,
        }
        return Program((path,), env, stdin)

    def bridge(self, number: int = 0) -> dict[str, Any]:
        """Return the configuration of a bridge with addresses from host-local."""
        ipam = {
            "type": "host-local",
            "subnet": f"10.{60 + number}.0.0/16",
            "dataDir": f"{self.root}/ipam{number}",
        }
        name = f"br{number}"
        return {"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": name, "ipam": ipam}

    def multus(self, name: str, **members: Any) -> dict[str, Any]:
        """Return a configuration of multus."""
        return {
            "cniVersion": "1.0.0",
            "name": "bench",
            "type": "multus",
            "binDir": PLUGINS,
            "cniDir": f"{self.root}/{name}/cni",
            **members,
        }

    def _wait_for(self, daemon: Daemon, log: str) -> None:
        import socket

        end = time.monotonic() + 30
        while time.monotonic() < end:
            with socket.socket(socket.AF_UNIX) as line:
                try:
                    line.connect(daemon.socket)
                except OSError:
                    # Nothing tells when a socket is listened at before it is.
                    time.sleep(0.05)
                    continue
                line.sendall(b"GET /readyz HTTP/1.1\r\nHost: multus\r\n\r\n")
                if b" 200 " in line.recv(4096):
                    return
            time.sleep(0.05)
        raise programs.FailedError(f"the daemon is not ready: {Path(log).read_text()[-2000:]}")


def run(*argv: str) -> None:
    """Run a program that must succeed."""
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def built_shim() -> str:
    """Return the path of the C shim, built if need be."""
    argv = [f"{CHECKOUT}/scripts/build-shim"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
