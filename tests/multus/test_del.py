"""DEL: always makes progress, never forgets what is still held, harms no stranger."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hwmgr.errors import RunTimeout
from hwmgr.run import Completed
from hwmgr.store import StateDir
from multus.delegates import load_delegate
from multus.savedstate import SavedState
from tests.multus.fakes import A, B, FakeRunner, RecordingPlugin, World, failure

CONF = {"cniVersion": "1.0.0", "delegates": [A, B]}


@pytest.fixture
def attached(world: World, runner: FakeRunner) -> World:
    assert world.cni("ADD", CONF).rc == 0
    runner.ran.clear()
    return world


def test_del_is_reverse_and_leaves_nothing(attached: World, runner: FakeRunner) -> None:
    assert attached.cni("DEL", CONF).rc == 0
    assert runner.whats() == ["DEL plugB net1", "DEL plugA eth0"]
    assert runner.ran[0].stdin["prevResult"]["interfaces"][0]["name"] == "net1"
    assert attached.files() == []
    assert attached.cni("DEL", CONF).rc == 0
    assert len(runner.ran) == 2


def test_a_machine_without_descriptors_keeps_one_network_and_not_the_others(
    attached: World, runner: FakeRunner
) -> None:
    runner.answers["DEL plugB"] = OSError(24, "Too many open files")
    assert attached.cni("DEL", CONF).rc == 1
    assert runner.whats() == ["DEL plugB net1", "DEL plugA eth0"]
    runner.answers.clear()
    assert attached.cni("DEL", CONF).rc == 0
    assert runner.whats()[2:] == ["DEL plugB net1"]


def test_del_goes_by_what_was_attached_not_by_what_is_configured_now(
    attached: World, runner: FakeRunner
) -> None:
    attached.cni("DEL", {"cniVersion": "1.0.0", "delegates": [{**A, "type": "plugC"}]})
    assert runner.whats() == ["DEL plugB net1", "DEL plugA eth0"]


def test_one_failure_does_not_stop_the_others_and_is_retried_alone(
    attached: World, runner: FakeRunner
) -> None:
    runner.answers["DEL plugB"] = failure(102, "not now")
    answer = attached.cni("DEL", CONF)
    assert (answer.rc, answer.code) == (1, 102)
    assert runner.whats() == ["DEL plugB net1", "DEL plugA eth0"]
    assert attached.files() == [
        "cni/c1",
        "cni/results/netb-c1-net1",
        "state/journal/containers/c1.json",
    ]
    runner.answers.clear()
    runner.ran.clear()
    assert attached.cni("DEL", CONF).rc == 0
    assert runner.whats() == ["DEL plugB net1"]
    assert attached.files() == []


def test_all_failures_are_told(attached: World, runner: FakeRunner) -> None:
    runner.answers |= {"DEL plugA": failure(101, "first"), "DEL plugB": failure(102, "second")}
    answer = attached.cni("DEL", CONF)
    assert answer.code == 102
    assert "first" in answer.json["details"]


def test_nothing_known_is_success_but_devices_are_released(world: World) -> None:
    plugin = RecordingPlugin()
    world.in_process["sriov"] = lambda: plugin
    assert world.cni("DEL", CONF).rc == 0
    assert plugin.released == ["c1"]


def test_del_of_another_interface_touches_nothing(attached: World, runner: FakeRunner) -> None:
    before = attached.files()
    assert attached.cni("DEL", CONF, IFNAME="eth9").rc == 0
    assert runner.ran == []
    assert attached.files() == before


def test_a_broken_configuration_does_not_keep_a_pod(attached: World, runner: FakeRunner) -> None:
    assert attached.cni("DEL", {"cniVersion": "1.0.0", "delegates": []}).rc == 0
    assert runner.whats() == ["DEL plugB net1", "DEL plugA eth0"]
    assert attached.files() == []
    assert attached.cni("DEL", {"cniVersion": "1.0.0", "delegates": []}).code == 7


def test_del_needs_neither_cluster_nor_readable_arguments(
    attached: World, runner: FakeRunner
) -> None:
    conf = {**CONF, "kubeconfig": "/gone"}
    assert attached.cni("DEL", conf, ARGS="junk;=;x=").rc == 0
    assert attached.files() == []


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"schema": 99}', "[1]"])
def test_a_torn_journal_falls_back_to_the_scratch(
    attached: World, runner: FakeRunner, torn: str
) -> None:
    (attached.state_dir / "journal/containers/c1.json").write_text(torn)
    assert attached.cni("DEL", CONF).rc == 0
    assert runner.whats() == ["DEL plugB net1", "DEL plugA eth0"]
    assert attached.files() == []


def test_with_everything_torn_the_configured_delegates_are_deleted(
    attached: World, runner: FakeRunner
) -> None:
    plugin = RecordingPlugin()
    attached.in_process["sriov"] = lambda: plugin
    (attached.state_dir / "journal/containers/c1.json").write_text("{")
    (attached.cni_dir / "c1").write_text("[")
    assert attached.cni("DEL", CONF).rc == 0
    assert runner.whats() == ["DEL plugB net1", "DEL plugA eth0"]
    assert plugin.released == ["c1"]
    assert attached.files() == []


def test_a_container_of_multus_cni_is_taken_over(world: World, runner: FakeRunner) -> None:
    """Only its scratch and results are there; a failed step is still remembered exactly."""
    delegates = [load_delegate(conf) for conf in (A, B)]
    SavedState(StateDir(str(world.cni_dir))).save_scratch("c1", delegates)
    runner.answers["DEL plugA"] = failure(100)
    assert world.cni("DEL", CONF).rc == 1
    runner.answers.clear()
    runner.ran.clear()
    assert world.cni("DEL", CONF).rc == 0
    assert runner.whats() == ["DEL plugA eth0"]
    assert world.files() == []


def test_capabilities_of_the_add_reach_the_del(world: World, runner: FakeRunner) -> None:
    ports = [{"hostPort": 8080, "containerPort": 80}]
    delegate = {**A, "capabilities": {"portMappings": True}}
    conf = {"cniVersion": "1.0.0", "delegates": [delegate]}
    world.cni("ADD", {**conf, "runtimeConfig": {"portMappings": ports}})
    world.cni("DEL", conf)
    assert runner.ran[-1].stdin["runtimeConfig"] == {"portMappings": ports}


@pytest.mark.parametrize(
    ("change", "netns"),
    [
        pytest.param({}, "/ns", id="same"),
        pytest.param({"inode": 8}, "", id="the path stands for another namespace"),
        pytest.param({"boot": "boot-2"}, "", id="same inode after a reboot"),
        pytest.param({"inode": 1}, "", id="the host's own namespace"),
        pytest.param({"gone": True}, "/ns", id="gone: plugins are told the path"),
    ],
)
def test_a_late_del_touches_no_strangers_namespace(
    attached: World, runner: FakeRunner, change: dict[str, Any], netns: str
) -> None:
    attached.boot_id = change.get("boot", attached.boot_id)
    attached.namespaces.inodes["/ns"] = change.get("inode", 7)
    if change.get("gone"):
        del attached.namespaces.inodes["/ns"]
    assert attached.cni("DEL", CONF).rc == 0
    assert {ran.env["CNI_NETNS"] for ran in runner.ran} == {netns}


def test_the_same_namespace_by_another_path_is_recognised(
    attached: World, runner: FakeRunner
) -> None:
    attached.namespaces.inodes["/proc/17/ns/net"] = 7
    attached.cni("DEL", CONF, NETNS="/proc/17/ns/net")
    assert {ran.env["CNI_NETNS"] for ran in runner.ran} == {"/proc/17/ns/net"}


def test_an_add_after_a_reboot_first_frees_what_the_old_boot_held(
    attached: World, runner: FakeRunner
) -> None:
    attached.boot_id = "boot-2"
    assert attached.cni("ADD", CONF).rc == 0
    assert runner.whats() == [
        "DEL plugB net1",
        "DEL plugA eth0",
        "ADD plugA eth0",
        "ADD plugB net1",
    ]
    assert [ran.env["CNI_NETNS"] for ran in runner.ran] == ["", "", "/ns", "/ns"]


def test_numbers_in_a_saved_configuration_keep_their_digits(
    world: World, runner: FakeRunner
) -> None:
    big = 12345678901234567890
    conf = {"cniVersion": "1.0.0", "delegates": [{**A, "big": big}]}
    world.cni("ADD", conf)
    world.cni("DEL", conf)
    assert [ran.stdin["big"] for ran in runner.ran] == [big, big]


def test_an_old_plugin_gets_no_prev_result(world: World, runner: FakeRunner) -> None:
    conf = {"cniVersion": "0.3.1", "delegates": [{**A, "cniVersion": "0.3.1"}]}
    world.cni("ADD", conf)
    world.cni("DEL", conf)
    assert "prevResult" not in runner.ran[-1].stdin


def test_a_damaged_result_is_left_out(attached: World, runner: FakeRunner) -> None:
    (attached.cni_dir / "results/neta-c1-eth0").write_text('{"kind": "cniCacheV1", "config": "e')
    assert attached.cni("DEL", CONF).rc == 0
    assert "prevResult" not in runner.ran[-1].stdin
    assert attached.files() == []


def test_the_journal_tells_an_administrator_what_is_held(attached: World) -> None:
    record = json.loads((attached.state_dir / "journal/containers/c1.json").read_text())
    assert record["schema"] == 1
    assert record["phase"] == "attached"
    assert record["netns"] == {"path": "/ns", "dev": 4, "inode": 7}
    assert [(step["ifname"], step["state"]) for step in record["steps"]] == [
        ("eth0", "added"),
        ("net1", "added"),
    ]


def test_a_failed_add_that_cannot_be_deleted_is_left_to_gc(
    world: World, runner: FakeRunner
) -> None:
    """The plugin said that it attached nothing; it cannot delete either, but the pod still goes."""
    runner.answers |= {"ADD plugB": failure(100), "DEL plugB": failure(100, "no subnet")}
    assert "no subnet" in world.cni("ADD", CONF).json["details"]
    assert world.cni("DEL", CONF).rc == 0
    assert any("no subnet" in line for line in world.log.lines)
    assert world.files() == ["state/journal/containers/c1.json"]
    runner.answers.clear()
    runner.ran.clear()
    gc = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": [], "delegates": [A]}
    assert world.cni("GC", gc).rc == 0
    assert runner.whats() == ["DEL plugB net1"]
    assert world.files() == []


@pytest.mark.parametrize(
    ("add", "delete"),
    [
        pytest.param(Completed(-9, b"", b""), failure(100), id="killed, so it reported nothing"),
        pytest.param(RunTimeout("plugB", 1), failure(100), id="timed out"),
        pytest.param(failure(100), failure(11), id="to be tried again"),
        pytest.param(failure(100), RunTimeout("plugB", 1), id="the DEL hung"),
    ],
)
def test_what_may_be_held_keeps_the_del_failing(
    world: World, runner: FakeRunner, add: object, delete: object
) -> None:
    runner.answers |= {"ADD plugB": add, "DEL plugB": delete}
    world.cni("ADD", CONF)
    assert world.cni("DEL", CONF).rc == 1
    runner.answers.clear()
    assert world.cni("DEL", CONF).rc == 0
    assert world.files() == []


def test_plugins_of_a_killed_call_are_looked_for_only_after_a_killed_call(
    world: World, runner: FakeRunner
) -> None:
    runner.answers["ADD plugB"] = failure(100)
    assert world.cni("ADD", CONF).rc == 1
    assert world.cni("ADD", {**CONF, "delegates": [A]}).rc == 0
    assert world.cni("DEL", CONF).rc == 0
    assert world.orphans.ended == []
    runner.answers |= {"DEL plugA": failure(101)}
    assert world.cni("ADD", CONF).rc == 1  # as a killed one does, it leaves a record
    runner.answers.clear()
    assert world.cni("ADD", CONF).rc == 0
    assert world.orphans.ended == ["c1"]
