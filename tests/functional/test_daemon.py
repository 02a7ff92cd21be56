"""The daemon on a node of real namespaces: calls by frames and HTTP, clients that go, its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr import frames
from tests.fakes.left import leave
from tests.functional.daemon import ActivatedDaemon, RunningDaemon, eventually, read_all
from tests.functional.node import Node, make_node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.functional


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    yield from make_node(tmp_path)


def conf(node: Node) -> dict[str, Any]:
    leases = {"name": "lst", "cniVersion": "1.0.0", "plugins": [{"type": "leasea"}]}
    return {"cniVersion": "1.1.0", "delegates": [node.bridge(), leases]}


def test_frames(node: Node, daemon: RunningDaemon) -> None:
    done = daemon.call("ADD", conf(node))
    assert done.rc == 0, done
    assert done.json["cniVersion"] == "1.1.0"
    assert set(node.links(node.pod)) == {"lo", "eth0"}
    assert daemon.call("CHECK", conf(node)).rc == 0
    assert daemon.call("STATUS", conf(node)).rc == 0
    assert daemon.call("DEL", conf(node)).rc == 0
    node.assert_clean()


def test_http(node: Node, daemon: RunningDaemon) -> None:
    done = daemon.go("ADD", conf(node))
    assert done.status == 200, done
    assert done.json["Result"]["cniVersion"] == "1.1.0"
    assert daemon.go("CHECK", conf(node)).body == b""
    again = daemon.go("ADD", conf(node))
    assert again.status == 400
    assert again.json["code"] == 999
    assert daemon.go("DEL", conf(node)).status == 200
    node.assert_clean()
    assert b'multus_call_seconds_count{program="multus",verb="ADD",outcome="ok"} 1' in (
        daemon.http("GET", "/metrics").body
    )


def test_what_the_daemon_does_thin_can_undo(node: Node, daemon: RunningDaemon) -> None:
    assert daemon.call("ADD", conf(node)).rc == 0
    assert node.cni("DEL", conf(node)).rc == 0
    node.assert_clean()
    assert node.cni("ADD", conf(node)).rc == 0
    assert daemon.call("DEL", conf(node)).rc == 0
    node.assert_clean()


def plugged(node: Node, name: str = "lst2", plugin: str = "leasec") -> dict[str, Any]:
    return {"name": name, "cniVersion": "1.0.0", "type": plugin}


def file(node: Node, **more: Any) -> str:
    path = node.root / "daemon.json"
    path.write_text(json.dumps({"cniDir": str(node.cni_dir), "binDir": str(node.bin), **more}))
    return str(path)


@pytest.fixture
def plugging(node: Node) -> Iterator[RunningDaemon]:
    running = RunningDaemon(node, "", "--config", file(node))
    running.start()
    try:
        yield running
    finally:
        running.close()


def test_a_network_more_goes_with_the_pod(node: Node, plugging: RunningDaemon) -> None:
    before = plugging.call("ADD", conf(node))
    assert before.rc == 0, before
    wish = {"ips": None, "mac": "", "cni-args": None}
    done = plugging.go(
        "ADD", plugged(node), ifname="net9", path="/delegate", interfaceAttributes=wish
    )
    assert done.status == 200, done
    assert done.json["Result"]["interfaces"][0]["name"] == "net9"
    assert (node.leases / "leasec-c1-net9").exists()
    again = plugging.go("ADD", plugged(node), ifname="net9", path="/delegate")
    assert "attached already" in again.json["msg"]
    assert plugging.go("CHECK", plugged(node), ifname="net9", path="/delegate").status == 200
    assert plugging.call("CHECK", conf(node)).rc == 0
    assert node.log()[-1] == "CHECK leasec net9"
    assert plugging.call("DEL", conf(node)).rc == 0
    node.assert_clean()


def test_a_network_more_is_taken_away_alone(node: Node, plugging: RunningDaemon) -> None:
    assert plugging.call("ADD", conf(node)).rc == 0
    assert plugging.go("ADD", plugged(node), ifname="net9", path="/delegate").status == 200
    assert plugging.go("DEL", plugged(node), ifname="net9", path="/delegate").status == 200
    assert not (node.leases / "leasec-c1-net9").exists()
    assert plugging.call("CHECK", conf(node)).rc == 0
    assert plugging.go("DEL", plugged(node), ifname="net9", path="/delegate").status == 200
    assert plugging.call("DEL", conf(node)).rc == 0
    node.assert_clean()


def test_a_network_more_that_fails_leaves_the_others(node: Node, plugging: RunningDaemon) -> None:
    assert plugging.call("ADD", conf(node)).rc == 0
    node.tell("leasec", "fail")
    failed = plugging.go("ADD", plugged(node), ifname="net9", path="/delegate")
    assert (failed.status, failed.json["code"]) == (400, 100)
    assert not (node.leases / "leasec-c1-net9").exists()
    node.tell("leasec", "fail", on=False)
    assert plugging.go("ADD", plugged(node), ifname="net9", path="/delegate").status == 200
    assert plugging.call("DEL", conf(node)).rc == 0
    node.assert_clean()


def test_a_network_more_comes_after_a_del_that_was_left(
    node: Node, plugging: RunningDaemon
) -> None:
    assert plugging.call("ADD", conf(node)).rc == 0
    whole = {"name": "mnet", "cniDir": str(node.cni_dir), **conf(node)}
    file = leave(node.state_dir, node.env("DEL", "c1", "eth0"), whole)
    assert plugging.go("ADD", plugged(node), ifname="net9", path="/delegate").status == 200
    assert not file.exists()
    assert set(node.links(node.pod)) == {"lo"}
    assert (node.leases / "leasec-c1-net9").exists()
    assert plugging.go("DEL", plugged(node), ifname="net9", path="/delegate").status == 200
    node.assert_clean()


def test_a_network_more_for_a_container_that_nobody_knows(
    node: Node, plugging: RunningDaemon
) -> None:
    assert plugging.go("ADD", plugged(node), ifname="net9", path="/delegate").status == 200
    assert plugging.go("STATUS", plugged(node), path="/delegate").status == 400  # 1.0.0 has none
    assert plugging.go("DEL", plugged(node), ifname="net9", path="/delegate").status == 200
    node.assert_clean()


def test_the_daemon_killed_while_it_plugs(node: Node, plugging: RunningDaemon) -> None:
    assert plugging.call("ADD", conf(node)).rc == 0
    node.tell("leasec", "hang")
    with pytest.raises((OSError, ValueError, IndexError)), kill_when(node, plugging):
        plugging.go("ADD", plugged(node), ifname="net9", path="/delegate")
    node.tell("leasec", "hang", on=False)
    plugging.start()
    assert plugging.call("DEL", conf(node)).rc == 0
    node.assert_clean()


@contextmanager
def kill_when(node: Node, daemon: RunningDaemon) -> Iterator[None]:
    """Kill the daemon when the third lease plugin has its lease."""
    lease = node.leases / "leasec-c1-net9"

    def kill() -> None:
        eventually(lease.exists)
        daemon.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        killer.join()


def test_the_file_lies_over_every_call(node: Node) -> None:
    daemon = RunningDaemon(node, "", "--config", file(node, delegates=[node.bridge()]))
    daemon.start()
    try:
        assert daemon.call("ADD", {"cniVersion": "1.0.0", "delegates": []}).rc == 0
        assert set(node.links(node.pod)) == {"lo", "eth0"}
        assert daemon.call("DEL", {"cniVersion": "1.0.0"}).rc == 0
        node.assert_clean()
    finally:
        daemon.close()


def test_sigterm_ends_calls_first(node: Node) -> None:
    daemon = RunningDaemon(node, "time_limits:\n  add: 8\n  delegate: 3\n")
    daemon.start()
    node.tell("leasea", "hang")
    with ExitStack() as stack:
        stack.callback(daemon.close)
        early = stack.enter_context(daemon.connect())
        running = stack.enter_context(daemon.begin("ADD", conf(node)))
        eventually((node.leases / "leasea-c1-net1").exists)
        waiting = stack.enter_context(daemon.begin("DEL", conf(node)))
        eventually(lambda: b"multus_calls_waiting 1" in daemon.http("GET", "/metrics").body)
        os.kill(daemon.pid, signal.SIGTERM)
        eventually(lambda: not os.path.exists(daemon.socket))
        early.sendall(b"GET /readyz HTTP/1.1\r\n\r\n")
        assert read_all(early).startswith(b"HTTP/1.1 500 ")
        with pytest.raises(FileNotFoundError):
            daemon.connect()
        assert b"time limit" in frames.decode_answer(read_all(running)).stdout
        assert frames.decode_answer(read_all(waiting)).status == 0
        assert daemon.wait() == 0
    node.assert_clean()


def test_a_second_signal_ends_at_once(node: Node, daemon: RunningDaemon) -> None:
    node.tell("leasea", "hang")
    with daemon.begin("ADD", conf(node)):
        eventually((node.leases / "leasea-c1-net1").exists)
        os.kill(daemon.pid, signal.SIGTERM)
        eventually(lambda: not os.path.exists(daemon.socket))
        os.kill(daemon.pid, signal.SIGINT)
        assert daemon.wait() == 1
    node.tell("leasea", "hang", on=False)
    daemon.start()
    assert daemon.call("DEL", conf(node)).rc == 0
    node.assert_clean()


def test_a_caller_that_goes_while_a_plugin_works(node: Node, daemon: RunningDaemon) -> None:
    gate = node.leases.parent / "gate"
    os.mkfifo(gate)
    node.slow("leasea", gate)
    with daemon.begin("ADD", conf(node)):
        eventually((node.leases / "leasea-c1-net1").exists)
    gate.write_text("go\n")
    eventually(lambda: "went away" in daemon.log.read_text())
    assert daemon.call("DEL", conf(node)).rc == 0
    assert "DEL leasea net1" in node.log()
    node.assert_clean()


def test_the_undo_of_an_add_takes_back_its_own(node: Node, daemon: RunningDaemon) -> None:
    with daemon.begin("ADD", conf(node)) as unread:
        answer_lies_there(unread)
    eventually(lambda: "undone" in daemon.log.read_text())
    node.assert_clean()


def test_the_undo_of_an_add_spares_what_another_call_attached(
    node: Node, daemon: RunningDaemon
) -> None:
    with before_it_is_undone(daemon, daemon.begin("ADD", conf(node))):
        assert node.cni("DEL", conf(node)).rc == 0
        assert node.cni("ADD", conf(node)).rc == 0
    eventually(lambda: "undone" in daemon.log.read_text())
    assert set(node.links(node.pod)) == {"lo", "eth0"}
    assert node.cni("CHECK", conf(node)).rc == 0
    assert daemon.call("DEL", conf(node)).rc == 0
    node.assert_clean()


def test_the_undo_of_a_network_more_takes_back_its_own(node: Node, plugging: RunningDaemon) -> None:
    assert plugging.call("ADD", conf(node)).rc == 0
    with plugging.begin_go("ADD", plugged(node), ifname="net9", path="/delegate") as unread:
        answer_lies_there(unread)
    eventually(lambda: "undone" in plugging.log.read_text())
    assert not (node.leases / "leasec-c1-net9").exists()
    assert plugging.call("CHECK", conf(node)).rc == 0
    assert plugging.call("DEL", conf(node)).rc == 0
    node.assert_clean()


def test_the_undo_of_a_network_more_spares_what_another_call_attached(
    node: Node, plugging: RunningDaemon
) -> None:
    other = RunningDaemon(node, "", "--config", file(node), name="other")
    assert plugging.call("ADD", conf(node)).rc == 0
    begun = plugging.begin_go("ADD", plugged(node), ifname="net9", path="/delegate")
    with ExitStack() as stack:
        stack.callback(other.close)
        other.start()
        stack.enter_context(before_it_is_undone(plugging, begun))
        assert other.go("DEL", plugged(node), ifname="net9", path="/delegate").status == 200
        assert other.go("ADD", plugged(node), ifname="net9", path="/delegate").status == 200
    eventually(lambda: "undone" in plugging.log.read_text())
    assert (node.leases / "leasec-c1-net9").exists()
    assert plugging.call("CHECK", conf(node)).rc == 0
    assert node.log()[-1] == "CHECK leasec net9"
    assert plugging.call("DEL", conf(node)).rc == 0
    node.assert_clean()


@contextmanager
def before_it_is_undone(daemon: RunningDaemon, unread: socket.socket) -> Iterator[None]:
    """Close a call's connection with the answer unread; the daemon hears of it after the block."""
    with unread:
        answer_lies_there(unread)
        os.kill(daemon.pid, signal.SIGSTOP)
    yield
    os.kill(daemon.pid, signal.SIGCONT)


