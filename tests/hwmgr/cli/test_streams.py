"""Listings and their streams: what is empty, what the terminal lacks, Ctrl-C."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwmgr import driver
from hwmgr.cli.session import Session
from hwmgr.cli.start import main
from hwmgr.devicefiles import holder_files
from hwmgr.model import PciAddress
from tests.fakes.machine import build
from tests.fakes.nodes import node_on
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from hwmgr.node import Node

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "sysfs_fixtures"


def test_ctrl_c_ends_it_without_a_word() -> None:
    """As any program that leaves SIGINT alone: a shell's loop ends with it."""
    script = """
import io, sys
from hwmgr.cli.session import Session
from hwmgr.cli.start import main

def interrupted(*_):
    raise KeyboardInterrupt

main(["vf", "list"], Session(interrupted, {}, sys.stdout, sys.stderr))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


_ENOSPC = "standard output cannot be written: No space left on device; what it shows is not all"
_CLOSED = "standard output cannot be written: it is closed, so nothing was done"
_LINES = (
    "hwmgr --sysfs sysfs_fixtures/cx3-shared/sys vf list",
    "hwmgr --sysfs sysfs_fixtures/cx3-shared/sys vf list -o yaml",
    "hwmgr --sysfs sysfs_fixtures/cx3-shared/sys vf show 0000:04:00.1",
    "hwmgr units",
    "hwmgr vf --help",
    "hwmgr --version",
    "hwmgr --show-completion bash",
    "multus.ctl.app attachments list",
    "multus.ctl.app manifests",
    "multus.ctl.app --help",
)


@pytest.mark.parametrize("line", _LINES)
def test_an_output_that_is_full_is_told(tmp_path: Path, line: str) -> None:
    """Whether it is met at once or by the interpreter's last flush, which takes status 120."""
    for unbuffered in ("", "1"):
        status, _, err = by_shell(tmp_path, f"{line} >/dev/full", PYTHONUNBUFFERED=unbuffered)
        assert status == 1
        assert_ends_with(_ENOSPC, err)


@pytest.mark.parametrize("line", _LINES)
def test_an_output_that_is_closed_is_told(tmp_path: Path, line: str) -> None:
    status, _, err = by_shell(tmp_path, f"{line} >&-")
    assert status == 1
    assert_ends_with(_CLOSED, err)


def test_remarks_follow_what_they_are_about(tmp_path: Path) -> None:
    """Where both streams go to one file, which standard output alone is buffered for."""
    line = "hwmgr --sysfs sysfs_fixtures/x710-i40e/sys doctor 2>&1"
    _, out, _ = by_shell(tmp_path, line, PYTHONUNBUFFERED="")
    assert "'hwmgr repair'" in out.splitlines()[-1]
    assert out.splitlines()[-1].startswith("hwmgr: ")


def assert_ends_with(text: str, err: str) -> None:
    lines = err.splitlines()
    assert text in lines[-1]
    assert all(line.startswith(("hwmgr: ", "multusctl: ")) for line in lines)


@pytest.mark.parametrize("away", ["2>&-", "2>/dev/full"])
def test_without_standard_error_the_status_tells(tmp_path: Path, away: str) -> None:
    assert by_shell(tmp_path, f"hwmgr vf show 0000:ff:1f.7 {away}")[:2] == (1, "")
    assert by_shell(tmp_path, f"multus.ctl.app nonsense {away}")[:2] == (2, "")
    assert by_shell(tmp_path, f"hwmgr --version >/dev/full {away}")[0] == 1
    status, out, _ = by_shell(tmp_path, f"hwmgr --version {away}")
    assert (status, out[:6]) == (0, "hwmgr ")


def by_shell(root: Path, line: str, **variables: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m {line}"],
        cwd=ROOT,
        env={**os.environ, "HWMGR_STATE_DIR": str(root), "HWMGR_CONFIG": f"{root}/no", **variables},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("form", ["table", "wide", "yaml", "json"])
def test_a_name_that_the_terminal_lacks_is_shown(tmp_path: Path, encoding: str, form: str) -> None:
    machine = build(str(tmp_path), Nic(ifname="网卡0", vfs=1))
    machine.close()
    done = subprocess.run(
        [sys.executable, "-m", "hwmgr", "--sysfs", f"{tmp_path}/sys", "vf", "list", "-o", form],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding, "HWMGR_STATE_DIR": str(tmp_path)},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u7f51\\u53610" in done.stdout.lower()


def test_an_empty_list_says_what_is_missing(in_memory: Path) -> None:
    guest = node_on(FIXTURES / "vm-without-pf")
    for words in (["pf", "list"], ["vf", "list"]):
        status, out, err = shown(guest, *words)
        assert (status, out.count("\n")) == (0, 1)
        assert err == "hwmgr: no PF with SR-IOV on this node\n"
    assert shown(guest, "doctor")[2].endswith("hwmgr: no PF with SR-IOV on this node\n")
    machine = build(str(in_memory), Nic(vfs=0))
    assert shown(machine.node, "vf", "list")[2].startswith("hwmgr: no VF; 'hwmgr pf list' has")
    assert shown(machine.node, "vf", "list", "--state", "leaked")[2] == "hwmgr: no such VF\n"
    assert shown(machine.node, "pf", "list")[2] == ""
    machine.close()


def shown(node: Node, *words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main(words, Session(lambda *_: node, {}, out, err)), out.getvalue(), err.getvalue()


@pytest.mark.parametrize("command", ["doctor", "repair"])
def test_another_machines_tree_is_no_whole_node(command: str) -> None:
    tree = str(FIXTURES / "82599-ixgbe/sys")
    err = shown(node_on(FIXTURES / "82599-ixgbe"), "--sysfs", tree, command)[2]
    assert f"functions are read from {tree}, netdevs and processes from this machine" in err
    own = shown(node_on(FIXTURES / "82599-ixgbe"), "--sysfs", "/sys", command)[2]
    assert "functions are read from" not in own


def test_both_netdevs_of_a_shared_vf_are_shown() -> None:
    status, out, _ = shown(node_on(FIXTURES / "cx3-shared"), "vf", "list")
    assert (status, out) == (0, """\
ADDRESS       PF    VF  STATE  DRIVER     IFNAME           OWNER  MAC  VLAN
0000:04:00.1  ens1  0   free   mlx4_core  ens1v0,ens1v0d1  -      -    -
0000:04:00.2  ens1  1   free   mlx4_core  ens1v1,ens1v1d1  -      -    -
""")  # fmt: skip


def test_a_process_names_itself_and_the_terminal_does_not_obey(in_memory: Path) -> None:
    machine = build(str(in_memory), Nic(vfs=1))
    driver.bind(machine.sim, PciAddress("0000:01:10.0"), "vfio-pci")
    (device,) = holder_files(machine.sim, "0000:01:10.0", machine.node.dev)
    folder = Path(machine.node.proc, "88/fd")
    folder.mkdir(parents=True)
    (folder / "7").symlink_to(device)
    Path(machine.node.proc, "88/comm").write_text("\x1b]0;x\x07\x9b2J\n")
    status, out, err = shown(machine.node, "vf", "unbind", "0000:01:10.0")
    machine.close()
    assert (status, out) == (1, "")
    assert "process 88 (?]0;x??2J)" in err
