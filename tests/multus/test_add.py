"""ADD: order, names, versions, and that a failed one leaves nothing."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.errors import RunError, RunTimeout
from hwmgr.run import Completed
from multus.clock import Limits
from tests.multus.fakes import A, B, C, FakeRunner, RecordingPlugin, World, failure

if TYPE_CHECKING:
    from pathlib import Path


def conf(*delegates: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "delegates": list(delegates), **more}


def test_delegates_run_in_order_and_the_master_answers(world: World, runner: FakeRunner) -> None:
    answer = world.cni("ADD", conf(A, B, C))
    assert runner.whats() == ["ADD plugA eth0", "ADD plugB net1", "ADD plugC net2"]
    assert answer.rc == 0
    assert answer.json["interfaces"] == [{"name": "eth0", "sandbox": "/ns"}]
    assert world.files() == [
        "cni/c1",
        "cni/results/neta-c1-eth0",
        "cni/results/netb-c1-net1",
        "cni/results/netc-c1-net2",
        "state/journal/containers/c1.json",
    ]
    assert "attached neta as eth0, netb as net1, netc as net2" in world.log.lines[-1]


def test_masterplugin_of_2018_goes_first(world: World, runner: FakeRunner) -> None:
    world.cni("ADD", conf(A, {**B, "masterplugin": True}, C))
    assert runner.whats() == ["ADD plugB eth0", "ADD plugA net1", "ADD plugC net2"]


@pytest.mark.parametrize(
    "delegates",
    [
        [{**A, "masterplugin": True}, {**B, "masterplugin": True}],
        [{**A, "masterplugin": "yes"}],
    ],
    ids=["two", "not-a-boolean"],
)
def test_a_wrong_masterplugin_is_refused(world: World, delegates: list[dict[str, Any]]) -> None:
    answer = world.cni("ADD", conf(*delegates))
    assert (answer.rc, answer.code) == (1, 7)
    assert world.files() == []


def test_a_failed_add_undoes_all_that_began_last_first(world: World, runner: FakeRunner) -> None:
    runner.answers["ADD plugB"] = failure(51, "no link", "cable")
    answer = world.cni("ADD", conf(A, B, C))
    assert runner.whats() == [
        "ADD plugA eth0",
        "ADD plugB net1",
        "DEL plugB net1",
        "DEL plugA eth0",
    ]
    assert answer.json == {
        "cniVersion": "1.0.0",
        "code": 51,
        "msg": "plugB, network 'netb' as net1: no link",
        "details": "cable",
    }
    assert world.files() == []


def test_the_first_error_is_reported_and_what_stays_held_is_kept(
    world: World, runner: FakeRunner
) -> None:
    runner.answers |= {"ADD plugC": failure(11), "DEL plugA": failure(101, "will not go")}
    answer = world.cni("ADD", conf(A, B, C))
    assert answer.code == 11
    assert "will not go" in answer.json["details"]
    assert world.files() == [
        "cni/c1",
        "cni/results/neta-c1-eth0",
        "state/journal/containers/c1.json",
    ]
    runner.answers.clear()
    runner.ran.clear()
    assert world.cni("DEL", conf(A, B, C)).rc == 0
    assert runner.whats() == ["DEL plugA eth0"]
    assert world.files() == []


def test_a_new_add_finishes_what_an_earlier_one_left(world: World, runner: FakeRunner) -> None:
    runner.answers |= {"ADD plugB": failure(100), "DEL plugB": failure(100)}
    world.cni("ADD", conf(A, B))
    runner.answers.clear()
    runner.ran.clear()
    assert world.cni("ADD", conf(A, B)).rc == 0
    assert runner.whats() == ["DEL plugB net1", "ADD plugA eth0", "ADD plugB net1"]


def test_a_second_add_of_an_attached_container_changes_nothing(
    world: World, runner: FakeRunner
) -> None:
    world.cni("ADD", conf(A))
    before = world.files()
    answer = world.cni("ADD", conf(A))
    assert answer.rc == 1
    assert "DEL it first" in answer.json["msg"]
    assert runner.whats() == ["ADD plugA eth0"]
    assert world.files() == before


def test_a_plugin_that_cannot_start_is_not_asked_to_undo(world: World, runner: FakeRunner) -> None:
    runner.answers["ADD plugB"] = RunError("plugB", errno.ENOEXEC)
    answer = world.cni("ADD", conf(A, B))
    assert answer.code == 999
    assert runner.whats() == ["ADD plugA eth0", "ADD plugB net1", "DEL plugA eth0"]
    assert world.files() == []


def test_a_missing_plugin_is_found_out_before_anything_runs(
    world: World, runner: FakeRunner
) -> None:
    answer = world.cni("ADD", conf(A, {**B, "type": "nosuch"}))
    assert "'nosuch' is not an executable file" in answer.json["msg"]
    assert runner.ran == []
    assert world.files() == []


@pytest.mark.parametrize("kind", ["/bin/sh", "../plugA", "..", "", "plugA\0"])
def test_a_type_that_is_not_a_plain_name_runs_nothing(
    world: World, runner: FakeRunner, kind: str
) -> None:
    answer = world.cni("ADD", conf({**A, "type": kind}))
    assert (answer.rc, answer.code) == (1, 7)
    assert runner.ran == []
    assert world.files() == []


def test_a_taken_interface_name_stops_before_anything_runs(
    world: World, runner: FakeRunner
) -> None:
    world.namespaces.interfaces["/ns"] = {"net1"}
    answer = world.cni("ADD", conf(A, B))
    assert "net1 exists already" in answer.json["msg"]
    assert runner.ran == []
    assert world.files() == []


def test_two_networks_cannot_have_one_interface_name(world: World, runner: FakeRunner) -> None:
    answer = world.cni("ADD", conf(A, B), IFNAME="net1")
    assert answer.code == 7
    assert runner.ran == []


def test_the_hosts_own_namespace_is_refused(world: World, runner: FakeRunner) -> None:
    world.namespaces.inodes["/host"] = 1
    assert world.cni("ADD", conf(A), NETNS="/host").code == 8
    assert runner.ran == []
    assert world.cni("ADD", conf(A), NETNS="/host", NETNS_OVERRIDE="1").rc == 0


def test_multus_does_not_delegate_to_itself(world: World, runner: FakeRunner) -> None:
    world.plugin("multus")
    assert world.cni("ADD", conf(A, {**B, "type": "multus"})).code == 7
    assert runner.ran == []


def test_missing_name_and_version_come_from_multus(world: World, runner: FakeRunner) -> None:
    world.cni("ADD", conf({"type": "plugA"}, {"type": "plugB"}))
    assert [(r.stdin["name"], r.stdin["cniVersion"]) for r in runner.ran] == [("mnet", "1.0.0")] * 2
    assert "cni/results/mnet-c1-net1" in world.files()


def test_without_any_version_plugins_get_031_and_the_runtime_010(
    world: World, runner: FakeRunner
) -> None:
    runner.answers["ADD plugA"] = {"ips": [{"version": "4", "address": "10.0.0.2/24"}]}
    answer = world.cni("ADD", {"delegates": [{"type": "plugA"}]})
    assert runner.ran[0].stdin["cniVersion"] == "0.3.1"
    assert answer.json == {"cniVersion": "0.1.0", "ip4": {"ip": "10.0.0.2/24"}, "dns": {}}


def test_the_result_is_in_the_version_of_the_configuration(
    world: World, runner: FakeRunner
) -> None:
    runner.answers["ADD plugA"] = {"ips": [{"version": "4", "address": "10.0.0.2/24"}]}
    answer = world.cni("ADD", conf({**A, "cniVersion": "0.3.1"}))
    assert answer.json == {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}


def test_a_link_without_addresses_succeeds_for_an_old_runtime(world: World) -> None:
    answer = world.cni("ADD", conf({**A, "cniVersion": "0.3.1"}) | {"cniVersion": "0.2.0"})
    assert (answer.rc, answer.json) == (0, {"cniVersion": "0.2.0", "dns": {}})


def test_lists_pass_results_along_and_filter_capabilities(world: World, runner: FakeRunner) -> None:
    plugins = [{"type": "plugA"}, {"type": "plugB", "capabilities": {"mac": True, "ips": False}}]
    delegate = {"name": "lst", "cniVersion": "1.0.0", "plugins": plugins}
    wanted = {"mac": "02:00:00:00:00:01", "ips": ["10.0.0.9/24"]}
    world.cni("ADD", conf(delegate, runtimeConfig=wanted))
    first, second = (ran.stdin for ran in runner.ran)
    assert "runtimeConfig" not in first
    assert "prevResult" not in first
    assert second["runtimeConfig"] == {"mac": "02:00:00:00:00:01"}
    assert second["prevResult"]["interfaces"][0]["name"] == "eth0"


def test_a_list_that_fails_half_way_is_deleted_as_a_whole(world: World, runner: FakeRunner) -> None:
    delegate = {
        "name": "lst",
        "cniVersion": "1.0.0",
        "plugins": [{"type": "plugA"}, {"type": "plugB"}],
    }
    runner.answers["ADD plugB"] = failure(100)
    world.cni("ADD", conf(delegate))
    assert runner.whats()[2:] == ["DEL plugB eth0", "DEL plugA eth0"]
    assert world.files() == []


def test_in_process_plugins_are_used_by_type(world: World, runner: FakeRunner) -> None:
    plugin = RecordingPlugin()
    world.in_process["sriov"] = lambda: plugin
    answer = world.cni("ADD", conf(A, {"name": "vf", "type": "sriov", "if0name": "vf0"}))
    assert answer.rc == 0
    ((verb, call),) = plugin.calls
    assert (verb, call.ifname, call.conf["if0name"]) == ("add", "net1", "vf0")
    world.cni("DEL", conf(A))
    assert [verb for verb, _ in plugin.calls] == ["add", "delete"]
    assert plugin.released == []


def test_a_hung_plugin_leaves_time_for_the_rollback(world: World, runner: FakeRunner) -> None:
    world.limits = Limits(whole=80, delegate=50)
    runner.answers["ADD plugB"] = RunTimeout("plugB", 50)
    answer = world.cni("ADD", conf(A, B))
    assert "time limit" in answer.json["msg"]
    timeouts = {ran.what: ran.timeout for ran in runner.ran}
    assert timeouts == {
        "ADD plugA eth0": 50,
        "ADD plugB net1": 50,
        "DEL plugB net1": 40,
        "DEL plugA eth0": 50,
    }


def test_the_journal_is_written_before_the_first_plugin(world: World, runner: FakeRunner) -> None:
    seen: list[list[str]] = []

    def look(name: str) -> None:
        if name.endswith(".started"):
            seen.append(world.files())

    world.checkpoints = type("Hook", (list,), {"append": lambda _self, name: look(name)})()
    world.cni("ADD", conf(A))
    assert seen == [["cni/c1", "state/journal/containers/c1.json"]]


def test_a_result_that_does_not_fit_its_version_fails_the_add(
    world: World, runner: FakeRunner
) -> None:
    runner.answers["ADD plugA"] = {"cniVersion": "0.4.0"}
    answer = world.cni("ADD", conf(A))
    assert (answer.rc, answer.code) == (1, 999)
    assert world.files() == []


def test_an_unsupported_delegate_version_runs_nothing(world: World, runner: FakeRunner) -> None:
    assert world.cni("ADD", conf({**A, "cniVersion": "0.5.0"})).code == 1
    assert runner.ran == []


def test_a_bad_network_name_runs_nothing(world: World, runner: FakeRunner) -> None:
    assert world.cni("ADD", conf({**A, "name": "a/b"})).code == 7
    assert runner.ran == []


def test_a_busy_container_is_to_be_tried_later(world: World, runner: FakeRunner) -> None:
    from hwmgr.locks import Locks
    from hwmgr.store import StateDir

    world.limits = Limits(whole=0.0)
    with Locks(StateDir(str(world.state_dir)), 1.0).container("c1"):
        assert world.cni("ADD", conf(A)).code == 11
    assert runner.ran == []


def test_readiness_is_waited_for(world: World, runner: FakeRunner, tmp_path: Path) -> None:
    answer = world.cni("ADD", conf(A, readinessindicatorfile=str(tmp_path / "ready")))
    assert answer.code == 11
    assert f"not ready: after 45 s {tmp_path}/ready is still not there" in answer.json["msg"]
    assert sum(world.clock.slept) == pytest.approx(45, abs=1)
    assert runner.ran == []
    (tmp_path / "ready").touch()
    assert world.cni("ADD", conf(A, readinessindicatorfile=str(tmp_path / "ready"))).rc == 0


def test_a_full_disk_is_an_error_and_runs_nothing(world: World, runner: FakeRunner) -> None:
    world.cni_dir.write_text("in the way")
    assert world.cni("ADD", conf(A)).code == 999
    assert runner.ran == []
    assert world.files() == []


def test_a_plugin_killed_by_a_signal_is_named(world: World, runner: FakeRunner) -> None:
    runner.answers["ADD plugA"] = Completed(-11, b"", b"")
    assert "ended by signal 11" in world.cni("ADD", conf(A)).json["msg"]