def answer_lies_there(sock: socket.socket) -> None:
    """Wait until an answer can be read, and leave it unread."""
    assert sock.recv(1, socket.MSG_PEEK)


def test_a_del_gets_on_while_every_add_hangs(node: Node) -> None:
    daemon = RunningDaemon(node, "  workers: 2\n", section="daemon")
    others = {"delegates": [{"name": "lst", "cniVersion": "1.1.0", "type": "leasea"}]}
    with ExitStack() as stack:
        stack.callback(daemon.close)
        daemon.start()
        assert daemon.call("ADD", conf(node)).rc == 0
        node.tell("leasea", "hang")
        for name in ("c2", "c3", "c4"):
            stack.enter_context(daemon.begin("ADD", others, container_id=name, ifname="net7"))
        eventually(lambda: len(list(node.leases.glob("leasea-c[234]-net7"))) == 2)
        eventually(lambda: b"multus_calls_waiting 1" in daemon.http("GET", "/metrics").body)
        assert daemon.call("STATUS", {"cniVersion": "1.1.0", **others}).rc == 0
        assert daemon.call("DEL", conf(node)).rc == 0
        assert set(node.links(node.pod)) == {"lo"}
        metrics = daemon.http("GET", "/metrics").body
        assert b"multus_workers_busy 2" in metrics
        assert b"multus_calls_waiting 1" in metrics


