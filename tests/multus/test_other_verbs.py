"""CHECK, GC and STATUS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.multus.fakes import FakeRunner, RecordingPlugin, World, failure

if TYPE_CHECKING:
    from pathlib import Path

A = {"name": "neta", "type": "plugA", "cniVersion": "1.1.0"}
B = {"name": "netb", "type": "plugB", "cniVersion": "1.1.0"}
CONF = {"cniVersion": "1.1.0", "delegates": [A, B]}
VALID = "cni.dev/valid-attachments"


def attach(world: World, runner: FakeRunner, *containers: str, conf: Any = None) -> None:
    for container_id in containers:
        assert world.cni("ADD", conf or CONF, CONTAINERID=container_id).rc == 0
    runner.ran.clear()


def gc(world: World, *valid: str, conf: Any = None) -> Any:
    items = [{"containerID": container_id, "ifname": "eth0"} for container_id in valid]
    return world.cni("GC", {**(conf or CONF), VALID: items}, CONTAINERID="", NETNS="", IFNAME="")


def test_check_asks_every_attachment_with_its_result(world: World, runner: FakeRunner) -> None:
    attach(world, runner, "c1")
    assert world.cni("CHECK", CONF).rc == 0
    assert runner.whats() == ["CHECK plugA eth0", "CHECK plugB net1"]
    names = [ran.stdin["prevResult"]["interfaces"][0]["name"] for ran in runner.ran]
    assert names == ["eth0", "net1"]


def test_check_goes_by_what_was_attached(world: World, runner: FakeRunner) -> None:
    attach(world, runner, "c1")
    world.cni("CHECK", {**CONF, "delegates": [A]})
    assert runner.whats() == ["CHECK plugA eth0", "CHECK plugB net1"]


def test_check_keeps_the_code_of_the_plugin(world: World, runner: FakeRunner) -> None:
    attach(world, runner, "c1")
    runner.answers["CHECK plugB"] = failure(105, "address is gone")
    answer = world.cni("CHECK", CONF)
    assert answer.code == 105
    assert "netb" in answer.json["msg"]


def test_check_skips_what_cannot_or_must_not_be_checked(world: World, runner: FakeRunner) -> None:
    quiet = {
        "name": "q",
        "cniVersion": "1.1.0",
        "disableCheck": True,
        "plugins": [{"type": "plugB"}],
    }
    conf = {**CONF, "delegates": [{**A, "cniVersion": "0.3.1"}, quiet, B]}
    attach(world, runner, "c1", conf=conf)
    assert world.cni("CHECK", conf).rc == 0
    assert runner.whats() == ["CHECK plugB net2"]


def test_check_of_a_half_deleted_container_fails(world: World, runner: FakeRunner) -> None:
    attach(world, runner, "c1")
    runner.answers["DEL plugA"] = failure(100)
    world.cni("DEL", CONF)
    answer = world.cni("CHECK", CONF)
    assert answer.rc == 1
    assert "not attached completely" in answer.json["msg"]


def test_gc_without_a_list_does_nothing(world: World, runner: FakeRunner) -> None:
    attach(world, runner, "c1")
    before = world.files()
    assert world.cni("GC", CONF).rc == 0
    assert runner.ran == []
    assert world.files() == before


def test_gc_frees_what_is_not_listed_and_tells_plugins_the_rest(
    world: World, runner: FakeRunner
) -> None:
    attach(world, runner, "c1", "c2")
    assert gc(world, "c2").rc == 0
    assert runner.whats() == ["DEL plugB net1", "DEL plugA eth0", "GC plugA", "GC plugB"]
    assert {ran.env["CNI_CONTAINERID"] for ran in runner.ran[:2]} == {"c1"}
    for ran, ifname in zip(runner.ran[2:], ("eth0", "net1"), strict=True):
        expected = [{"containerID": "c2", "ifname": ifname}]
        assert ran.stdin[VALID] == ran.stdin["cni.dev/attachments"] == expected
    assert [name for name in world.files() if "c1" in name.replace("cni/c2", "")] == []
    assert "state/journal/containers/c2.json" in world.files()


def test_gc_with_an_empty_list_frees_everything(world: World, runner: FakeRunner) -> None:
    attach(world, runner, "c1", "c2")
    assert gc(world).rc == 0
    assert world.files() == []


def test_gc_reads_the_older_spelling_of_the_list(world: World, runner: FakeRunner) -> None:
    attach(world, runner, "c1")
    world.cni("GC", {**CONF, "cni.dev/attachments": []})
    assert world.files() == []


@pytest.mark.parametrize("items", [{}, "c1", [1], [{"containerID": 1}]])
def test_gc_refuses_a_malformed_list(world: World, runner: FakeRunner, items: Any) -> None:
    attach(world, runner, "c1")
    assert world.cni("GC", {**CONF, VALID: items}).code == 7
    assert runner.ran == []


def test_gc_leaves_other_networks_alone(world: World, runner: FakeRunner) -> None:
    attach(world, runner, "c1", conf={**CONF, "name": "other"})
    assert gc(world).rc == 0
    assert runner.whats() == ["GC plugA", "GC plugB"]
    assert "state/journal/containers/c1.json" in world.files()
    # The delegates' own networks may be shared, so their plugins must hear of it too.
    assert runner.ran[1].stdin[VALID] == [{"containerID": "c1", "ifname": "net1"}]


def test_gc_goes_on_after_a_failure_and_keeps_what_is_held(
    world: World, runner: FakeRunner
) -> None:
    attach(world, runner, "c1", "c2")
    runner.answers["DEL plugA"] = [failure(103, "busy"), None]
    answer = gc(world)
    assert (answer.rc, answer.code) == (1, 103)
    assert "state/journal/containers/c1.json" in world.files()
    assert "state/journal/containers/c2.json" not in world.files()
    assert "GC plugB" in runner.whats()
    assert gc(world).rc == 0
    assert world.files() == []


def test_gc_takes_containers_of_multus_cni_too(world: World, runner: FakeRunner) -> None:
    attach(world, runner, "c1")
    (world.state_dir / "journal/containers/c1.json").unlink()
    assert gc(world).rc == 0
    assert runner.whats()[:2] == ["DEL plugB net1", "DEL plugA eth0"]
    assert world.files() == []


def test_gc_frees_attachments_that_only_results_remember(world: World, runner: FakeRunner) -> None:
    attach(world, runner, "c1")
    (world.state_dir / "journal/containers/c1.json").unlink()
    (world.cni_dir / "c1").unlink()
    assert gc(world).rc == 0
    assert sorted(runner.whats()[:2]) == ["DEL plugA eth0", "DEL plugB net1"]
    assert world.files() == []


def test_gc_leaves_a_container_that_is_at_work(world: World, runner: FakeRunner) -> None:
    from hwmgr.locks import Locks
    from hwmgr.store import StateDir

    attach(world, runner, "c1")
    with Locks(StateDir(str(world.state_dir)), 1.0).container("c1"):
        assert gc(world).rc == 0
    assert runner.whats() == ["GC plugA", "GC plugB"]
    assert runner.ran[0].stdin[VALID] == [{"containerID": "c1", "ifname": "eth0"}]


def test_gc_honours_disable_gc_and_old_versions(world: World, runner: FakeRunner) -> None:
    quiet = {
        "name": "q",
        "cniVersion": "1.1.0",
        "disableGC": "true",
        "plugins": [{"type": "plugB"}],
    }
    conf = {**CONF, "delegates": [{**A, "cniVersion": "1.0.0"}, quiet]}
    assert gc(world, conf=conf).rc == 0
    assert runner.ran == []


def test_status_asks_the_default_network(world: World, runner: FakeRunner) -> None:
    assert world.cni("STATUS", CONF).rc == 0
    assert runner.whats() == ["STATUS plugA"]
    runner.answers["STATUS plugA"] = failure(51, "uplink down")
    assert world.cni("STATUS", CONF).code == 51


def test_status_spares_plugins_that_do_not_know_it(world: World, runner: FakeRunner) -> None:
    assert world.cni("STATUS", {**CONF, "delegates": [{**A, "cniVersion": "1.0.0"}]}).rc == 0
    assert runner.ran == []


def test_status_says_when_state_cannot_be_written(world: World) -> None:
    world.cni_dir.write_text("in the way")
    assert world.cni("STATUS", CONF).code == 50


def test_in_process_plugins_take_part_in_gc_and_status(world: World) -> None:
    plugin = RecordingPlugin()
    world.in_process["sriov"] = lambda: plugin
    conf = {**CONF, "delegates": [{"name": "vf", "type": "sriov"}]}
    assert gc(world, conf=conf).rc == 0
    assert world.cni("STATUS", conf).rc == 0
    assert [verb for verb, _ in plugin.calls] == ["gc", "status"]


def test_status_says_at_once_that_the_default_network_is_not_ready(
    world: World, runner: FakeRunner, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    conf = {**CONF, "readinessindicatorfile": str(ready)}
    answer = world.cni("STATUS", conf)
    assert answer.code == 50
    assert f"{ready} is still not there" in answer.json["msg"]
    assert (world.clock.slept, runner.ran) == ([], [])
    ready.touch()
    assert world.cni("STATUS", conf).rc == 0
