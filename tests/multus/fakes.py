"""Stand-ins for the world around the engine: small classes that keep what they were told."""

from __future__ import annotations

import errno
import io
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hwmgr.errors import NamespaceError
from hwmgr.model import NetnsIdentity
from hwmgr.run import Completed, KernelRunner, Runner
from hwmgr.store import StateDir
from multus.api.cluster import ApiLimits, Cluster
from multus.api.clusterapi import KubeconfigError
from multus.chain import Chains
from multus.clock import Limits
from multus.commands import Engine
from multus.devices.choice import Devices, KubeletDevices
from multus.devices.deviceinfo import ROOT, DeviceInfo
from multus.doors import Doors
from multus.invoke import ExecPlugin
from multus.namespaces import OWN_NAMESPACE
from multus.skel import Process, serve
from multus.spooled import LeftCalls
from tests.multus.fake_api import FakeApi

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from multus.config import LogConfig
    from multus.delegates import DelegateCall, PluginRunner
    from multus.jsonfields import Json
    from multus.pods import Pod

# Networks with a plugin each.
A = {"name": "neta", "type": "plugA", "cniVersion": "1.0.0"}
B = {"name": "netb", "type": "plugB", "cniVersion": "1.0.0"}
C = {"name": "netc", "type": "plugC", "cniVersion": "1.0.0"}
OWN = NetnsIdentity(OWN_NAMESPACE, 4, 1)


class FakeNamespaces:
    """Namespaces by path, with the interface names they hold."""

    def __init__(self, **inodes: int) -> None:
        self.inodes = dict(inodes)
        self.interfaces: dict[str, set[str]] = {}

    def identity(self, path: str) -> NetnsIdentity:
        if path == OWN_NAMESPACE:
            return OWN
        if path not in self.inodes:
            raise NamespaceError(path, errno.ENOENT)
        return NetnsIdentity(path, 4, self.inodes[path])

    def has_interface(self, path: str, ifname: str) -> bool:
        self.identity(path)
        return ifname == "lo" or ifname in self.interfaces.get(path, set())


class FakeClock:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.time

    def now(self) -> str:
        return "2026-01-02T03:04:05Z"

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


class FakeLog:
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def did(self, text: str) -> None:
        self.lines.append(text)

    def problem(self, text: str) -> None:
        self.lines.append(f"! {text}")

    def detail(self, text: str) -> None:
        self.lines.append(f"  {text}")


@dataclass
class Ran:
    """One program that the fake runner was asked to run."""

    path: str
    env: dict[str, str]
    stdin: Any
    timeout: float

    @property
    def what(self) -> str:
        return " ".join(
            (self.env["CNI_COMMAND"], self.path.rsplit("/", 1)[-1], self.env["CNI_IFNAME"])
        ).strip()


class FakeRunner:
    """Answers for plugins: ``answers`` maps "ADD plugA" to a result, a Completed or an error."""

    def __init__(self, answers: Mapping[str, object] | None = None) -> None:
        self.answers: dict[str, object] = dict(answers or {})
        self.ran: list[Ran] = []

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str], stdin: bytes, timeout: float
    ) -> Completed:
        ran = Ran(argv[0], dict(env), json.loads(stdin), timeout)
        self.ran.append(ran)
        command, plugin = env["CNI_COMMAND"], argv[0].rsplit("/", 1)[-1]
        answer = self.answers.get(f"{command} {plugin}")
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else None
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Completed):
            return answer
        if answer is None and command == "ADD":
            answer = {"interfaces": [{"name": env["CNI_IFNAME"], "sandbox": env["CNI_NETNS"]}]}
        return Completed(0, b"" if answer is None else json.dumps(answer).encode(), b"")

    def whats(self) -> list[str]:
        return [ran.what for ran in self.ran]


def failure(code: int, msg: str = "boom", details: str = "") -> Completed:
    """Return how a plugin fails by the book."""
    error = {"cniVersion": "1.0.0", "code": code, "msg": msg, "details": details}
    return Completed(1, json.dumps(error).encode(), b"")


class RecordingPlugin:
    """An in-process plugin that keeps its calls and what it was asked to release."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, DelegateCall]] = []
        self.released: list[str] = []

    def add(self, call: DelegateCall) -> Mapping[str, object]:
        self.calls.append(("add", call))
        return {"interfaces": [{"name": "elsewhere", "sandbox": call.netns}]}

    def check(self, call: DelegateCall) -> None:
        self.calls.append(("check", call))

    def delete(self, call: DelegateCall) -> None:
        self.calls.append(("delete", call))

    def gc(self, call: DelegateCall) -> None:
        self.calls.append(("gc", call))

    def status(self, call: DelegateCall) -> None:
        self.calls.append(("status", call))

    def release_container(self, container_id: str) -> None:
        self.released.append(container_id)


class MovedDeviceInfo(DeviceInfo):
    """Device information in a folder of the test, under the paths that everybody knows."""

    def begin(self, resource: str, device_id: str, path: str) -> str | None:
        return super().begin(resource, device_id, self._moved(path))

    def read(self, path: str) -> Json | None:
        return super().read(self._moved(path))

    def _moved(self, path: str) -> str:
        return path.replace(ROOT, os.path.dirname(self._plugins))


class FakeRoutes:
    """Keeps who took the default route; ``error`` is raised instead."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str, tuple[str, ...]]] = []
        self.error: Exception | None = None

    def take_default(self, netns: str, ifname: str, gateways: Sequence[str]) -> None:
        if self.error:
            raise self.error
        self.taken.append((netns, ifname, tuple(gateways)))