def test_one_daemon_a_socket(node: Node, daemon: RunningDaemon) -> None:
    other = RunningDaemon(node)
    done = other.run_to_end()
    assert done.rc == 2
    assert "another multus-daemon serves here" in done.stderr
    assert daemon.call("STATUS", conf(node)).rc == 0
    daemon.kill()
    assert os.path.exists(daemon.socket)
    other.start()
    try:
        assert other.call("STATUS", conf(node)).rc == 0
        assert os.stat(other.socket).st_mode & 0o777 == 0o600
        assert os.stat(os.path.dirname(other.socket)).st_mode & 0o777 == 0o700
        assert other.stop() == 0
        assert not os.path.exists(other.socket)
    finally:
        other.close()


def test_a_socket_of_the_service_manager_outlives_the_daemon(node: Node) -> None:
    daemon = ActivatedDaemon(node)
    try:
        daemon.start()
        assert daemon.call("ADD", conf(node)).rc == 0
        daemon.kill()
        with daemon.begin("DEL", conf(node)) as waiting:
            daemon.start()
            assert frames.decode_answer(read_all(waiting)).status == 0
        assert daemon.stop() == 0
        assert os.path.exists(daemon.socket)
        node.assert_clean()
    finally:
        daemon.close()


def test_who_looks_by_tcp_sees_no_calls(node: Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # One that listens in the host's namespace of the node is out of our reach: ask from inside.
    daemon = RunningDaemon(node, f"  metrics: 127.0.0.1:{port}\n", section="daemon")
    try:
        daemon.start()
        answers = [inside(node, port, path) for path in ("/metrics", "/readyz", "/cni")]
        assert "multus_workers_busy 0" in answers[0]
        assert [answer.split(" ")[1] for answer in answers] == ["200", "200", "404"]
    finally:
        daemon.close()


def inside(node: Node, port: int, path: str) -> str:
    """Ask by TCP from the host's namespace."""
    script = (
        "import socket,sys; s=socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
        "s.sendall(f'GET {sys.argv[2]} HTTP/1.1\\r\\n\\r\\n'.encode());"
        "print(b''.join(iter(lambda: s.recv(65536), b'')).decode())"
    )
    done = subprocess.run(
        ["ip", "netns", "exec", node.host, sys.executable, "-c", script, str(port), path],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_it_waits_for_the_default_network_once(node: Node) -> None:
    ready = node.root / "ready"
    keys = {"multusConfigFile": "auto", "readinessindicatorfile": str(ready)}
    daemon = RunningDaemon(node, "", "--config", file(node, **keys))
    late = threading.Timer(0.6, ready.touch)
    late.start()
    try:
        daemon.start()
        assert ready.exists()
        ready.unlink()
        assert daemon.call("ADD", conf(node)).rc == 0
        assert daemon.call("DEL", conf(node)).rc == 0
    finally:
        daemon.close()
        late.join()


def test_a_log_of_json(node: Node) -> None:
    daemon = RunningDaemon(node, "  format: json\n")
    try:
        daemon.start()
        assert daemon.call("ADD", conf(node)).rc == 0
        assert daemon.call("ADD", conf(node)).rc == 1
        assert daemon.call("DEL", conf(node)).rc == 0
        eventually(lambda: '"DEL"' in daemon.log.read_text())
    finally:
        daemon.close()
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    calls = [line for line in lines if "verb" in line]
    assert [(line["verb"], line["outcome"], line["code"]) for line in calls] == [
        ("ADD", "ok", 0),
        ("ADD", "failed", 999),
        ("DEL", "ok", 0),
    ]
    assert "attached br as eth0" in calls[0]["message"]


def test_wrong_settings_are_told(node: Node) -> None:
    done = RunningDaemon(node, "", "--config", file(node, chrootDir="/hostroot")).run_to_end()
    assert (done.rc, done.stdout) == (2, "")
    assert "chrootDir is not served" in done.stderr


def test_a_port_that_another_has_is_told(node: Node) -> None:
    # No address of the node's: it cannot be listened on, as one that is in use.
    daemon = RunningDaemon(node, "  metrics: 192.0.2.1:9101\n", section="daemon")
    done = daemon.run_to_end()
    assert done.rc == 2
    assert "192.0.2.1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists(daemon.socket)


def test_units_and_version(node: Node) -> None:
    service = RunningDaemon(node, "", "--unit", "service").run_to_end()
    assert service.rc == 0
    assert f"--socket {node.root}/daemon.run/multus.sock\n" in service.stdout
    assert "TimeoutStopSec=110\n" in service.stdout
    units = RunningDaemon(node, "", "--unit", "socket").run_to_end()
    assert f"ListenStream={node.root}/daemon.run/multus.sock\n" in units.stdout
    assert RunningDaemon(node, "", "--version").run_to_end().stdout.startswith("multus-daemon ")
