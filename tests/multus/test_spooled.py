"""DELs that were left for later are done before what they could harm and what they block."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.locks import Locks
from hwmgr.store import StateDir
from tests.fakes.left import leave
from tests.multus.fakes import A, B, FakeRunner, RecordingPlugin, World, failure

if TYPE_CHECKING:
    from pathlib import Path

CONF: dict[str, Any] = {"cniVersion": "1.1.0", "delegates": [A]}
MUCH_LATER = 1e9


def left(world: World, container_id: str = "c1", **more: Any) -> Path:
    env = {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": "/ns",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(world.bin),
        **more.pop("env", {}),
    }
    conf = {"name": "mnet", "cniDir": str(world.cni_dir), **more.pop("conf", CONF)}
    return leave(world.state_dir, env, conf, **more)


def spooled(world: World) -> list[str]:
    return [name for name in world.files() if name.startswith("state/spool")]


def test_add_first_does_the_dels_of_its_own_container(world: World, runner: FakeRunner) -> None:
    assert world.cni("ADD", CONF).rc == 0
    left(world)
    left(world)
    left(world, "c2")
    runner.ran.clear()
    assert world.cni("ADD", CONF).rc == 0
    assert runner.whats() == ["DEL plugA eth0", "ADD plugA eth0"]
    assert [name.split("/")[-1][:2] for name in spooled(world)] == ["c2"]
    assert world.checkpoints.count("left.removed") == 1


def test_an_empty_spool_costs_one_listing(world: World) -> None:
    listed = []

    class Counting(StateDir):
        def list(self, *names: str) -> list[str]:
            listed.append(names)
            return super().list(*names)

    from multus.spooled import LeftCalls

    calls = LeftCalls(
        Counting(str(world.state_dir)), lambda call, _s: world.engine(), world.clock, world.log.did
    )
    calls.drain_held("c1", MUCH_LATER)
    assert calls.drain_all(MUCH_LATER) == []
    calls.forget_held("multus", "c1", "eth0")
    assert calls.again_when_busy(lambda: 7, lambda: MUCH_LATER) == 7
    assert listed == [("spool",)] * 3


def test_an_add_does_not_go_on_over_a_del_that_fails(world: World, runner: FakeRunner) -> None:
    world.cni("ADD", CONF)
    left(world)
    runner.answers["DEL plugA"] = failure(102, "not now")
    runner.ran.clear()
    answer = world.cni("ADD", CONF)
    assert (answer.rc, answer.code) == (1, 102)
    assert "left for later" in answer.json["msg"]
    assert runner.whats() == ["DEL plugA eth0"]
    assert len(spooled(world)) == 1
    runner.answers.clear()
    assert world.cni("ADD", CONF).rc == 0
    assert spooled(world) == []


def test_an_add_that_finds_the_device_busy_drains_all_and_tries_once_more(
    world: World, runner: FakeRunner
) -> None:
    world.cni("ADD", CONF)
    left(world)
    runner.answers["ADD plugA"] = [failure(11, "no free VF")]
    runner.ran.clear()
    assert world.cni("ADD", {**CONF, "delegates": [B, A]}, CONTAINERID="c2").rc == 0
    assert runner.whats() == [
        "ADD plugB eth0",
        "ADD plugA net1",
        "DEL plugA net1",
        "DEL plugB eth0",
        "DEL plugA eth0",
        "ADD plugB eth0",
        "ADD plugA net1",
    ]
    assert spooled(world) == []


def test_it_does_not_try_again_without_reason(world: World, runner: FakeRunner) -> None:
    runner.answers["ADD plugA"] = failure(11, "no free VF")
    assert world.cni("ADD", CONF).code == 11
    assert runner.whats().count("ADD plugA eth0") == 1
    left(world, "c2")
    runner.answers["ADD plugA"] = failure(100, "something else")
    assert world.cni("ADD", CONF, CONTAINERID="c3").code == 100
    assert len(spooled(world)) == 1
    runner.answers["ADD plugA"] = failure(11, "still none")
    runner.ran.clear()
    assert world.cni("ADD", CONF, CONTAINERID="c3").code == 11
    assert runner.whats().count("ADD plugA eth0") == 2


def test_del_strikes_what_it_makes_needless(world: World) -> None:
    world.cni("ADD", CONF)
    left(world)
    left(world, env={"CNI_IFNAME": "eth9"})
    left(world, program="sriov")
    assert world.cni("DEL", CONF).rc == 0
    assert len(spooled(world)) == 2


def test_a_del_that_fails_strikes_nothing(world: World, runner: FakeRunner) -> None:
    world.cni("ADD", CONF)
    left(world)
    runner.answers["DEL plugA"] = failure(102)
    assert world.cni("DEL", CONF).rc == 1
    assert len(spooled(world)) == 1


def test_gc_works_off_everything_and_tells_what_failed(world: World, runner: FakeRunner) -> None:
    for name in ("c1", "c2"):
        world.cni("ADD", CONF, CONTAINERID=name)
        left(world, name)
    runner.answers["DEL plugA"] = [failure(102, "not now")]
    answer = world.cni("GC", {**CONF, "cni.dev/valid-attachments": []})
    assert (answer.code, "not now" in answer.json["msg"]) == (102, True)
    assert [name.split("/")[-1][:2] for name in spooled(world)] == ["c1"]
    assert world.cni("GC", CONF).rc == 0
    assert world.files() == []


def scratch(world: World) -> None:
    """Have the container attached by multus-cni: no record says in which namespace."""
    world.cni("ADD", CONF)
    for path in (world.state_dir / "journal" / "containers").iterdir():
        path.unlink()


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("gone", [False, True])
def test_a_namespace_that_no_record_knows_is_not_touched_later(
    world: World, runner: FakeRunner, *, gone: bool, torn: bool
) -> None:
    """The path is another pod's by now; one that leads nowhere tells plugins that it is gone."""
    scratch(world)
    if torn:
        (world.state_dir / "journal" / "containers" / "c1.json").write_text("{")
    left(world)
    if gone:
        del world.namespaces.inodes["/ns"]
    runner.ran.clear()
    assert world.left_calls().drain_all(MUCH_LATER) == []
    assert [(ran.what, ran.env["CNI_NETNS"]) for ran in runner.ran] == [
        ("DEL plugA eth0", "/ns" if gone else "")
    ]


