"""VFs in pods of a real kubelet: those that it allocated, and those of the objects of 2018."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from multus.devices.checkpoint import FILE, devices_of_pod
from tests.cluster.card import Card
from tests.cluster.deviceplugin import DevicePlugin
from tests.cluster.node import IMAGE, STATUS, ClusterNode
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Json = dict[str, Any]

pytestmark = pytest.mark.cluster
NIC = Nic(address="0000:04:00.1", ifname="enp4s0f1", vfs=4)
RESOURCE = "example.com/vf"

# The objects and the pod of 2018, as their author has shown them.
FLANNEL = {
    "apiVersion": "kubernetes.com/v1",
    "kind": "Network",
    "metadata": {"name": "flannel-network"},
    "plugin": "flannel",
    "args": """[
        {
                "delegate": {
                        "isDefaultGateway": true
                }
        }
]""",
}
SRIOV = {
    "apiVersion": "kubernetes.com/v1",
    "kind": "Network",
    "metadata": {"name": "sriov-dpdk-network-enp4s0f1"},
    "plugin": "sriov",
    "args": """[
       {
                "if0": "enp4s0f1",
                "pfOnly": false,
                "type": "sriov",
                "if0name": "net0-4s0f1",
                "ipam": {
                        "type": "host-local",
                        "subnet": "18.1.0.0/24",
                        "rangeStart": "18.1.0.70",
                        "rangeEnd": "18.1.0.99",
                        "routes": [
                                { "dst": "0.0.0.0/0" }
                        ],
                        "gateway": "18.1.0.1"
                }
       },
       {        "if0": "enp4s0f1",
                "pfOnly": false,
                "type": "sriov",
                "if0name": "Dpdk1-4s0f1",
                "dpdk": {
                        "kernel_driver": "ixgbevf",
                        "dpdk_driver": "igb_uio",
                        "dpdk_tool": "/root/xftony/plugins/dpdk-17.11/usertools/dpdk-devbind.py"
                }
       }
]""",
}
POD_OF_2018 = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "xftony-test",
        "annotations": {
            "networks": """[
        { "name": "flannel-network"},
        { "name": "sriov-dpdk-network-enp4s0f1"}
   ]"""
        },
    },
    "spec": {
        "nodeSelector": {"name": "node1"},
        "containers": [
            {
                "name": "xftony-test-1",
                "image": "ubuntu:14.04",
                "imagePullPolicy": "IfNotPresent",
                "command": ["top"],
                "stdin": True,
                "tty": True,
            }
        ],
    },
}


@pytest.fixture
def card(node: ClusterNode, tmp_path: Path) -> Iterator[Card]:
    with closing(Card(tmp_path, NIC)) as made, made.serving(node):
        yield made


def driver_of(card: Card, address: str) -> str | None:
    return card.sim.link_name(f"bus/pci/devices/{address}/driver")


def test_the_pod_of_2018(node: ClusterNode, card: Card) -> None:
    node.name_image("docker.io/library/ubuntu:14.04")
    node.create(FLANNEL)
    node.create(SRIOV)
    before, hardware = node.left(), card.snapshot()
    made = node.run(POD_OF_2018)
    links = node.links_of(made)
    assert links == {"eth0": [made.status.pod_ip], "net0-4s0f1": ["18.1.0.70"]}
    assert made.status.pod_ip.startswith("172.17.2.")
    drivers = [driver_of(card, NIC.vf(index)) for index in range(NIC.vfs)]
    assert sorted(filter(None, drivers)) == ["igb_uio", *["igbvf"] * 3]
    told = {each["interface"]: each for each in json.loads(made.metadata.annotations[STATUS])}
    assert told["eth0"]["ips"] == links["eth0"]
    assert told["net0-4s0f1"]["ips"] == ["18.1.0.70"]
    node.delete(made)
    node.until_left(before)
    assert card.snapshot() == hardware


def test_the_devices_that_kubelet_allocated(node: ClusterNode, card: Card) -> None:
    ipam = {"type": "host-local", "subnet": "10.77.0.0/24"}
    conf = {"cniVersion": "0.3.1", "name": "fast", "type": "sriov", "vlan": 7, "ipam": ipam}
    node.define("fast", conf, resourceName=RESOURCE)
    before, hardware = node.left(), card.snapshot()
    offered = [NIC.vf(index) for index in range(NIC.vfs)]
    with DevicePlugin(RESOURCE, offered) as plugin:
        node.until_allocatable(RESOURCE, len(offered))
        made = node.run(wanting("fast-pod", 2, networks="fast, fast"))
        (given,) = plugin.given
        links = node.links_of(made)
        assert set(links) == {"eth0", "net1", "net2"}
        assert links_gone(card, hardware) == {f"netdev {name_of(each)}" for each in given}
        settings = card.sim.vf_side.get(NIC.address)
        assert {index for index, each in settings.items() if each.vlan == 7} == {
            offered.index(each) for each in given
        }
        told = {each["interface"]: each for each in json.loads(made.metadata.annotations[STATUS])}
        assert {name: each["ips"] for name, each in told.items()} == links
        # Where kubelet's socket does not answer, its file is asked.
        saved = devices_of_pod(FILE, made.metadata.uid)
        assert sorted(saved["main"][RESOURCE]) == sorted(given)
        node.delete(made)
        node.until_left(before)
    assert card.snapshot() == hardware


def wanting(name: str, count: int, **annotations: str) -> Json:
    """Return a pod whose container asks for devices."""
    notes = {f"k8s.v1.cni.cncf.io/{key}": value for key, value in annotations.items()}
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["sleep", "3600"],
        "resources": {"limits": {RESOURCE: str(count)}},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    meta = {"name": name, "annotations": notes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def name_of(address: str) -> str:
    index = next(index for index in range(NIC.vfs) if NIC.vf(index) == address)
    return f"{NIC.ifname}v{index}"


def links_gone(card: Card, before: dict[str, object]) -> set[str]:
    now = card.snapshot()
    return {key for key in before if key.startswith("netdev ") and key not in now}
