"""Sockets, systemd, metrics, the queue's gate: the daemon's parts each for itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

import pytest

from hwmgr.frames import Call
from hwmgr.model import VFState
from hwmgr.nodeconfig import NodeConfig
from multus.cnitypes import CNIError
from multus.daemon.background import LeftCallsWorker
from multus.daemon.calllog import CallLog, Entry, JsonCallLog, Notes
from multus.daemon.daemonconf import DaemonFile
from multus.daemon.dispatch import Dispatcher, Gate
from multus.daemon.life import Daemon
from multus.daemon.listener import Listener, SocketError, backlog, only_root
from multus.daemon.measured import MeasuredPlugin
from multus.daemon.metrics import Metrics
from multus.daemon.systemd import ActivationError, Notifier, listen_sockets
from multus.daemon.units import unit
from multus.daemon.vfgauge import VFGauge
from multus.daemon.wiring import Caller, Workshop, inherited
from multus.delegates import DelegateCall
from tests.fakes.machine import build
from tests.fakes.tree import Nic
from tests.multus.fakes import FakeClock, RecordingPlugin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from multus.daemon.desk import Desk


def test_a_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "multus.sock"
    listener = Listener.at(str(path))
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(path.parent).st_mode & 0o777 == 0o700
    listener.hide()
    listener.sock.close()
    assert not path.exists()


def test_a_living_daemon_keeps_its_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "multus.sock")
    first = Listener.at(path)
    with pytest.raises(SocketError, match="another multus-daemon"):
        Listener.at(path)
    first.hide()
    second = Listener.at(path)
    second.hide()
    for listener in (first, second):
        listener.sock.close()


def test_a_dead_daemons_socket_is_replaced_and_anothers_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "multus.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(1)
        with pytest.raises(SocketError, match="another program serves"):
            Listener.at(path)
    listener = Listener.at(path)
    listener.hide()
    listener.sock.close()


def test_a_file_is_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "multus.sock"
    path.write_text("precious")
    with pytest.raises(SocketError, match="something else than a socket"):
        Listener.at(str(path))
    assert path.read_text() == "precious"


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(SocketError, match="not root's alone"):
        Listener.at(str(folder / "multus.sock"))


def test_a_socket_that_was_replaced_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "multus.sock"
    listener = Listener.at(str(path))
    path.unlink()
    path.write_text("somebody else's")
    listener.hide()
    listener.sock.close()
    assert path.exists()


def test_the_backlog_is_the_kernels(tmp_path: Path) -> None:
    path = tmp_path / "somaxconn"
    path.write_text("128\n")
    assert backlog(str(path)) == 128
    assert backlog(str(tmp_path / "none")) == 4096
    assert backlog() > 0


@pytest.fixture
def open_folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(dir="/tmp")
    os.chmod(folder, 0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
@pytest.mark.parametrize(("uid", "refused"), [(0, False), (65534, True)])
def test_who_may_speak(open_folder: str, uid: int, *, refused: bool) -> None:
    path = f"{open_folder}/s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        os.chmod(path, 0o666)
        server.listen(1)
        pid = os.fork()
        if pid == 0:
            os.setuid(uid)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.recv(1)
            os._exit(0)
        with server.accept()[0] as peer:
            said = only_root(0)(peer)
        os.waitpid(pid, 0)
    assert said == (f"refused process {pid} of user 65534: not root" if refused else "")


def test_sockets_of_the_service_manager() -> None:
    assert listen_sockets({}, 1) == []
    assert listen_sockets({"LISTEN_PID": "2", "LISTEN_FDS": "1"}, 1) == []
    with pytest.raises(ActivationError, match="not a number"):
        listen_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "x"}, 1)


def test_a_given_socket_stays_for_the_next_daemon(tmp_path: Path) -> None:
    path = str(tmp_path / "given.sock")
    log = CallLog(lambda _severity, _text: None, lambda: "now")
    desk = cast("Desk", SimpleNamespace(at_work=set(), take=None))
    with socket.socket(socket.AF_UNIX) as managers:
        managers.bind(path)
        managers.listen()

        async def run() -> bool:
            listener = Listener.given(managers.dup())
            daemon = Daemon(listener, lambda _sock: "not you", log, Notifier({}), 5.0)
            running = asyncio.create_task(daemon.run(desk, None))
            reader, writer = await asyncio.open_unix_connection(path)
            assert await reader.read() == b""
            writer.close()
            os.kill(os.getpid(), signal.SIGTERM)
            return await running

        assert asyncio.run(run())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_a_given_socket_must_be_a_stream_of_unix() -> None:
    with socket.socket(socket.AF_INET) as wrong, pytest.raises(SocketError, match="ListenStream"):
        Listener.given(wrong)
    with socket.socket(socket.AF_UNIX) as right:
        listener = Listener.given(right)
        listener.hide()
        assert right.fileno() >= 0


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_hears(tmp_path: Path, *, abstract: bool) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"\0{tmp_path}" if abstract else str(tmp_path / "notify")
        manager.bind(name)
        Notifier({"NOTIFY_SOCKET": name.replace("\0", "@")}).tell("READY=1")
        assert manager.recv(32) == b"READY=1"


def test_nobody_hears() -> None:
    Notifier({}).tell("READY=1")
    Notifier({"NOTIFY_SOCKET": "/does/not/exist"}).tell("READY=1")


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "7"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog(env: dict[str, str], seconds: float | None) -> None:
    assert Notifier(env).watchdog_seconds(7) == seconds


def test_metrics_in_prometheus_form() -> None:
    metrics = Metrics()
    metrics.delegates.add(("bridge", "ADD", "ok"), 0.02)
    metrics.delegates.add(("bridge", "ADD", "ok"), 7.0)
    metrics.delegates.add(('a"b\\c\nd', "ADD", "999"), 500.0)
    metrics.gauge("hwmgr_vfs", "VFs.", lambda: {("free",): 3.0}, ("state",))
    lines = metrics.text().decode().splitlines()
    name = "multus_delegate_seconds"
    labels = 'type="bridge",verb="ADD",outcome="ok"'
    assert f"# TYPE {name} histogram" in lines
    assert f'{name}_bucket{{{labels},le="0.01"}} 0' in lines
    assert f'{name}_bucket{{{labels},le="0.025"}} 1' in lines
    assert f'{name}_bucket{{{labels},le="10"}} 2' in lines
    assert f'{name}_bucket{{{labels},le="+Inf"}} 2' in lines
    assert f"{name}_sum{{{labels}}} 7.02" in lines
    assert f"{name}_count{{{labels}}} 2" in lines
    assert f'{name}_count{{type="a\\"b\\\\c\\nd",verb="ADD",outcome="999"}} 1' in lines
    assert 'hwmgr_vfs{state="free"} 3' in lines


def test_a_family_does_not_grow_without_end() -> None:
    metrics = Metrics()
    for number in range(2000):
        metrics.delegates.add((f"plugin{number}", "ADD", "999"), 0.1)
    text = metrics.text().decode()
    assert text.count("multus_delegate_seconds_count{") == 501
    assert 'multus_delegate_seconds_count{type="other",verb="other",outcome="other"} 1500' in text


def test_a_plugin_is_measured() -> None:
    clock, metrics, plugin = FakeClock(), Metrics(), RecordingPlugin()
    measured = MeasuredPlugin(plugin, metrics.delegates, clock)
    call = DelegateCall({"type": "bridge"}, "ADD", "c1", "/n", "eth0", "", (), 0.0)
    assert measured.add(call)["interfaces"]
    measured.release_container("c1")
    assert plugin.released == ["c1"]

    class Failing(RecordingPlugin):
        def delete(self, call: DelegateCall) -> None:
            raise CNIError(11, "later")

    with pytest.raises(CNIError):
        MeasuredPlugin(Failing(), metrics.delegates, clock).delete(call)
    text = metrics.text().decode()
    assert 'count{type="bridge",verb="ADD",outcome="ok"} 1' in text
    assert 'count{type="bridge",verb="ADD",outcome="11"} 1' in text


def test_vfs_by_state_are_looked_at_now_and_then(tmp_path: Path) -> None:
    clock = FakeClock()
    machine = build(str(tmp_path), Nic())
    gauge = VFGauge(machine.node, clock)
    first = gauge.read()
    assert sum(first.values()) == Nic().vfs
    assert set(first) == {(state.value,) for state in VFState}
    assert gauge.read() is first
    clock.time += 10
    assert gauge.read() is not first
    machine.close()


def test_the_environment_of_plugins() -> None:
    env = {
        "PATH": "/bin",
        "HWMGR_STATE_DIR": "/elsewhere",
        "HWMGR_SYSFS": "/fake",
        "HWMGR_LOCKED_CONTAINER": "c1",
        "OTHER": "x",
    }
    assert inherited(env) == {"PATH": "/bin", "HWMGR_LOCKED_CONTAINER": "c1", "OTHER": "x"}
    assert inherited({})["PATH"]


def test_lines_of_json() -> None:
    lines: list[str] = []
    log = JsonCallLog(lambda _severity, text: lines.append(text), lambda: "2026-01-02T03:04:05Z")
    notes = Notes()
    notes.complain("two\nlines")
    log.call(
        Entry("ADD", "multus", "c1", "eth0", "ns/p", "failed", 11, 0.0123, 0.001, notes.lines[0])
    )
    assert lines == [
        '{"time": "2026-01-02T03:04:05Z", "level": "error", "verb": "ADD", "program": "multus", '
        '"container": "c1", "ifname": "eth0", "pod": "ns/p", "outcome": "failed", "code": 11, '
        '"ms": 12.3, "wait_ms": 1.0, "message": "two lines"}'
    ]


def test_who_gives_up_at_the_gate_takes_no_place() -> None:
    async def test() -> None:
        gate = Gate(1)
        await gate.enter()
        first, second = (asyncio.ensure_future(gate.enter()) for _ in range(2))
        await asyncio.sleep(0)
        assert gate.waiting == 2
        gate.leave()
        first.cancel()  # its place had been given to it this moment
        await asyncio.wait_for(second, 5)
        assert first.cancelled()
        assert (gate.waiting, gate.unused) == (0, False)
        gate.leave()
        assert gate.unused

    asyncio.run(test())


def test_who_gives_up_late_takes_nobody_elses_turn_away() -> None:
    async def test() -> None:
        dispatcher, inside = Dispatcher(1), 0
        go_on = asyncio.Event()

        async def call() -> None:
            nonlocal inside
            async with dispatcher.turn("c1"):
                inside += 1
                assert inside == 1
                await go_on.wait()
                inside -= 1

        async def first() -> None:
            async with dispatcher.turn("c1"):
                await asyncio.sleep(0)
                later.append(asyncio.ensure_future(call()))
                given_up.cancel()  # it hears of that after the turn has ended and begun anew

        later: list[asyncio.Future[None]] = []
        begun = asyncio.ensure_future(first())
        given_up = asyncio.ensure_future(call())
        await begun
        await asyncio.sleep(0)
        later.append(asyncio.ensure_future(call()))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*later)
        assert given_up.cancelled()

    asyncio.run(test())


def test_no_container_is_remembered_for_good() -> None:
    async def test() -> None:
        dispatcher = Dispatcher(2)

        async def use(number: int) -> None:
            async with dispatcher.turn(f"c{number % 5}"):
                await dispatcher.work(lambda: None, lambda: None)

        tasks = [asyncio.ensure_future(use(number)) for number in range(50)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert dispatcher._containers == {}
        assert (dispatcher.busy, dispatcher.waiting) == (0, 0)

    asyncio.run(test())


class Died(BaseException):
    """The process would have ended."""


class NoWayBack:
    """A sysfs whose reader cannot leave a pod's namespace."""

    def names(self, _path: str) -> list[str]:
        raise SystemExit("cannot return to the host's namespace")


