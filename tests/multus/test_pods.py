"""Calls for pods of a cluster: what the API server says, what it is told, and its failures."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.errors import NetlinkError
from hwmgr.locks import Locks
from hwmgr.store import StateDir
from tests.multus.fake_api import PODS, SECOND_NETWORKS, SEED_NETWORKS, FakeApi
from tests.multus.fakes import FakeRunner, World, failure

if TYPE_CHECKING:
    from pathlib import Path

ARGS = (
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=pod1;"
    "K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=uid1"
)
CONF: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "kubeconfig": "/kubeconfig",
    "delegates": [{"cniVersion": "1.0.0", "name": "neta", "type": "plugA"}],
}
NETWORKS = "k8s.v1.cni.cncf.io/networks"
STATUS = "k8s.v1.cni.cncf.io/network-status"
PLUG_B = json.dumps({"cniVersion": "1.0.0", "type": "plugB"})


@pytest.fixture
def api() -> FakeApi:
    api = FakeApi()
    api.put_pod({NETWORKS: "net1"})
    api.put_nad("net1", PLUG_B)
    return api


@pytest.fixture
def world(tmp_path: Path, runner: FakeRunner, api: FakeApi) -> World:
    world = World(tmp_path, runner=runner, api=api)
    world.plugin("plugA", "plugB", "sriov", "flannel")
    return world


def add(world: World, conf: dict[str, Any] | None = None, **env: str) -> Any:
    return world.cni("ADD", conf or CONF, **{"ARGS": ARGS, **env})


def test_a_pod_gets_what_its_annotation_names(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    answer = add(world)
    assert answer.rc == 0
    assert runner.whats() == ["ADD plugA eth0", "ADD plugB net1"]
    entries = json.loads(api.annotations()[STATUS])
    assert [(entry["name"], entry["interface"]) for entry in entries] == [
        ("neta", "eth0"),
        ("ns1/net1", "net1"),
    ]
    assert [event["reason"] for event in api.events] == ["AddedInterface", "AddedInterface"]


@pytest.mark.parametrize("status", [0, 401, 403, 500, 503])
@pytest.mark.parametrize("at", ["pods", "network-attachment-definitions", "status"])
def test_each_failure_of_the_api_server_has_its_code(
    world: World, runner: FakeRunner, api: FakeApi, status: int, at: str
) -> None:
    world.api = FailingAt(api, at, status)
    answer = add(world)
    assert answer.code == 11
    added = [what.split(" ", 1)[1] for what in runner.whats() if what.startswith("ADD")]
    deleted = [what.split(" ", 1)[1] for what in runner.whats() if what.startswith("DEL")]
    assert deleted == added[::-1]
    assert world.files() == []


class FailingAt(FakeApi):
    """Fails for one kind of request only."""

    def __init__(self, api: FakeApi, at: str, status: int) -> None:
        super().__init__()
        self.objects = api.objects
        self._at, self._status = at, status

    def _begin(self, verb: str, path: str) -> None:
        kind = path.rsplit("/", 1)[-1] if verb == "PATCH" else path.rsplit("/", 2)[-2]
        self.fail = self._status if kind == self._at else None
        super()._begin(verb, path)


def test_a_pod_that_is_gone_has_nothing_to_miss(world: World, runner: FakeRunner) -> None:
    world.api.objects.clear()
    answer = add(world)
    assert answer.rc == 0
    assert answer.json["interfaces"] == [{"name": "eth0", "sandbox": "/ns"}]
    assert runner.ran == []


def test_another_pod_of_that_name_is_not_served(world: World, runner: FakeRunner) -> None:
    world.api.put_pod(uid="uid2")
    assert add(world).code == 11
    assert runner.ran == []


def test_a_call_that_names_no_pod_is_refused(world: World, runner: FakeRunner) -> None:
    assert world.cni("ADD", CONF).code == 4
    assert runner.ran == []


@pytest.mark.parametrize(
    "selection",
    [
        '[{"name": "../../../etc/passwd"}]',
        '[{"name": "net1", "namespace": "ns1/pods"}]',
        '[{"name": "net1", "namespace": "../kube-system"}]',
        '[{"name": "BAD_Name"}]',
        "net1,",
        "net1?watch=1",
    ],
)
def test_names_that_are_none_never_reach_the_server(
    world: World, runner: FakeRunner, api: FakeApi, selection: str
) -> None:
    api.put_pod({NETWORKS: selection})
    assert add(world).code == 7
    assert runner.ran == []
    assert all(
        request == "GET /api/v1/namespaces/ns1/pods/pod1"
        or request.endswith("network-attachment-definitions/net1")
        for request in api.requests
    )


def test_the_status_is_written_for_every_pod(world: World, api: FakeApi) -> None:
    assert add(world, {**CONF, "systemNamespaces": ["pod1"]}).rc == 0
    assert STATUS in api.annotations()


def test_a_status_that_cannot_be_written_undoes_everything(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    api.conflicts = 99
    assert add(world).code == 11
    assert runner.whats()[2:] == ["DEL plugB net1", "DEL plugA eth0"]
    assert world.files() == []


def test_a_conflict_that_passes_is_no_failure(world: World, api: FakeApi) -> None:
    api.conflicts = 3
    assert add(world).rc == 0
    assert STATUS in api.annotations()


def test_del_needs_no_cluster(world: World, runner: FakeRunner, api: FakeApi) -> None:
    assert add(world).rc == 0
    runner.ran.clear()
    api.fail = 0
    assert world.cni("DEL", {**CONF, "kubeconfig": "/gone"}, ARGS=ARGS).rc == 0
    assert runner.whats() == ["DEL plugB net1", "DEL plugA eth0"]
    assert world.files() == []


def test_check_and_gc_need_no_cluster(world: World, runner: FakeRunner, api: FakeApi) -> None:
    conf = {**CONF, "cniVersion": "1.1.0"}
    assert add(world, conf).rc == 0
    runner.ran.clear()
    api.fail = 0
    gone = {**conf, "kubeconfig": "/gone"}
    assert world.cni("CHECK", gone, ARGS=ARGS).rc == 0
    assert world.cni("GC", {**gone, "cni.dev/valid-attachments": []}).rc == 0
    assert runner.whats() == [
        "CHECK plugA eth0",
        "CHECK plugB net1",
        "DEL plugB net1",
        "DEL plugA eth0",
    ]
    assert world.files() == []


def test_gc_tells_the_networks_of_every_pod(world: World, runner: FakeRunner, api: FakeApi) -> None:
    newer = json.dumps({"cniVersion": "1.1.0", "type": "plugB"})
    api.put_nad("net1", newer)
    conf = {**CONF, "cniVersion": "1.1.0"}
    assert add(world, conf).rc == 0
    assert add(world, conf, CONTAINERID="c2").rc == 0
    runner.ran.clear()
    listed = [{"containerID": "c1", "ifname": "eth0"}]
    assert world.cni("GC", {**conf, "cni.dev/valid-attachments": listed}).rc == 0
    assert runner.whats() == ["DEL plugB net1", "DEL plugA eth0", "GC plugB"]
    assert runner.ran[0].env["CNI_CONTAINERID"] == "c2"
    valid = runner.ran[2].stdin["cni.dev/valid-attachments"]
    assert valid == [{"containerID": "c1", "ifname": "net1"}]


def test_a_del_without_records_goes_by_the_pods_annotation(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    assert world.cni("DEL", CONF, ARGS=ARGS).rc == 0
    assert runner.whats() == ["DEL plugB net1", "DEL plugA eth0"]
    runner.ran.clear()
    api.requests.clear()
    assert world.cni("DEL", CONF, ARGS=ARGS, NETNS="").rc == 0
    assert runner.ran == []
    assert api.requests == []


def test_a_del_without_records_harms_no_other_pod(world: World, runner: FakeRunner) -> None:
    world.api.put_pod({NETWORKS: "net1"}, uid="uid2")
    assert world.cni("DEL", CONF, ARGS=ARGS).rc == 0
    assert runner.ran == []


def test_status_says_that_the_default_network_is_missing(world: World) -> None:
    conf = {**CONF, "cniVersion": "1.1.0", "clusterNetwork": "cn"}
    assert world.cni("STATUS", conf).code == 50


def test_status_asks_the_api_server(world: World, api: FakeApi) -> None:
    conf = {**CONF, "cniVersion": "1.1.0"}
    assert world.cni("STATUS", conf).rc == 0
    api.fail = 503
    assert world.cni("STATUS", conf).code == 50
    assert world.cni("STATUS", {**conf, "kubeconfig": "/gone"}).code == 50


# ---- devices ------------------------------------------------------------------------------------


def checkpoint(world: World, *ids: str) -> None:
    entry = {
        "PodUID": "uid1",
        "ContainerName": "c",
        "ResourceName": "intel.com/vf",
        "DeviceIDs": {"0": list(ids)},
    }
    content = {"Data": {"PodDeviceEntries": [entry]}, "Checksum": 1}
    (world.root / "checkpoint").write_text(json.dumps(content))


def vf_network(api: FakeApi, name: str) -> None:
    annotations = {"k8s.v1.cni.cncf.io/resourceName": "intel.com/vf"}
    api.put_nad(name, PLUG_B, annotations=annotations)


def test_networks_get_the_devices_of_the_pod_in_order(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    for name in ("net1", "net2"):
        vf_network(api, name)
    api.put_pod({NETWORKS: "net2,net1"})
    checkpoint(world, "0000:03:02.1", "0000:03:02.0")
    assert add(world).rc == 0
    given = [(ran.stdin["name"], ran.stdin["deviceID"]) for ran in runner.ran[1:]]
    assert given == [("net2", "0000:03:02.0"), ("net1", "0000:03:02.1")]


def test_a_network_without_a_device_left_fails_the_pod(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    for name in ("net1", "net2"):
        vf_network(api, name)
    api.put_pod({NETWORKS: "net1,net2"})
    checkpoint(world, "0000:03:02.0")
    answer = add(world)
    assert answer.code == 7
    assert "ns1/net2" in answer.json["msg"]
    assert runner.ran == []
    world.strict = False
    assert add(world).rc == 0


def test_a_device_that_is_named_goes_to_nobody_else(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    for name in ("net1", "net2"):
        vf_network(api, name)
    chosen = json.dumps([{"name": "net1"}, {"name": "net2", "deviceID": "0000:03:02.0"}])
    api.put_pod({NETWORKS: chosen})
    checkpoint(world, "0000:03:02.0", "0000:03:02.1")
    assert add(world).rc == 0
    assert runner.ran[1].stdin["deviceID"] == "0000:03:02.1"


def test_a_device_of_another_pod_cannot_be_named(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    vf_network(api, "net1")
    api.put_pod({NETWORKS: '[{"name": "net1", "deviceID": "0000:03:02.7"}]'})
    checkpoint(world, "0000:03:02.0")
    answer = add(world)
    assert answer.code == 7
    assert "0000:03:02.7" in answer.json["msg"]
    assert runner.ran == []


# ---- default routes -----------------------------------------------------------------------------


def routed(runner: FakeRunner) -> None:
    runner.answers["ADD plugA"] = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "sandbox": "/ns"}],
        "ips": [{"address": "10.0.0.5/24", "interface": 0}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}, {"dst": "::/0", "gw": "fd00::1"}],
    }


def test_default_routes_go_to_the_network_that_asks(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    routed(runner)
    api.put_pod({NETWORKS: '[{"name": "net1", "default-route": ["10.1.0.1"]}]'})
    answer = add(world)
    assert world.routes.taken == [("/ns", "net1", ("10.1.0.1",))]
    assert answer.json["routes"] == [{"dst": "::/0", "gw": "fd00::1"}]
    entries = json.loads(api.annotations()[STATUS])
    assert [entry.get("gateway") for entry in entries] == [["fd00::1"], ["10.1.0.1"]]
    cached = json.loads((world.cni_dir / "results/net1-c1-net1").read_text())
    assert cached["result"]["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]


def test_an_empty_default_route_changes_nothing(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    routed(runner)
    api.put_pod({NETWORKS: '[{"name": "net1", "default-route": []}]'})
    assert len(add(world).json["routes"]) == 2
    assert world.routes.taken == []


def test_two_gateways_of_one_family_are_refused(world: World, api: FakeApi) -> None:
    api.put_pod({NETWORKS: '[{"name": "net1", "default-route": ["10.1.0.1", "10.1.0.2"]}]'})
    assert add(world).code == 7


def test_a_gateway_out_of_reach_undoes_everything(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    api.put_pod({NETWORKS: '[{"name": "net1", "default-route": ["10.1.0.1"]}]'})
    world.routes.error = NetlinkError("add default route", errno.ENETUNREACH)
    assert add(world).rc == 1
    assert runner.whats()[2:] == ["DEL plugB net1", "DEL plugA eth0"]
    assert world.files() == []


# ---- 2017 and 2018 ------------------------------------------------------------------------------

SEED_CONF: dict[str, Any] = {
    "kubeconfig": "/kubeconfig",
    "delegates": [{"type": "flannel", "name": "cbr0", "masterplugin": True}],
}
FLANNEL = {"plugin": "flannel", "args": '[ { "delegate": { "isDefaultGateway": true } } ]'}
SRIOV = {
    "plugin": "sriov",
    "args": '[ {"if0": "pf", "if0name": "net0-pf", "type": "sriov"}, {"if0": "pf"} ]',
}


@pytest.fixture
def seed(world: World, api: FakeApi) -> World:
    api.put_pod({"networks": '[ {"name": "flannel-network"}, {"name": "sriov-network"} ]'})
    meta = {"namespace": "default", "name": "flannel-network"}
    api.put(SEED_NETWORKS, {"metadata": meta, **FLANNEL})
    api.put(SEED_NETWORKS, {"metadata": {"namespace": "ns1", "name": "sriov-network"}, **SRIOV})
    return world


def test_the_pods_networks_of_2018_take_the_place_of_the_nodes(
    seed: World, runner: FakeRunner
) -> None:
    assert add(seed, SEED_CONF).rc == 0
    assert runner.whats() == ["ADD flannel eth0", "ADD sriov net0", "ADD sriov net1"]
    assert runner.ran[0].stdin["delegate"] == {"isDefaultGateway": True}
    assert runner.ran[0].stdin["name"] == "flannel-network"
    assert seed.cni("DEL", SEED_CONF, ARGS=ARGS).rc == 0
    assert runner.whats()[3:] == ["DEL sriov net1", "DEL sriov net0", "DEL flannel eth0"]


def test_a_failure_undoes_all_of_them(seed: World, runner: FakeRunner) -> None:
    runner.answers["ADD sriov"] = [{"interfaces": []}, failure(100)]
    assert add(seed, SEED_CONF).code == 100
    assert runner.whats()[3:] == ["DEL sriov net1", "DEL sriov net0", "DEL flannel eth0"]
    assert seed.files() == []


def test_without_the_annotation_the_nodes_networks_are_used(
    seed: World, runner: FakeRunner, api: FakeApi
) -> None:
    api.put_pod()
    assert add(seed, SEED_CONF).rc == 0
    assert runner.whats() == ["ADD flannel eth0"]
    runner.ran.clear()
    only = {"kubeconfig": "/kubeconfig"}
    assert add(seed, only, CONTAINERID="c2").code == 7


def test_kubeconfig_alone_is_enough_for_pods_that_name_their_networks(
    seed: World, runner: FakeRunner
) -> None:
    assert add(seed, {"kubeconfig": "/kubeconfig"}).rc == 0
    assert runner.whats()[0] == "ADD flannel eth0"


@pytest.mark.parametrize(
    "value", ['[{"name": ""}]', '{"name": "a"}', '["a"]', "[7", '[{"name": "no"}]']
)
def test_an_annotation_of_2018_that_cannot_be_served_fails_the_pod(
    seed: World, runner: FakeRunner, api: FakeApi, value: str
) -> None:
    api.put_pod({"networks": value})
    assert add(seed, SEED_CONF).code == 7
    assert runner.ran == []


def test_an_annotation_of_that_key_for_others_is_left_alone(
    seed: World, runner: FakeRunner, api: FakeApi
) -> None:
    api.put_pod({"networks": "blue"})
    assert add(seed, SEED_CONF).rc == 0
    assert runner.whats() == ["ADD flannel eth0"]


def test_two_masters_are_refused(seed: World, api: FakeApi) -> None:
    for name in ("flannel-network", "sriov-network"):
        meta = {"namespace": "ns1", "name": name}
        obj = {"metadata": meta, "plugin": "sriov", "args": '[{"masterplugin": true}]'}
        api.put(SEED_NETWORKS, obj)
    assert add(seed, SEED_CONF).code == 7


def test_a_pod_that_vanishes_while_it_is_attached(world: World, api: FakeApi) -> None:
    class Vanishing(FakeApi):
        def _begin(self, verb: str, path: str) -> None:
            if verb == "PATCH":
                self.objects.pop(PODS.format(namespace="ns1", name="pod1"), None)
            super()._begin(verb, path)

    world.api = Vanishing()
    world.api.objects = api.objects
    assert add(world).rc == 0  # its DEL is on the way


# ---- hostile input ------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [60, 99, 101, 500, 980, 5000])
def test_what_is_nested_deeply_is_refused_before_anything_is_held(
    world: World, runner: FakeRunner, api: FakeApi, depth: int
) -> None:
    deep = "[" * depth + "]" * depth
    by_pod = f'[{{"name": "net1", "cni-args": {{"x": {deep}}}}}]'
    by_network = f'{{"cniVersion": "1.0.0", "type": "plugB", "x": {deep}}}'
    for selection, config in (("net1", by_network), (by_pod, PLUG_B)):
        api.put_pod({NETWORKS: selection})
        api.put_nad("net1", config)
        runner.ran.clear()
        answer = add(world)
        assert answer.rc == 0 or answer.code == 7
        if answer.rc == 0:
            assert world.cni("DEL", CONF, ARGS=ARGS).rc == 0
        assert world.files() == []
        assert "internal error" not in answer.stdout


@pytest.mark.parametrize("wanted", [["0", "0"], ["7"]])
def test_a_device_is_named_once_and_by_its_own_pod(
    world: World, runner: FakeRunner, api: FakeApi, wanted: list[str]
) -> None:
    vf_network(api, "net1")
    chosen = [{"name": "net1", "deviceID": f"0000:03:02.{number}"} for number in wanted]
    api.put_pod({NETWORKS: json.dumps(chosen)})
    checkpoint(world, "0000:03:02.0", "0000:03:02.1")
    assert add(world).code == 7
    assert runner.ran == []


def test_a_named_device_is_not_taken_by_the_default_network(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    annotations = {"k8s.v1.cni.cncf.io/resourceName": "intel.com/vf"}
    api.put_nad("first", PLUG_B, namespace="kube-system", annotations=annotations)
    vf_network(api, "net1")
    chosen = '[{"name": "net1", "deviceID": "0000:03:02.0"}]'
    api.put_pod({NETWORKS: chosen, "v1.multus-cni.io/default-network": "first"})
    checkpoint(world, "0000:03:02.0", "0000:03:02.1")
    assert add(world).rc == 0
    assert runner.ran[0].stdin["deviceID"] == "0000:03:02.1"


@pytest.mark.parametrize("annotation", ["networks", "kubernetes.v1.cni.cncf.io/networks"])
def test_isolation_holds_for_networks_of_2018_too(
    world: World, runner: FakeRunner, api: FakeApi, annotation: str
) -> None:
    meta = {"namespace": "default", "name": "shared"}
    api.put(SEED_NETWORKS, {"metadata": meta, **FLANNEL})
    api.put(SECOND_NETWORKS, {"metadata": meta, "spec": {"plugin": "plugB"}})
    api.put_pod({annotation: '[{"name": "shared"}]'})
    isolated = {**CONF, "namespaceIsolation": True}
    assert add(world, {**isolated, "globalNamespaces": "infra"}).code == 7
    assert runner.ran == []
    assert add(world, isolated).rc == 0


@pytest.mark.parametrize(
    "pod",
    [{}, {"metadata": []}, {"metadata": {"uid": 5}}, {"metadata": {"annotations": [1]}}],
)
def test_a_pod_that_makes_no_sense_keeps_no_del(
    world: World, api: FakeApi, pod: dict[str, Any]
) -> None:
    api.objects[PODS.format(namespace="ns1", name="pod1")] = pod
    assert world.cni("DEL", CONF, ARGS=ARGS).rc == 0
    answer = add(world)
    assert answer.code in (7, 11)


def test_with_both_records_torn_the_results_tell_what_is_held(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    conf = {**CONF, "clusterNetwork": "first"}
    api.put_nad("first", PLUG_B, namespace="kube-system")
    assert add(world, conf).rc == 0
    for path in (world.state_dir / "journal/containers/c1.json", world.cni_dir / "c1"):
        path.write_text("{")
    runner.ran.clear()
    api.fail = 0
    assert world.cni("DEL", conf, ARGS=ARGS).rc == 0
    assert sorted(runner.whats()) == ["DEL plugB eth0", "DEL plugB net1"]
    assert world.files() == []


def test_a_record_with_a_masterplugin_is_deleted_with_a_broken_configuration(
    seed: World, runner: FakeRunner
) -> None:
    assert add(seed, SEED_CONF).rc == 0
    assert seed.cni("DEL", {"delegates": 7}, ARGS=ARGS).rc == 0
    assert seed.files() == []


def test_gc_tells_plugins_of_containers_that_somebody_is_at_work_on(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    api.put_nad("net1", json.dumps({"cniVersion": "1.1.0", "type": "plugB"}))
    conf = {**CONF, "cniVersion": "1.1.0"}
    for container_id in ("c1", "c2"):
        assert add(world, conf, CONTAINERID=container_id).rc == 0
    runner.ran.clear()
    valid = [{"containerID": name, "ifname": "eth0"} for name in ("c1", "c2")]
    with Locks(StateDir(str(world.state_dir)), 1).container("c2"):
        assert world.cni("GC", {**conf, "cni.dev/valid-attachments": valid}).rc == 0
    (told,) = (ran.stdin["cni.dev/valid-attachments"] for ran in runner.ran)
    assert told == [{"containerID": name, "ifname": "net1"} for name in ("c1", "c2")]


def test_gc_frees_every_result_of_a_container_that_was_ours(
    world: World, runner: FakeRunner
) -> None:
    conf = {**CONF, "cniVersion": "1.1.0"}
    assert add(world, conf, CONTAINERID="old").rc == 0
    (world.state_dir / "journal/containers/old.json").unlink()
    (world.cni_dir / "old").unlink()
    runner.ran.clear()
    assert world.cni("GC", {**conf, "cni.dev/valid-attachments": []}).rc == 0
    assert sorted(runner.whats()) == ["DEL plugA eth0", "DEL plugB net1"]
    assert world.files() == []


def test_a_pod_that_names_very_many_networks_of_a_slow_server_meets_the_limit(
    world: World, runner: FakeRunner, api: FakeApi
) -> None:
    class Slow(FakeApi):
        def _begin(self, verb: str, path: str) -> None:
            world.clock.sleep(0.5)
            super()._begin(verb, path)

    world.api = Slow()
    world.api.objects = api.objects
    api.put_pod({NETWORKS: ",".join(["net1"] * 1000)})
    begun = world.clock.monotonic()
    assert add(world).code == 11
    assert world.clock.monotonic() - begun < world.limits.whole
    assert runner.ran == []


@pytest.mark.parametrize("name", ["a/b", "\0", "\ud800", "..", "a:b", "x" * 16, "eth0"])
def test_an_interface_name_that_is_refused_does_not_keep_the_pod(
    world: World, runner: FakeRunner, api: FakeApi, name: str
) -> None:
    api.put_pod({NETWORKS: json.dumps([{"name": "net1", "interface": name}])})
    assert add(world).code == 7
    assert runner.ran == []
    assert world.cni("DEL", CONF, ARGS=ARGS).rc == 0
    assert runner.whats() == ["DEL plugA eth0"]
    assert world.files() == []


@pytest.mark.parametrize("length", [100, 208, 209, 300, 5000])
def test_a_network_name_that_can_be_no_file_is_refused_before_anything_runs(
    world: World, runner: FakeRunner, api: FakeApi, length: int
) -> None:
    config = {"cniVersion": "1.0.0", "type": "plugB", "name": "n" * length}
    api.put_nad("net1", json.dumps(config))
    answer = add(world, IFNAME="i" * 15)
    assert (answer.rc, len(runner.ran)) in ((0, 2), (1, 0))
    assert (answer.rc == 0) is (length + len("c1") <= 210)
    if answer.rc == 0:
        assert world.cni("DEL", CONF, ARGS=ARGS, IFNAME="i" * 15).rc == 0
    assert world.files() == []
