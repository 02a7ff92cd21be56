"""Plugins as programs: finding them, running them, and what their failures become."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest

from hwmgr.errors import RunError
from hwmgr.run import Completed, KernelRunner
from multus.clock import SystemClock
from multus.cnitypes import CNIError
from multus.delegates import DelegateCall
from multus.invoke import ExecPlugin, find_plugin, plugin_error
from tests.multus.fakes import FakeClock, FakeRunner


def call(path: tuple[str, ...], *, deadline: float = 2000.0, command: str = "ADD") -> DelegateCall:
    conf: dict[str, object] = {"name": "n", "type": "plug", "cniVersion": "1.0.0"}
    return DelegateCall(conf, command, "c1", "/ns", "eth0", "A=b", path, deadline)


def script(folder: Path, text: str, name: str = "plug") -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def real(tmp_path: Path, text: str, *, seconds: float = 10.0, command: str = "ADD") -> object:
    script(tmp_path, text)
    plugin = ExecPlugin(KernelRunner(), {"PATH": "/bin:/usr/bin", "KEEP": "me"}, SystemClock())
    wanted = call((str(tmp_path),), deadline=time.monotonic() + seconds, command=command)
    if command == "ADD":
        return plugin.add(wanted)
    plugin.delete(wanted)
    return None


def test_environment_and_stdin(tmp_path: Path) -> None:
    text = f"env > {tmp_path}/env; cat > {tmp_path}/stdin; echo '{{}}'"
    assert real(tmp_path, text) == {}
    env = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert env["KEEP"] == "me"
    assert {key: env[key] for key in env if key.startswith("CNI_")} == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/ns",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "A=b",
        "CNI_PATH": str(tmp_path),
    }
    assert json.loads((tmp_path / "stdin").read_text())["type"] == "plug"


def test_a_hung_plugin_and_its_children_are_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(CNIError, match="time limit") as caught:
        real(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait", seconds=0.5)
    assert time.monotonic() - began < 5
    assert caught.value.code == 999
    child = (tmp_path / "child").read_text().strip()
    # Killed it is; its parent may not have reaped it yet.
    stat = f"/proc/{child}/stat"
    assert not os.path.exists(stat) or Path(stat).read_text().split()[2] == "Z"


def test_nothing_is_run_after_the_deadline(tmp_path: Path) -> None:
    with pytest.raises(CNIError, match="could run"):
        real(tmp_path, f"touch {tmp_path}/ran", seconds=-1)
    assert not (tmp_path / "ran").exists()


def test_verbs_without_a_result_ignore_output(tmp_path: Path) -> None:
    assert real(tmp_path, "echo anything", command="DEL") is None


def test_a_plugin_that_does_not_read_stdin_is_fine(tmp_path: Path) -> None:
    assert real(tmp_path, "exec 0<&-; echo '{}'") == {}


def test_first_executable_regular_file_wins(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("none", "folder", "plain", "good", "late")]
    for folder in folders[1:]:
        folder.mkdir()
    (folders[1] / "plug").mkdir()
    (folders[2] / "plug").write_text("not executable")
    script(folders[3], "true")
    script(folders[4], "true")
    paths = tuple(str(folder) for folder in folders)
    assert find_plugin("plug", paths) == str(folders[3] / "plug")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/bin/sh", "../plug", "plug\0"])
def test_only_plain_names_are_looked_for(tmp_path: Path, name: str) -> None:
    script(tmp_path, "true")
    with pytest.raises(CNIError, match="not a plain file name"):
        find_plugin(name, (str(tmp_path), "/bin"))


def test_a_busy_file_is_waited_for(tmp_path: Path) -> None:
    script(tmp_path, "true")
    busy = RunError("plug", errno.ETXTBSY)
    runner, clock = FakeRunner({"ADD plug": [busy, busy, {}]}), FakeClock()
    assert ExecPlugin(runner, {}, clock).add(call((str(tmp_path),))) == {}
    assert len(clock.slept) == 2


def test_a_file_that_stays_busy_is_an_error_within_the_deadline(tmp_path: Path) -> None:
    script(tmp_path, "true")
    runner, clock = FakeRunner({"ADD plug": RunError("plug", errno.ETXTBSY)}), FakeClock()
    with pytest.raises(CNIError, match="busy"):
        ExecPlugin(runner, {}, clock).add(call((str(tmp_path),), deadline=1002.0))
    assert sum(clock.slept) <= 2.0


def test_a_really_busy_file(tmp_path: Path) -> None:
    """The kernel's own ETXTBSY: the file is open for writing while it is executed."""
    script(tmp_path, "true")
    holder = os.open(tmp_path / "plug", os.O_WRONLY)
    plugin = ExecPlugin(KernelRunner(), {}, SystemClock())
    try:
        with pytest.raises(CNIError, match="busy"):
            plugin.delete(call((str(tmp_path),), deadline=time.monotonic() + 0.3))
    finally:
        os.close(holder)
    plugin.delete(call((str(tmp_path),), deadline=time.monotonic() + 5))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "printed no result"),
        ("not json", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("1", "not a JSON object"),
    ],
)
def test_success_without_a_result_is_an_error(tmp_path: Path, output: str, message: str) -> None:
    with pytest.raises(CNIError, match=message) as caught:
        real(tmp_path, f"printf '%s' '{output}'")
    assert caught.value.code == 999


def test_null_is_an_empty_result(tmp_path: Path) -> None:
    assert real(tmp_path, "echo null") == {}


@pytest.mark.parametrize(
    ("done", "code", "message", "details"),
    [
        (Completed(1, b'{"code": 11, "msg": "later", "details": "d"}', b""), 11, "later", "d"),
        (Completed(1, b'{"CODE": 50, "Msg": "no"}', b""), 50, "no", ""),
        (Completed(1, b'{"code": 0, "msg": "zero"}', b""), 999, "zero", ""),
        (Completed(3, b"", b"said on stderr\n"), 999, "said on stderr (exit status 3)", ""),
        (Completed(3, b" \n", b""), 999, "no error message (exit status 3)", ""),
        (Completed(-9, b"", b""), 999, "no error message (ended by signal 9)", ""),
        (Completed(1, b"{}", b""), 999, "the plugin printed no error (exit status 1)", "{}"),
    ],
)
def test_failures(done: Completed, code: int, message: str, details: str) -> None:
    error = plugin_error(done)
    assert (error.code, error.msg, error.details) == (code, message, details)


@pytest.mark.parametrize("output", [b"oops", b"[1]", b'{"code": "7", "msg": "x"}', b"\xff\xfe"])
def test_garbage_failures_are_internal_errors(output: bytes) -> None:
    assert plugin_error(Completed(2, output, b"")).code == 999