def test_a_namespace_that_a_record_knows_is_touched_later(world: World, runner: FakeRunner) -> None:
    world.cni("ADD", CONF)
    left(world)
    runner.ran.clear()
    assert world.left_calls().drain_all(MUCH_LATER) == []
    assert [ran.env["CNI_NETNS"] for ran in runner.ran] == ["/ns"]


def test_a_del_that_is_not_late_touches_what_the_runtime_says(
    world: World, runner: FakeRunner
) -> None:
    scratch(world)
    runner.ran.clear()
    assert world.cni("DEL", CONF).rc == 0
    assert [ran.env["CNI_NETNS"] for ran in runner.ran] == ["/ns"]


def test_check_sees_the_container_without_what_was_deleted(world: World) -> None:
    world.cni("ADD", CONF)
    left(world)
    world.cni("CHECK", CONF)
    assert spooled(world) == []
    assert world.files() == []


@pytest.mark.parametrize("stdin", [b"", b"{", b'{"name": "mnet"}', b'{"delegates": 7}', b"\xff"])
def test_a_configuration_that_went_bad_goes_by_the_journal(
    world: World, runner: FakeRunner, stdin: bytes
) -> None:
    world.cni("ADD", CONF)
    left(world, stdin=stdin)
    runner.ran.clear()
    assert world.left_calls().drain_all(MUCH_LATER) == []
    assert runner.whats() == ["DEL plugA eth0"]
    assert world.files() == []


def test_a_bad_configuration_and_no_record_is_set_aside_after_the_devices(world: World) -> None:
    plugin = RecordingPlugin()
    world.in_process["sriov"] = lambda: plugin
    path = left(world, stdin=b"{")
    assert world.left_calls().drain_all(MUCH_LATER) == []
    assert plugin.released == ["c1"]
    assert world.files() == [f"state/spool-torn/{path.name}"]