def test_a_thread_that_cannot_come_back_ends_the_process(tmp_path: Path) -> None:
    def die(why: str) -> NoReturn:
        raise Died(why)

    machine = build(str(tmp_path), Nic())
    workshop = Workshop(
        replace(machine.node, sysfs=cast("Any", NoWayBack())),
        NodeConfig(state_dir=str(tmp_path / "state")),
        DaemonFile(),
        connect=lambda _kubeconfig, _end: None,
        metrics=Metrics(),
        die=die,
    )
    stdin = b'{"name": "n", "type": "sriov", "cniVersion": "1.1.0", "if0": "enp1s0"}'
    env = {"CNI_COMMAND": "STATUS", "CNI_PATH": "/bin"}
    with pytest.raises(Died, match="cannot return"):
        workshop.run(Call("sriov", env, stdin), Caller(Notes(), lambda: False))
    machine.close()


def test_a_drain_that_cannot_come_back_ends_the_process() -> None:
    def drain_all(_deadline: float, _untouched: float) -> None:
        raise SystemExit("cannot return to the host's namespace")

    def die(why: str) -> NoReturn:
        raise Died(why)

    left = cast("Any", SimpleNamespace(drain_all=drain_all))
    worker = LeftCallsWorker(left, FakeClock(), lambda _text: None, die)
    with pytest.raises(Died, match="cannot return"):
        worker._run()


