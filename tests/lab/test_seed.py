"""The seed's own objects and pod, through an API server, on real hardware."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from kubernetes.client import ApiClient, Configuration, CoreV1Api, CustomObjectsApi

from tests.apiserver.server import ApiServer
from tests.lab.cni import pod
from tests.lab.host_state import PFS, announce_vfs, differences, driver_of, ip, netdev_of, snapshot
from tests.seed import objects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

PF = PFS[0]
NETWORKS = "k8s.v1.cni.cncf.io/networks"
STATUS = "k8s.v1.cni.cncf.io/network-status"
TOOL = "/usr/bin/dpdk-devbind.py"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as made:
        yield made


@pytest.fixture(autouse=True, scope="module")
def node() -> None:
    subprocess.run(["modprobe", "igb_uio"], check=True)
    announce_vfs()
    os.makedirs("/run/flannel", exist_ok=True)
    with open("/run/flannel/subnet.env", "w") as file:
        file.write(
            "FLANNEL_NETWORK=172.17.0.0/16\nFLANNEL_SUBNET=172.17.2.1/24\nFLANNEL_MTU=1450\n"
        )
    # The bridge plugin makes its bridge once and leaves it, with the gateway's address.
    subprocess.run("ip link show cni0 || ip link add cni0 type bridge", shell=True, check=True)
    subprocess.run(["ip", "link", "set", "cni0", "up"], check=True)
    with pod() as first:
        flannel = {"type": "flannel", "name": "warm-up", "delegate": {"isDefaultGateway": True}}
        conf = {"cniVersion": "1.0.0", "name": "warm", "type": "multus", "delegates": [flannel]}
        assert first.call("multus", "ADD", conf).status == 0
        assert first.call("multus", "DEL", conf).status == 0


def created(server: ApiServer) -> Any:
    """Create the objects as an administrator would, with the real client; return the pod."""
    configuration = Configuration()
    configuration.host = server.url
    words = objects.words_of(netdev_of(PF), "igbvf", "igb_uio", TOOL)
    with ApiClient(configuration) as client:
        for name in objects.OBJECTS:
            CustomObjectsApi(client).create_namespaced_custom_object(
                "kubernetes.com", "v1", "default", "networks", objects.load(name, words)
            )
        body = objects.load(objects.POD, words)
        return CoreV1Api(client).create_namespaced_pod("default", body)


def test_the_seeds_objects_end_in_its_three_interfaces(server: ApiServer, tmp_path: Path) -> None:
    before = snapshot()
    made = created(server)
    conf = objects.configuration(server.kubeconfig(tmp_path / "kubeconfig"))
    with pod() as one:
        named = replace(one, args=args_of(made))
        added = named.call("multus", "ADD", conf)
        assert added.status == 0, added
        links = {link["ifname"]: link for link in ip("address", "show", netns=one.netns)}
        assert set(links) == {"lo", "eth0", "net0-4s0f1"}
        assert links["eth0"]["addr_info"][0]["local"].startswith("172.17.2.")
        assert 70 <= int(links["net0-4s0f1"]["addr_info"][0]["local"].rpartition(".")[2]) <= 99
        # eth0 has the default route; the second one for the same destination is left out.
        defaults = ip("route", "show", "default", netns=one.netns)
        assert [route["dev"] for route in defaults] == ["eth0"]
        records = sorted(os.listdir(f"/var/lib/cni/sriov/{os.stat(one.path).st_ino}"))
        assert [record.split("-", 1)[1] for record in records] == ["Dpdk1-4s0f1", "net0-4s0f1"]
        with open(f"/var/lib/cni/sriov/{os.stat(one.path).st_ino}/{records[0]}") as file:
            assert driver_of(json.load(file)["pci_addr"]) == "igb_uio"

        annotations = server.read("Pod", "xftony-test")["metadata"]["annotations"]
        told = json.loads(annotations[STATUS])
        assert (told[0]["name"], told[0]["interface"]) == ("default/flannel-network", "eth0")
        server.down()  # the pod goes, and nobody is there to ask
        deleted = named.call("multus", "DEL", conf)
        assert deleted.status == 0, deleted
        again = named.call("multus", "DEL", conf, netns="")
        assert again.status == 0, again
    assert differences(before, snapshot()) == []


def test_gc_keeps_a_live_pods_vf_and_frees_a_dead_ones(server: ApiServer, tmp_path: Path) -> None:
    vf_network = {"cniVersion": "1.1.0", "type": "sriov", "if0": netdev_of(PF)}
    bridge = {
        "cniVersion": "1.1.0",
        "type": "ptp",
        "name": "first",
        "ipam": {"type": "host-local", "subnet": "10.77.0.0/24"},
    }
    conf = {
        "cniVersion": "1.1.0",
        "name": "node",
        "type": "multus",
        "kubeconfig": server.kubeconfig(tmp_path / "kubeconfig"),
        "delegates": [{**bridge, "cniVersion": "1.0.0"}],
    }
    server.add(
        {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "vf"},
            "spec": {"config": json.dumps(vf_network)},
        }
    )
    before = snapshot()
    with pod() as live, pod() as dead:
        pods = []
        for name, one in (("live", live), ("dead", dead)):
            made = server.add(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": name,
                        "annotations": {"k8s.v1.cni.cncf.io/networks": "vf"},
                    },
                    "spec": {"containers": [{"name": "c", "image": "x"}]},
                }
            )
            args = f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_UID=" + str(
                made["metadata"]["uid"]
            )
            pods.append(replace(one, args=f"IgnoreUnknown=1;{args}"))
            assert pods[-1].call("multus", "ADD", conf).status == 0
        subprocess.run(["ip", "netns", "del", dead.netns], check=True)
        valid = [{"containerID": live.container_id, "ifname": "eth0"}]
        collected = pods[0].call("multus", "GC", {**conf, "cni.dev/valid-attachments": valid})
        assert collected.status == 0, collected
        names = {link["ifname"] for link in ip("link", "show", netns=live.netns)}
        assert names == {"lo", "eth0", "net1"}
        journal = os.listdir("/var/lib/cni/sriov/journal/containers")
        assert [name.removesuffix(".json") for name in journal] == [live.container_id]
        assert pods[0].call("multus", "CHECK", conf | {"prevResult": None}).status == 0
        assert pods[0].call("multus", "DEL", conf).status == 0
    assert differences(before, snapshot()) == []


def args_of(made: Any) -> str:
    meta = made.metadata
    return (
        f"IgnoreUnknown=1;K8S_POD_NAMESPACE={meta.namespace};K8S_POD_NAME={meta.name};"
        f"K8S_POD_UID={meta.uid}"
    )