@pytest.mark.parametrize(
    "env",
    [
        {"CNI_COMMAND": "ADD"},
        {"CNI_COMMAND": ""},
        {"CNI_PATH": ""},
        {"CNI_CONTAINERID": "-bad id"},
    ],
)
def test_what_no_del_can_be_is_never_run(
    world: World, runner: FakeRunner, env: dict[str, str]
) -> None:
    path = left(world, env=env)
    assert world.left_calls().drain_all(MUCH_LATER) == []
    assert runner.ran == []
    assert world.files() == [f"state/spool-torn/{path.name}"]
    assert any("spool-torn" in line for line in world.log.lines)


def test_damage_does_not_keep_the_others(world: World) -> None:
    world.cni("ADD", CONF)
    left(world)
    torn = left(world, age=5)
    torn.write_bytes(torn.read_bytes()[:20])
    assert world.cni("ADD", CONF).rc == 0
    assert spooled(world) == [f"state/spool-torn/{torn.name}"]


def test_no_time_left_leaves_the_rest(world: World, runner: FakeRunner) -> None:
    left(world)
    assert world.left_calls().drain_all(world.clock.monotonic()) == []
    assert len(spooled(world)) == 1
    assert any("still left" in line for line in world.log.lines)


def test_in_passing_only_what_rested_for_a_while(world: World, runner: FakeRunner) -> None:
    import os

    path = left(world)
    assert world.left_calls().drain_all(MUCH_LATER, untouched=60.0) == []
    assert len(spooled(world)) == 1
    os.utime(path, (1000, 1000))
    runner.answers["DEL plugA"] = failure(102)
    world.left_calls().drain_all(MUCH_LATER, untouched=60.0)
    assert spooled(world) == []


def test_what_was_left_before_the_clock_was_set_back_has_rested(world: World) -> None:
    import os

    os.utime(left(world), (4e9, 4e9))
    world.left_calls().drain_all(MUCH_LATER, untouched=60.0)
    assert spooled(world) == []


def test_a_container_that_somebody_works_on_is_passed_over(world: World) -> None:
    left(world)
    with Locks(StateDir(str(world.state_dir))).container("c1"):
        world.clock.time = MUCH_LATER - 0.01
        assert world.left_calls().drain_all(MUCH_LATER) == []
    assert len(spooled(world)) == 1


def test_a_late_drainer_does_not_delete_what_was_attached_since(
    world: World, runner: FakeRunner
) -> None:
    """It has read the file, and waits for the lock while an ADD does the DEL and attaches anew."""
    world.cni("ADD", CONF)
    path = left(world)
    drained = threading.Thread(
        target=lambda: world.left_calls().work_off(path.name, world.clock.monotonic() + 90)
    )
    with Locks(StateDir(str(world.state_dir))).container("c1"):
        drained.start()
        world.left_calls().drain_held("c1", MUCH_LATER)
    drained.join()
    assert world.cni("ADD", CONF).rc == 0
    runner.ran.clear()
    assert world.left_calls().work_off(path.name, MUCH_LATER) is None
    assert runner.ran == []


def test_many_drainers_at_once_do_each_call_once(world: World, runner: FakeRunner) -> None:
    for number in range(8):
        world.cni("ADD", CONF, CONTAINERID=f"c{number}")
        left(world, f"c{number}")
    runner.ran.clear()
    threads = [
        threading.Thread(target=lambda: world.left_calls().drain_all(MUCH_LATER)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ran.env["CNI_CONTAINERID"] for ran in runner.ran) == [f"c{n}" for n in range(8)]
    assert world.files() == []


def test_the_environment_of_a_plugin_is_that_of_the_call(world: World, runner: FakeRunner) -> None:
    world.cni("ADD", CONF)
    left(world, env={"ONLY_HERE": "yes"})
    world.left_calls().drain_all(MUCH_LATER)
    assert runner.ran[-1].env["ONLY_HERE"] == "yes"
    assert json.dumps(runner.ran[-1].stdin)