def printed_unit(stdout: int | IO[bytes], **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "multus.daemon.main", "--unit", "service"],
        env={**os.environ, "PYTHONPATH": ".", **env},
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )


def test_a_unit_that_nobody_reads_is_no_traceback(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as closed:
        done = printed_unit(closed, HWMGR_CONFIG=str(tmp_path / "none.yaml"))
    assert (done.returncode, done.stderr) == (1, b"")
    with open("/dev/full", "wb") as full:
        done = printed_unit(full, HWMGR_CONFIG=str(tmp_path / "none.yaml"))
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"cannot be written: No space left on device" in done.stderr


def test_a_unit_uses_the_files_that_are_used_now(tmp_path: Path) -> None:
    config = str(tmp_path / "none.yaml")
    done = printed_unit(subprocess.PIPE, HWMGR_CONFIG=config, HWMGR_STATE_DIR="/srv/state")
    lines = done.stdout.decode().splitlines()
    assert f"Environment=HWMGR_CONFIG={config}" in lines
    assert "Environment=HWMGR_STATE_DIR=/srv/state" in lines
    done = printed_unit(subprocess.PIPE, HWMGR_CONFIG=config, HWMGR_STATE_DIR="/srv/my state")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"'/srv/my state' cannot stand in a unit" in done.stderr
    assert "Environment=" not in unit("service", program="/p", socket="/s", drain_seconds=1)
