"""An ADD whose answer nobody took is undone, and nothing but what that very ADD attached."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, NoReturn

import pytest

from hwmgr.errors import RunTimeout
from hwmgr.frames import Call
from hwmgr.nodeconfig import NodeConfig
from multus.daemon.calllog import Notes
from multus.daemon.daemonconf import DaemonFile
from multus.daemon.metrics import Metrics
from multus.daemon.wiring import Caller, Workshop
from tests.fakes.left import leave
from tests.fakes.machine import build
from tests.fakes.tree import Nic
from tests.multus.fakes import A, B, FakeRunner, World, failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.machine import Machine

CONF = {"cniVersion": "1.0.0", "delegates": [A, B]}


def call(world: World, command: str, call_id: str = "", *, take_back: bool = False) -> int:
    world.call_id, world.take_back = call_id, take_back
    return world.cni(command, CONF).rc


def taken_back(world: World, call_id: str) -> int:
    return call(world, "DEL", call_id, take_back=True)


@pytest.fixture
def attached(world: World, runner: FakeRunner) -> World:
    assert call(world, "ADD", "first") == 0
    runner.ran.clear()
    return world


def test_its_own_is_taken_back(attached: World, runner: FakeRunner) -> None:
    assert taken_back(attached, "first") == 0
    assert runner.whats() == ["DEL plugB net1", "DEL plugA eth0"]
    assert attached.files() == []


@pytest.mark.parametrize("later", ["second", ""])
def test_what_was_attached_since_is_spared(attached: World, runner: FakeRunner, later: str) -> None:
    assert call(attached, "DEL") == 0
    assert call(attached, "ADD", later) == 0
    runner.ran.clear()
    assert taken_back(attached, "first") == 0
    assert runner.whats() == []
    assert call(attached, "CHECK") == 0


def test_nothing_is_left_of_what_was_deleted_since(attached: World, runner: FakeRunner) -> None:
    assert call(attached, "DEL") == 0
    runner.ran.clear()
    assert taken_back(attached, "first") == 0
    assert runner.whats() == []


def test_what_has_no_id_is_nobodys_to_take_back(world: World, runner: FakeRunner) -> None:
    assert call(world, "ADD") == 0
    runner.ran.clear()
    assert taken_back(world, "") == 0
    assert runner.whats() == []


def test_what_a_del_could_not_finish_is_taken_back(attached: World, runner: FakeRunner) -> None:
    runner.answers["DEL plugA"] = failure(100)
    assert call(attached, "DEL") == 1
    runner.answers.clear()
    runner.ran.clear()
    assert taken_back(attached, "first") == 0
    assert runner.whats() == ["DEL plugA eth0"]
    assert attached.files() == []


def test_what_an_undo_could_not_finish_is_left_to_del(attached: World, runner: FakeRunner) -> None:
    runner.answers["DEL plugB"] = RunTimeout("plugB", 1.0)
    assert taken_back(attached, "first") == 1
    runner.answers.clear()
    assert call(attached, "DEL") == 0
    assert attached.files() == []


def test_a_torn_record_tells_nobody_whose_it_is(attached: World, runner: FakeRunner) -> None:
    (record,) = (attached.state_dir / "journal" / "containers").iterdir()
    record.write_text("{")
    assert taken_back(attached, "first") == 1
    assert runner.whats() == []
    assert call(attached, "DEL") == 0
    assert runner.whats() == ["DEL plugB net1", "DEL plugA eth0"]


def test_a_del_that_was_left_for_it_goes_with_it(attached: World) -> None:
    about = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0"}
    file = leave(attached.state_dir, about, CONF)
    assert taken_back(attached, "first") == 0
    assert not file.exists()


class Died(BaseException):
    """The process would have ended."""


class DiesAt(list[str]):
    """Checkpoints, at one of which the process ends."""

    def __init__(self, number: int) -> None:
        self._number = number

    def append(self, name: str) -> None:
        super().append(name)
        if len(self) == self._number:
            raise Died


def test_an_undo_that_dies_is_finished_by_del_and_never_hits_a_later_add(tmp_path: Path) -> None:
    number, died = 0, True
    while died:
        number += 1
        (tmp_path / str(number)).mkdir()
        world = World(tmp_path / str(number), runner=FakeRunner())
        world.plugin("plugA", "plugB")
        assert call(world, "ADD", "first") == 0
        world.checkpoints = DiesAt(number)
        try:
            taken_back(world, "first")
            died = False
        except Died:
            world.checkpoints = []
            assert call(world, "DEL") == 0
        assert world.files() == []
        world.checkpoints = []
        assert call(world, "ADD", "second") == 0
        assert taken_back(world, "first") == 0
        assert call(world, "CHECK") == 0
    assert number > 5


# ---- the sriov program ------------------------------------------------------------------


IPAM = """#!/bin/sh
echo "$CNI_COMMAND" >> "$0.asked"
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]}'
"""
SRIOV = {
    "name": "n",
    "type": "sriov",
    "cniVersion": "1.0.0",
    "deviceID": Nic().vf(0),
    "ipam": {"type": "ipam"},
}


class Sriov:
    """The daemon's ``sriov`` for one VF and one pod, with an IPAM plugin that says what it does."""

    def __init__(self, root: Path, machine: Machine) -> None:
        self.machine, self.pod = machine, machine.namespace()
        self._plugins = root / "plugins"
        self._plugins.mkdir()
        (self._plugins / "ipam").write_text(IPAM)
        (self._plugins / "ipam").chmod(0o755)
        self._workshop = Workshop(
            machine.node,
            NodeConfig(state_dir=machine.state.root),
            DaemonFile(),
            connect=lambda _kubeconfig, _end: None,
            metrics=Metrics(),
            die=_die,
        )

    def call(self, command: str, call_id: str, *, take_back: bool = False) -> None:
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": self.pod.path,
            "CNI_IFNAME": "net1",
            "CNI_PATH": str(self._plugins),
        }
        caller = Caller(Notes(), lambda: False, call_id)
        request = Call("sriov", env, json.dumps(SRIOV).encode())
        status, stdout, _ = self._workshop.run(request, caller, take_back=take_back)
        assert status == 0, stdout

    def asked(self) -> list[str]:
        return (self._plugins / "ipam.asked").read_text().split()


def _die(why: str) -> NoReturn:
    raise AssertionError(why)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Sriov]:
    with closing(build(str(tmp_path), Nic(vfs=1))) as machine:
        yield Sriov(tmp_path, machine)


def test_the_device_and_its_addresses_are_taken_back(program: Sriov) -> None:
    before = program.machine.snapshot()
    program.call("ADD", "first")
    program.call("DEL", "first", take_back=True)
    assert program.machine.snapshot() == before
    assert program.asked() == ["ADD", "DEL"]


@pytest.mark.parametrize("later", ["second", ""])
def test_a_device_that_was_attached_since_is_spared(program: Sriov, later: str) -> None:
    program.call("ADD", "first")
    program.call("DEL", "other")
    program.call("ADD", later)
    program.call("DEL", "first", take_back=True)
    program.call("CHECK", "other")
    assert program.asked() == ["ADD", "DEL", "ADD", "CHECK"]


def test_addresses_that_were_given_since_are_spared(program: Sriov) -> None:
    program.call("ADD", "first")
    program.call("DEL", "other")
    program.call("DEL", "first", take_back=True)
    assert program.asked() == ["ADD", "DEL"]
