"""The executable itself: a process with an environment, stdin and stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from multus.version import SUPPORTED

ROOT = Path(__file__).parents[2]


def multus(
    env: dict[str, str], stdin: bytes = b"", stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "multus"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env},
        input=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )


def test_version() -> None:
    done = multus({"CNI_COMMAND": "VERSION"}, b"not read")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"cniVersion": "1.1.0", "supportedVersions": list(SUPPORTED)}
    assert done.stderr == b""


@pytest.mark.parametrize("env", [{}, {"CNI_COMMAND": ""}])
def test_without_a_command_it_says_what_it_is(env: dict[str, str]) -> None:
    done = multus(env)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"CNI plugin" in done.stderr


def test_an_error_is_json_and_status_1(tmp_path: Path) -> None:
    done = multus({"CNI_COMMAND": "ADD", "HWMGR_STATE_DIR": str(tmp_path)})
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == 4
    assert done.stderr == b""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["VERSION", "ADD"])
def test_nobody_reading_is_no_traceback(command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = multus({"CNI_COMMAND": command}, stdout=writer)
    finally:
        os.close(writer)
    assert done.returncode == 1
    assert done.stderr == b""


def test_a_full_device_is_no_traceback() -> None:
    with open("/dev/full", "wb") as full:
        done = multus({"CNI_COMMAND": "VERSION"}, stdout=full.fileno())
    assert done.returncode == 1
    assert done.stderr == b""


def test_environment_that_is_not_utf8(tmp_path: Path) -> None:
    env = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth\udcff",
        "CNI_NETNS": "/run/\udcff",
        "CNI_PATH": "/nonexistent",
        "HWMGR_STATE_DIR": str(tmp_path / "state"),
    }
    conf = {"cniVersion": "1.0.0", "name": "n", "delegates": [{"type": "x"}]}
    done = multus(env, json.dumps(conf).encode())
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] in (8, 999)
    assert done.stderr == b""
