"""Which device a network gets: recorded cases, the order of assignment, and failing closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from multus.devices.choice import Devices, DeviceSourceError, KubeletDevices, NoDeviceError
from tests.fakes.kubelet import FakeKubelet, ListedPod, write_checkpoint
from tests.multus.devices.test_dra import FakeClaims
from tests.multus.fakes import FakeClock
from tests.multus.vectors import params

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from multus.jsonfields import Json

VF = "intel.com/vf"


def pod(*containers: str, inits: Sequence[str] = (), **more: Any) -> Json:
    return {
        "metadata": {"namespace": "ns", "name": "p", "uid": "u1", "annotations": {}},
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": name} for name in containers],
            "initContainers": [{"name": name} for name in inits],
        },
        **more,
    }


class Node:
    """A node with or without a kubelet socket and checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "pod-resources/kubelet.sock"
        self.checkpoint = folder / "device-plugins/kubelet_internal_checkpoint"
        self.clock = FakeClock()
        self.seconds = 5.0

    def devices(
        self, asked: Json, claims: FakeClaims | None = None, deadline: float = 1e9
    ) -> dict[str, list[str]]:
        source = KubeletDevices(
            self.clock, str(self.socket), str(self.checkpoint), seconds=self.seconds
        )
        cluster: Any = claims
        found = source.of_pod(asked, cluster, deadline)
        return {resource: list(ids) for resource, ids in found.items()}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def recorded(case: dict[str, Any], node: Node) -> dict[str, list[str]]:
    """Put a recorded case before us in the words of kubelet and of the API server."""
    if case["kind"] == "checkpoint":
        import json

        node.checkpoint.parent.mkdir()
        node.checkpoint.write_text(json.dumps(case["file"]))
        return node.devices({"metadata": {"uid": case["pod_uid"]}})
    if case["kind"] == "podresources":
        name, namespace = case["pod"]
        pods = [
            ListedPod(
                item["namespace"],
                item["name"],
                {
                    container["name"]: [
                        (devices["resource_name"], devices["device_ids"])
                        for devices in container["devices"]
                    ]
                    for container in item["containers"]
                },
            )
            for item in case["list"]
        ]
        with FakeKubelet(node.socket, *pods):
            return node.devices({"metadata": {"namespace": namespace, "name": name}})
    devices = [(resource, ids) for resource, ids in case.get("initial", {}).items()]
    claims = FakeClaims()
    claims.claim("c", case["claim"].get("results"))
    for item in case["slices"]:
        claims.slice(item["driver"], item["pool"], item["node"], *item["devices"])
    write_checkpoint(node.checkpoint, ("u1", {"a": devices}))
    status = {"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "c"}]}
    return node.devices(pod("a", status=status), claims)


@pytest.mark.parametrize("case", params("device_resource_map"))
def test_recorded(case: dict[str, Any], node: Node) -> None:
    if "expect" not in case:
        with pytest.raises(DeviceSourceError):
            recorded(case, node)
    else:
        assert recorded(case, node) == case["expect"]


def test_containers_are_in_the_order_of_the_spec_and_ids_sorted_inside(node: Node) -> None:
    # Kubelet hands out what is free, in any order; which container is first is the pod's to say.
    held = {
        "b": [(VF, ["d1"]), (VF, ["d0"])],
        "a": [(VF, ["d9", "d8"]), ("other/x", ["z"])],
    }
    with FakeKubelet(node.socket, ListedPod("ns", "p", held)):
        assert node.devices(pod("a", "b")) == {VF: ["d8", "d9", "d0", "d1"], "other/x": ["z"]}
        assert node.devices(pod("b", "a"))[VF] == ["d0", "d1", "d8", "d9"]


def test_init_containers_come_last_and_what_they_handed_on_counts_once(node: Node) -> None:
    # Kubelet gives an app container first what an init container had (devicesToReuse).
    held: dict[str, list[tuple[str, list[str]]]] = {
        "init": [(VF, ["d0", "d1"])],
        "app": [(VF, ["d1"])],
        "unheard-of": [(VF, ["d7"])],
    }
    write_checkpoint(node.checkpoint, ("u1", held))
    assert node.devices(pod("app", inits=["init"])) == {VF: ["d1", "d0", "d7"]}


def test_both_sources_give_the_same_order(node: Node) -> None:
    held: dict[str, list[tuple[str, list[str]]]] = {
        "b": [(VF, ["d3"]), (VF, ["d1"])],
        "a": [(VF, ["d2"]), ("other/x", ["e5", "e4"])],
    }
    write_checkpoint(node.checkpoint, ("u0", {"a": [(VF, ["d9"])]}), ("u1", held))
    saved = node.devices(pod("a", "b"))
    with FakeKubelet(node.socket, ListedPod("ns", "p", held)):
        assert (
            node.devices(pod("a", "b"))
            == saved
            == {VF: ["d2", "d1", "d3"], "other/x": ["e4", "e5"]}
        )


class Source:
    def __init__(self, **ids: Sequence[str]) -> None:
        self.ids = ids
        self.asked = 0

    def __call__(self) -> Mapping[str, Sequence[str]]:
        self.asked += 1
        return self.ids


def test_each_network_takes_the_next_and_the_source_is_asked_once_and_late() -> None:
    source = Source(x=["d0", "d1"], y=["d0"])
    devices = Devices(source, strict=True)
    assert source.asked == 0
    taken = [devices.take("x", "ns/a"), devices.take("y", "ns/b"), devices.take("x", "ns/c")]
    assert taken == ["d0", "d0", "d1"]
    assert source.asked == 1


def test_a_network_without_a_device_fails_the_pod() -> None:
    devices = Devices(Source(x=["d0"]), strict=True)
    devices.take("x", "ns/a")
    with pytest.raises(NoDeviceError, match=r"network ns/b needs a device of x .* all 1 ") as none:
        devices.take("x", "ns/b")
    assert (none.value.resource, none.value.network, none.value.held) == ("x", "ns/b", 1)
    with pytest.raises(NoDeviceError, match="it has none") as unknown:
        devices.take("unknown", "ns/c")
    assert unknown.value.held == 0


def test_not_strict_a_network_goes_without() -> None:
    devices = Devices(Source(x=["d0"]), strict=False)
    taken = [devices.take("x", "a"), devices.take("x", "b"), devices.take("unknown", "c")]
    assert taken == ["d0", None, None]


def test_a_device_that_a_network_names_goes_to_no_other() -> None:
    devices = Devices(Source(x=["d0", "d1"]), strict=True)
    devices.reserve("d0")
    assert devices.take("x", "ns/a") == "d1"
    with pytest.raises(NoDeviceError):
        devices.take("x", "ns/b")
