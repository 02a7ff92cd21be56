"""dpdk-devbind.py as an external program: which one may run, and what its word is worth."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from hwmgr import devbind, driver
from hwmgr.errors import BindError, RunTimeout
from hwmgr.run import Completed
from tests.fakes.runner import Call, Devbind, FakeRunner

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.machine import Machine

root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root: files are given to others")


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """A program that root alone can change, in folders of which the same is true."""
    if os.getuid() != 0:
        pytest.skip("needs root: the tool must be root's")
    path = tmp_path / "bin" / "dpdk-devbind.py"
    path.parent.mkdir(mode=0o755)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_listed_tool_of_root_may_run(tool: Path) -> None:
    assert devbind.refusal(str(tool), [str(tool)]) is None


def test_a_tool_that_is_not_listed(tool: Path) -> None:
    assert "not on this node's list" in (devbind.refusal(str(tool), ["/usr/bin/other"]) or "")
    assert devbind.refusal(f"{tool.parent}/../bin/{tool.name}", [str(tool)]) is not None


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_tool_that_others_can_write(tool: Path, mode: int) -> None:
    tool.chmod(mode)
    assert "can be changed" in (devbind.refusal(str(tool), [str(tool)]) or "")


def test_a_folder_that_others_can_write(tool: Path) -> None:
    tool.parent.chmod(0o777)
    assert "can be changed" in (devbind.refusal(str(tool), [str(tool)]) or "")


def test_a_tool_or_folder_of_somebody_else(tool: Path) -> None:
    os.chown(tool, 1000, 0)
    assert "can be changed" in (devbind.refusal(str(tool), [str(tool)]) or "")
    os.chown(tool, 0, 0)
    os.chown(tool.parent, 1000, 0)
    assert "can be changed" in (devbind.refusal(str(tool), [str(tool)]) or "")


def test_what_a_link_leads_to_counts(tool: Path, tmp_path: Path) -> None:
    link = tmp_path / "devbind"
    link.symlink_to(tool)
    assert devbind.refusal(str(link), [str(link)]) is None
    os.chown(tool, 1000, 0)
    assert devbind.refusal(str(link), [str(link)]) is not None


def test_a_link_in_a_folder_that_others_can_write(tool: Path, tmp_path: Path) -> None:
    """The link could be pointed at another program of root's, one that does harm."""
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    link = loose / "devbind"
    link.symlink_to(tool)
    assert devbind.refusal(str(link), [str(link)]) is not None


def test_a_link_on_the_way_in_a_folder_that_others_can_write(tool: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    (loose / "bin").symlink_to(tool.parent)
    (tmp_path / "bins").symlink_to(loose / "bin")
    path = f"{tmp_path}/bins/{tool.name}"
    assert str(loose) in (devbind.refusal(path, [path]) or "")


def test_the_sticky_bit_protects_folders_not_files(tool: Path) -> None:
    tool.parent.chmod(0o1777)
    assert devbind.refusal(str(tool), [str(tool)]) is None
    tool.chmod(0o1777)
    assert devbind.refusal(str(tool), [str(tool)]) is not None


def test_what_is_no_program(tool: Path) -> None:
    tool.chmod(0o644)
    assert "not a program" in (devbind.refusal(str(tool), [str(tool)]) or "")
    folder = str(tool.parent)
    assert "not a program" in (devbind.refusal(folder, [folder]) or "")
    missing = f"{folder}/missing"
    assert "No such file" in (devbind.refusal(missing, [missing]) or "")
    tool.with_name("loop").symlink_to("loop")
    loop = str(tool.with_name("loop"))
    assert devbind.refusal(loop, [loop]) is not None


def test_the_tool_binds(machine: Machine) -> None:
    vf = machine.nics[0].vf(1)
    runner = FakeRunner({"/t": Devbind(machine.sim)})
    devbind.bind(machine.sim, runner, "/t", vf, "vfio-pci")
    assert driver.current_driver(machine.sim, vf) == "vfio-pci"
    (call,) = runner.calls
    assert call.argv == ("/t", "-b", "vfio-pci", vf)
    assert set(call.env) == {"PATH", "LC_ALL"}


def test_its_exit_status_decides_nothing(machine: Machine) -> None:
    vf = machine.nics[0].vf(1)
    runner = FakeRunner({"/t": lambda call: Completed(0, b"", b"Error: bind failed")})
    with pytest.raises(BindError, match="bind failed"):
        devbind.bind(machine.sim, runner, "/t", vf, "vfio-pci")

    def grumpy(call: Call) -> Completed:
        Devbind(machine.sim)(call)
        return Completed(1, b"", b"some warning")

    devbind.bind(machine.sim, FakeRunner({"/t": grumpy}), "/t", vf, "vfio-pci")
    assert driver.current_driver(machine.sim, vf) == "vfio-pci"


def test_a_tool_that_hangs_or_is_not_there(machine: Machine) -> None:
    vf = machine.nics[0].vf(1)

    def hang(call: Call) -> Completed:
        raise RunTimeout(call.argv[0], call.timeout)

    with pytest.raises(BindError, match="did not finish within"):
        devbind.bind(machine.sim, FakeRunner({"/t": hang}), "/t", vf, "vfio-pci")
    with pytest.raises(BindError, match="No such file"):
        devbind.bind(machine.sim, FakeRunner(), "/t", vf, "vfio-pci")
