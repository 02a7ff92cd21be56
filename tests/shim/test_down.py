"""Calls while no daemon is there: done by the thin program, kept, or refused; never lost."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from multus import version
from multus.__main__ import answer_without_engine
from tests.shim.rig import BASE, CONTAINER, FakeDaemon

if TYPE_CHECKING:
    from tests.shim.rig import Shim

NOTHING_THERE = [("ADD", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50), ("SOMETHING", 11)]


@pytest.mark.parametrize(("verb", "code"), NOTHING_THERE)
def test_without_a_daemon_calls_are_refused(shim: Shim, verb: str, code: int) -> None:
    error = shim.run(verb).error()
    assert error["code"] == code
    assert error["cniVersion"] == version.CURRENT
    assert "systemctl status multus-daemon" in error["msg"]
    assert f"{shim.socket}: No such file or directory" in error["msg"]
    assert shim.spooled() == []


def test_a_socket_that_nobody_listens_on_is_no_daemon(shim: Shim) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(shim.socket))
    assert "Connection refused" in shim.run("ADD").error()["msg"]


@pytest.mark.parametrize("program", ["multus", "sriov"])
def test_a_del_is_kept_as_it_came(shim: Shim, program: str) -> None:
    before = time.time_ns()
    done = shim.run("DEL", b"{\0\xff", program, env={"X": "\udcff"})
    assert (done.status, done.stdout) == (0, b"")
    assert b"the DEL is kept in" in done.stderr
    (call,) = shim.spooled()
    assert (call.program, call.stdin) == (program, b"{\0\xff")
    assert call.env == {**BASE, "CNI_COMMAND": "DEL", "X": "\udcff"}
    (name,) = os.listdir(shim.spool)
    match = re.fullmatch(rf"{CONTAINER}\.eth0\.(\d{{19}})\.(\d+)", name)
    assert match
    assert before <= int(match[1]) <= time.time_ns()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (shim.spool, shim.spool / name)]
    assert modes == [0o700, 0o600]
    assert stat.S_IMODE(shim.spool.parent.stat().st_mode) == 0o700


def test_two_dels_are_two_files_in_their_order(shim: Shim) -> None:
    for stdin in (b"1", b"2"):
        assert shim.run("DEL", stdin).status == 0
    assert [call.stdin for call in shim.spooled()] == [b"1", b"2"]


@pytest.mark.parametrize("sent", [b"", b"\x8eCNI\x01\0\0\0\0\0\0\x09" + bytes(4) + b"half"])
def test_a_del_whose_connection_breaks_is_kept(shim: Shim, sent: bytes) -> None:
    with FakeDaemon(shim.socket, sent) as daemon:
        assert shim.run("DEL").status == 0
    assert daemon.calls == shim.spooled()


def test_a_killed_daemon_loses_no_del(shim: Shim) -> None:
    """The process that has taken the call is gone, with its listening socket, before it answers."""
    code = (
        "import socket, os, signal; s = socket.socket(socket.AF_UNIX); s.bind(os.environ['S']);"
        "s.listen(); print(flush=True); c, _ = s.accept(); c.recv(9); os.kill(os.getpid(), 9)"
    )
    server = subprocess.Popen(
        ["/usr/bin/python3", "-c", code], env={"S": str(shim.socket)}, stdout=subprocess.PIPE
    )
    with server:
        assert server.stdout is not None
        server.stdout.readline()
        assert shim.run("DEL", b"x" * 3_000_000).status == 0
    assert server.returncode == -signal.SIGKILL
    assert [len(call.stdin) for call in shim.spooled()] == [3_000_000]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CNI_CONTAINERID", ""),
        ("CNI_CONTAINERID", "../../etc/passwd"),
        ("CNI_CONTAINERID", ".hidden"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_CONTAINERID", "a\n"),
        ("CNI_CONTAINERID", "ä"),
        ("CNI_IFNAME", ""),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "."),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_IFNAME", "a\tb"),
        ("CNI_IFNAME", "sixteen.bytes.eh"),
    ],
)
def test_names_that_are_no_names_become_no_path(shim: Shim, name: str, value: str) -> None:
    error = shim.run("DEL", env={name: value}).error()
    assert error["code"] == 4
    assert name in error["msg"]
    assert not shim.spool.exists()


@pytest.mark.parametrize(("container", "ifname"), [("a" * 150, "e"), ("0._-Z", "15.bytes.eth-ä")])
def test_unusual_names_are_kept(shim: Shim, container: str, ifname: str) -> None:
    assert shim.run("DEL", env={"CNI_CONTAINERID": container, "CNI_IFNAME": ifname}).status == 0
    assert shim.spooled()[0].env["CNI_IFNAME"] == ifname


def test_a_name_too_long_for_a_file_is_no_success(shim: Shim) -> None:
    error = shim.run("DEL", env={"CNI_CONTAINERID": "a" * 250}).error()
    assert error["code"] == 11
    assert "File name too long" in error["msg"]
    assert shim.spooled() == []


def test_a_del_that_cannot_be_kept_is_no_success(shim: Shim) -> None:
    shim.spool.parent.write_text("in the way")
    error = shim.run("DEL").error()
    assert error["code"] == 11
    assert "Not a directory" in error["msg"]
    assert str(shim.spool) in error["msg"]


def test_a_del_that_is_not_whole_on_disk_is_no_success(shim: Shim) -> None:
    """A file size limit stands in for a full disk: both fail in the middle of the data."""
    shim.spool.mkdir(parents=True)
    script = f"ulimit -f 1; trap '' XFSZ; exec {shim.folder}/bin/multus"
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        input=b"x" * 5000,
        env={**BASE, "CNI_COMMAND": "DEL"},
        stdout=subprocess.PIPE,
    )
    assert done.returncode == 1
    error = json.loads(done.stdout)
    assert error["code"] == 11
    assert "File too large" in error["msg"]
    assert os.listdir(shim.spool) == []


def test_messages_are_json_whatever_is_in_them(shim: Shim) -> None:
    shim.configure(socket='/no"such\\folder/\x01ä/s')
    assert 'no"such\\folder/\x01' in shim.run("ADD").error()["msg"]


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"])
@pytest.mark.parametrize("program", ["multus", "sriov"])
def test_the_thin_program_does_the_call(shim: Shim, verb: str, program: str) -> None:
    thin = shim.thin()
    shim.configure(thin=thin, connect_ms=None)
    done = shim.run(verb, b"{}\xff\0", program)
    first, _, rest = done.stdout.partition(b"\n")
    assert first.decode() == f"thin {thin}/{program} {verb} {CONTAINER}"
    assert (rest, done.status) == (b"{}\xff\0", 7)
    assert shim.spooled() == []


def test_the_thin_program_is_started_as_it_would_be_by_the_runtime(shim: Shim) -> None:
    thin = shim.thin()
    (thin / "multus").write_text(
        "#!/bin/bash\nexport -p | grep -c LC_CTYPE\nls /proc/self/fd | wc -l\n"
        "grep SigIgn /proc/self/status\n"
    )
    shim.configure(thin=thin)
    variables, files, ignored = shim.run("ADD").stdout.split(b"\n")[:3]
    assert variables == b"0"
    assert int(files) == 4  # the three streams, and the folder that ls itself has open
    assert int(ignored.split()[1], 16) & 1 << (signal.SIGPIPE - 1) == 0


def test_the_thin_program_is_not_started_for_an_add_that_the_daemon_took(shim: Shim) -> None:
    shim.configure(thin=shim.thin())
    with FakeDaemon(shim.socket, b""):
        assert shim.run("ADD").error()["code"] == 11


@pytest.mark.parametrize("verb", ["DEL", "VERSION"])
def test_what_may_be_done_twice_is_done_by_the_thin_program(shim: Shim, verb: str) -> None:
    shim.configure(thin=shim.thin())
    with FakeDaemon(shim.socket, b""):
        assert shim.run(verb).stdout.startswith(b"thin ")


def test_without_the_thin_program_a_del_is_kept(shim: Shim) -> None:
    shim.configure(thin="/nonexistent")
    done = shim.run("DEL")
    assert done.status == 0
    assert b"/nonexistent/multus cannot be started: No such file or directory" in done.stderr
    assert len(shim.spooled()) == 1
    error = shim.run("ADD").error()
    assert error["code"] == 11
    assert "/nonexistent/multus" in error["msg"]


def test_a_daemon_that_comes_back_in_time_gets_the_call(shim: Shim) -> None:
    shim.configure(connect_ms=30000)
    process = shim.start("ADD", stdin=subprocess.DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    with FakeDaemon(shim.socket) as daemon:
        assert process.communicate(timeout=30)[0] == b"{}\n"
    assert len(daemon.calls) == 1


@pytest.mark.parametrize(("thin", "waits"), [(None, True), ("/nonexistent", False)])
def test_without_a_setting_only_a_node_without_thin_waits(
    shim: Shim, thin: str | None, waits: bool
) -> None:
    shim.configure(connect_ms=None, thin=thin)
    process = shim.start("ADD", stdin=subprocess.DEVNULL)
    if waits:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
    began = time.monotonic()
    assert b'"code": 11' in process.communicate(timeout=30)[0]
    assert 0.8 < time.monotonic() - began < 10 if waits else True


def test_the_limit_of_the_call_ends_the_waiting_too(shim: Shim) -> None:
    shim.configure(connect_ms=60000, answer_ms=200)
    assert shim.run("DEL").status == 0
    assert len(shim.spooled()) == 1


def test_version_is_what_the_settings_say(shim: Shim) -> None:
    shim.configure(version='{"cniVersion": "9", "a=b": "#"}', answer_ms=100)
    # It need not even read its input, which does not end here.
    with shim.start("VERSION") as process:
        assert process.stdout is not None
        assert process.stdout.read() == b'{"cniVersion": "9", "a=b": "#"}\n'
    assert process.returncode == 0


def test_version_without_a_setting_is_asked_of_the_daemon(shim: Shim) -> None:
    with FakeDaemon(shim.socket) as daemon:
        assert shim.run("VERSION").stdout == b"{}\n"
    assert daemon.calls[0].env["CNI_COMMAND"] == "VERSION"


def test_version_with_nobody_to_ask_is_that_of_the_engine(
    shim: Shim, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shim.configure(connect_ms=60000)
    done = shim.run("VERSION")
    monkeypatch.setenv("CNI_COMMAND", "VERSION")
    assert answer_without_engine("multus") == done.status == 0
    assert capsys.readouterr().out.encode() == done.stdout


@pytest.mark.parametrize("env", [{"CNI_COMMAND": ""}, {"CNI_COMMAND_": "ADD"}])
@pytest.mark.parametrize("program", ["multus", "sriov"])
def test_a_person_is_told_what_it_is(
    shim: Shim,
    env: dict[str, str],
    program: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shim.conf.write_text("not read")
    process = subprocess.Popen(
        [shim.folder / "bin" / program],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        # The input is not read: it does not end here.
        out, err = process.stdout.read(), process.stderr.read()
    monkeypatch.delenv("CNI_COMMAND", raising=False)
    assert answer_without_engine(program) == process.returncode == 0
    assert (out, err) == (b"", capsys.readouterr().err.encode())


def test_signals_that_interrupt_are_no_failure(shim: Shim) -> None:
    """SIGCONT to a stopped process is how poll(2) and connect(2) come to return EINTR."""
    shim.configure(answer_ms=60000)
    asked, go = threading.Event(), threading.Event()

    def slow(connection: socket.socket) -> None:
        asked.set()
        go.wait(30)
        daemon.reply(connection)

    with FakeDaemon(shim.socket, behave=slow) as daemon:
        process = shim.start("ADD", stdin=subprocess.DEVNULL)
        assert asked.wait(30)
        for number in (signal.SIGSTOP, signal.SIGCONT) * 3:
            process.send_signal(number)
        go.set()
        assert process.communicate(timeout=30)[0] == b"{}\n"
    assert process.returncode == 0


def test_the_twin_without_its_second_file_says_so(shim: Shim) -> None:
    if shim.kind != "python":
        assert not (shim.folder / "bin" / "hwmgr-shim-down.py").exists()
        return
    (shim.folder / "bin" / "hwmgr-shim-down.py").unlink()
    error = shim.run("DEL").error()
    assert error["code"] == 11
    assert "multusctl install" in error["msg"]


def test_the_twin_leaves_no_byte_code_beside_it(shim: Shim) -> None:
    before = sorted(os.listdir(shim.folder / "bin"))
    shim.run("DEL")
    assert sorted(os.listdir(shim.folder / "bin")) == before


def test_without_memory_a_del_is_no_success(shim: Shim) -> None:
    kilobytes = {"c": 8000, "python": 40000}.get(shim.kind)
    if kilobytes is None:
        return  # the sanitizers reserve terabytes of addresses
    done = subprocess.run(
        ["/bin/bash", "-c", f"ulimit -v {kilobytes}; exec {shim.folder}/bin/multus"],
        input=bytes(16_000_000),
        env={**BASE, "CNI_COMMAND": "DEL"},
        stdout=subprocess.PIPE,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == 11
    assert shim.spooled() == []