@dataclass
class Answer:
    """How a call ended."""

    rc: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def code(self) -> int:
        return int(self.json["code"])


class FakeOrphans:
    """Notes for which containers it was asked to end what earlier calls left running."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def end(self, container_id: str) -> int:
        self.ended.append(container_id)
        return 0


@dataclass
class World:
    """A node for one test: folders under ``root``, fakes for everything else."""

    root: Path
    runner: Runner = field(default_factory=FakeRunner)
    namespaces: FakeNamespaces = field(default_factory=lambda: FakeNamespaces(**{"/ns": 7}))
    clock: Any = field(default_factory=FakeClock)
    log: FakeLog = field(default_factory=FakeLog)
    in_process: dict[str, Callable[[], PluginRunner]] = field(default_factory=dict)
    checkpoints: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    boot_id: str = "boot-1"
    call_id: str = ""
    take_back: bool = False
    limits: Limits = field(default_factory=Limits)
    api: FakeApi = field(default_factory=FakeApi)
    routes: FakeRoutes = field(default_factory=FakeRoutes)
    orphans: FakeOrphans = field(default_factory=FakeOrphans)
    strict: bool = True
    kubeconfigs: set[str] = field(default_factory=lambda: {"/kubeconfig"})

    def __post_init__(self) -> None:
        self.bin.mkdir(exist_ok=True)

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def cni_dir(self) -> Path:
        return self.root / "cni"

    @property
    def state_dir(self) -> Path:
        return self.root / "state"

    def connect(self, kubeconfig: str, deadline: float) -> Cluster | None:
        """Open the fake API server for the kubeconfigs that exist."""
        if not kubeconfig:
            return None
        if kubeconfig not in self.kubeconfigs:
            raise KubeconfigError(kubeconfig, "No such file or directory")
        return Cluster(self.api, self.clock, ApiLimits(), deadline)

    def devices(self, pod: Pod) -> Devices:
        """Return what the fake kubelet's checkpoint gives to a pod."""
        kubelet = KubeletDevices(self.clock, "/nonexistent", str(self.root / "checkpoint"))
        return Devices(lambda: kubelet.of_pod(pod.raw, pod.cluster, 1e9), strict=self.strict)

    def plugin(self, *names: str, script: str = "#!/bin/sh\nexit 1\n") -> None:
        """Put executable files where plugins are looked for."""
        for name in names:
            path = self.bin / name
            path.write_text(script)
            path.chmod(0o755)

    def left_calls(self) -> LeftCalls:
        return LeftCalls(
            StateDir(str(self.state_dir)),
            lambda call, _seconds: self.engine(call.env),
            self.clock,
            self.log.did,
            checkpoint=self.checkpoints.append,
        )

    def engine(self, env: Mapping[str, str] | None = None) -> Engine:
        clock = self.clock
        plugins = ExecPlugin(self.runner, env or {}, clock)

        def open_log(_config: LogConfig) -> FakeLog:
            return self.log

        return Engine(
            Doors(
                state=StateDir(str(self.state_dir)),
                open_state=StateDir,
                chains=Chains(plugins, self.in_process),
                namespaces=self.namespaces,
                connect=self.connect,
                devices=self.devices,
                device_info=MovedDeviceInfo(str(self.root / "devinfo")),
                routes=self.routes,
                orphans=self.orphans,
                left=self.left_calls(),
                clock=clock,
                boot_id=self.boot_id,
                open_log=open_log,
                checkpoint=self.checkpoints.append,
                limits=self.limits,
                call_id=self.call_id,
            )
        )

    def call(self, env: Mapping[str, str], stdin: bytes) -> Answer:
        """Have one call answered through the protocol layer."""
        stdout, stderr = io.StringIO(), io.StringIO()
        process = Process(env, io.BytesIO(stdin), stdout, stderr)
        complain = self.complaints.append
        rc = serve(process, lambda: self.engine(env), complain, take_back=self.take_back)
        return Answer(rc, stdout.getvalue(), stderr.getvalue())

    def cni(self, command: str, conf: Mapping[str, object], **env: str) -> Answer:
        """Make a usual call; keyword arguments set or override CNI variables without prefix."""
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/ns",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.bin),
            **{f"CNI_{name}": value for name, value in env.items()},
        }
        whole = {"cniDir": str(self.cni_dir), "binDir": str(self.bin), "name": "mnet", **conf}
        return self.call(variables, json.dumps(whole).encode())

    def files(self) -> list[str]:
        """Return what is saved, without the lock files (they stay on purpose)."""
        found = [
            path.relative_to(self.root).as_posix()
            for folder in (self.cni_dir, self.state_dir)
            for path in folder.rglob("*")
            if path.is_file()
        ]
        return sorted(name for name in found if "/locks/" not in name)


def real_runner() -> Runner:
    """Return the runner that starts real programs."""
    return KernelRunner()
