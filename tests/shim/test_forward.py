"""A call that the daemon answers, and answers that are none."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from hwmgr import frames
from hwmgr.frames import Answer, Call
from multus import version
from tests.shim.rig import BASE, FakeDaemon, receive, take

if TYPE_CHECKING:
    from tests.shim.rig import Shim

VERBS = ["ADD", "DEL", "CHECK", "GC", "STATUS"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("program", ["multus", "sriov"])
def test_a_call_is_handed_over_as_it_is(shim: Shim, verb: str, program: str) -> None:
    with FakeDaemon(shim.socket, Answer(3, b"out\n", b"err\n")) as daemon:
        done = shim.run(verb, b'{"a": "\xff\0"}', program, env={"X": "ä=\udcff b"})
    assert (done.status, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    env = {**BASE, "CNI_COMMAND": verb, "X": "ä=\udcff b"}
    assert daemon.calls == [Call(program, env, b'{"a": "\xff\0"}')]


def test_a_link_to_the_program_reads_the_settings_of_what_it_leads_to(shim: Shim) -> None:
    link = shim.folder / "sriov"
    link.symlink_to("bin/multus")
    with FakeDaemon(shim.socket) as daemon:
        assert shim.run("ADD", program="../sriov").status == 0
    assert daemon.calls[0].program == "sriov"


def test_large_environments_inputs_and_answers_pass(shim: Shim) -> None:
    env = {f"LARGE{number}": "x" * 120_000 for number in range(10)}
    stdin, out = os.urandom(frames.LONGEST_INPUT), os.urandom(5_000_001)
    with FakeDaemon(shim.socket, Answer(0, out, b"e" * 300_000)) as daemon:
        done = shim.run("ADD", stdin, env=env)
    assert (done.status, done.stdout, done.stderr) == (0, out, b"e" * 300_000)
    assert daemon.calls[0].stdin == stdin
    assert daemon.calls[0].env["LARGE9"] == "x" * 120_000


def test_an_answer_may_come_in_pieces(shim: Shim) -> None:
    def trickle(connection: socket.socket) -> None:
        take(connection)
        for byte in frames.encode_answer(Answer(0, b"{}", b"w")):
            connection.sendall(bytes([byte]))

    with FakeDaemon(shim.socket, behave=trickle):
        done = shim.run("ADD")
    assert (done.status, done.stdout, done.stderr) == (0, b"{}", b"w")


def test_input_may_come_in_pieces(shim: Shim) -> None:
    with FakeDaemon(shim.socket) as daemon:
        process = shim.start("ADD")
        assert process.stdin is not None
        for piece in (b"{", b'"a":', b"1}"):
            process.stdin.write(piece)
            process.stdin.flush()
        assert process.communicate(timeout=30)[0] == b"{}\n"
    assert daemon.calls[0].stdin == b'{"a":1}'


def test_an_answer_before_the_call_was_read_is_printed(shim: Shim) -> None:
    def refuse(connection: socket.socket) -> None:
        receive(connection, frames.HEADER_BYTES)
        connection.sendall(frames.encode_answer(Answer(1, b"too much")))

    with FakeDaemon(shim.socket, behave=refuse):
        done = shim.run("ADD", b"x" * 4_000_000)
    assert (done.status, done.stdout) == (1, b"too much")


def test_a_full_backlog_is_waited_for(shim: Shim) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(shim.socket))
    listener.listen(0)
    with listener, socket.socket(socket.AF_UNIX) as first:
        first.connect(str(shim.socket))
        process = shim.start("ADD", stdin=subprocess.DEVNULL)
        # It has nothing to say as long as nobody accepts: connect(2) would fail without waiting.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        listener.accept()[0].close()
        connection, _ = listener.accept()
        with connection:
            take(connection)
            connection.sendall(frames.encode_answer(Answer(0, b"late")))
        assert process.communicate(timeout=30)[0] == b"late"


def test_a_full_backlog_has_the_limit_of_the_call(shim: Shim) -> None:
    shim.configure(answer_ms=300)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(shim.socket))
        listener.listen(0)
        first.connect(str(shim.socket))
        error = shim.run("ADD").error()
    assert error["code"] == 11
    assert "did not answer" in error["msg"]


def test_the_limit_holds_for_a_daemon_that_keeps_silent(shim: Shim) -> None:
    shim.configure(answer_ms=300)
    gone = threading.Event()

    def silent(connection: socket.socket) -> None:
        take(connection)
        # The end of the connection is how the daemon learns that the caller went away.
        assert connection.recv(1) == b""
        gone.set()

    began = time.monotonic()
    with FakeDaemon(shim.socket, behave=silent):
        done = shim.run("ADD")
        assert gone.wait(10)
    assert 0.3 <= time.monotonic() - began < 10
    assert done.error()["code"] == 11
    assert "within 300 ms" in done.error()["msg"]
    assert str(shim.conf) in done.error()["msg"]


@pytest.mark.parametrize(("verb", "code"), [("DEL", 11), ("STATUS", 50), ("VERSION", 11)])
def test_at_the_limit_nothing_is_called_done(shim: Shim, verb: str, code: int) -> None:
    shim.configure(answer_ms=200, thin=shim.thin())
    with FakeDaemon(shim.socket, behave=receive_rest):
        assert shim.run(verb).error()["code"] == code
    assert shim.spooled() == []


def receive_rest(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def test_the_limit_holds_for_a_daemon_that_does_not_read(shim: Shim) -> None:
    shim.configure(answer_ms=300)
    stop = threading.Event()
    with FakeDaemon(shim.socket, behave=lambda connection: stop.wait(30)):
        done = shim.run("ADD", b"x" * 8_000_000)
        stop.set()
    assert done.error()["code"] == 11


WRONG = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "another version": b"\x8eCNI\x02\0\0\0" + bytes(8),
    "no zeros": b"\x8eCNI\x01\0\0\1" + bytes(8),
    "too large": b"\x8eCNI\x01\0\0\0\xff\xff\xff\xff" + bytes(4),
    "too large by one": b"\x8eCNI\x01\0\0\0" + bytes(4) + b"\x01\0\0\1",
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize(("verb", "code"), [("ADD", 11), ("DEL", 11), ("STATUS", 50)])
def test_what_is_no_answer_is_refused(shim: Shim, name: str, verb: str, code: int) -> None:
    with FakeDaemon(shim.socket, WRONG[name]):
        error = shim.run(verb).error()
    assert error["code"] == code
    assert str(shim.socket) in error["msg"]
    assert shim.spooled() == []


@pytest.mark.parametrize(
    "sent", [b"", b"\x8eCNI", b"\x8eCNI\x01\0\0\0\0\0\0\x09" + bytes(4) + b"half"]
)
@pytest.mark.parametrize(("verb", "code"), [("ADD", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)])
def test_a_connection_that_breaks_is_an_error(
    shim: Shim, sent: bytes, verb: str, code: int
) -> None:
    shim.configure(thin=shim.thin())
    with FakeDaemon(shim.socket, sent):
        error = shim.run(verb).error()
    assert error["code"] == code
    assert "ended the connection" in error["msg"]
    assert error["cniVersion"] == version.CURRENT


def test_an_answer_that_nobody_reads_is_a_failure(shim: Shim) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with FakeDaemon(shim.socket):
        done = shim.run("ADD", stdout=writing)
    os.close(writing)
    assert (done.status, done.stderr) == (1, b"")


def test_closed_streams_are_nobody_elses(shim: Shim) -> None:
    with FakeDaemon(shim.socket) as daemon:
        closed = [f"exec {shim.folder}/bin/multus {how}" for how in (">&-", "2>&- >&-")]
        for script in closed:
            env = {**BASE, "CNI_COMMAND": "ADD"}
            status = os.waitstatus_to_exitcode(
                os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", f"{script} </dev/null"], env), 0)[
                    1
                ]
            )
            assert status == 1
    # An answer that was written into the connection would have come back as a part of a call.
    assert [call.stdin for call in daemon.calls] == [b"", b""]


def test_input_that_cannot_be_read_is_code_5(shim: Shim) -> None:
    with FakeDaemon(shim.socket) as daemon:
        with (shim.folder / "written").open("wb") as file:
            assert shim.run("ADD", stdin=file).error()["code"] == 5
        script = f"exec {shim.folder}/bin/multus <&-"
        closed = shim_by_shell(script)
        assert b'"code": 5' in closed
        assert daemon.calls == []


def shim_by_shell(script: str) -> bytes:
    env = {**BASE, "CNI_COMMAND": "DEL"}
    done = subprocess.run(["/bin/sh", "-c", script], env=env, stdout=subprocess.PIPE)
    return done.stdout


def test_input_that_does_not_end_is_code_5(shim: Shim) -> None:
    shim.configure(answer_ms=200)
    with shim.start("ADD") as process:
        assert process.stdout is not None
        assert b'"code": 5' in process.stdout.read()


def test_input_beyond_the_limit_is_code_5(shim: Shim) -> None:
    with FakeDaemon(shim.socket) as daemon:
        large = shim.folder / "large"
        large.write_bytes(bytes(frames.LONGEST_INPUT + 1))
        with large.open() as file:
            error = shim.run("ADD", stdin=file).error()
    assert error["code"] == 5
    assert str(frames.LONGEST_INPUT) in error["msg"]
    assert daemon.calls == []
