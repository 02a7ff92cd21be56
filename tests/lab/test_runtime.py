"""Pods with real VFs from a real container runtime: containerd in the lab's machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.kubelet import FakeKubelet, ListedPod
from tests.lab.host_state import (
    PFS,
    announce_vfs,
    differences,
    driver_of,
    netdev_of,
    snapshot,
    vfs_of,
)
from tests.runtime.cluster import define, make_pod, serving, start, status_of
from tests.runtime.cri import Pod
from tests.runtime.rig import Rig
from tests.seed import objects

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
# Emulated processors: a call takes ten times as long as elsewhere.
PATIENCE = 5
KUBELET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
RESOURCE = "intel.com/igb"


class Machine:
    """The namespace that has the hardware: the machine's first."""

    def __init__(self) -> None:
        self.path = "/proc/1/ns/net"
        self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    subprocess.run(["modprobe", "igb_uio"], check=True)
    announce_vfs()
    with Rig(tmp_path, host=Machine(), patience=PATIENCE) as made:
        yield made


def kernel_vf(rig: Rig, address: str, **more: Any) -> dict[str, Any]:
    ipam = rig.ipam_conf("18.1.0.0/24")
    return {"name": "fast", "type": "sriov", "deviceID": address, "ipam": ipam, **more}


def dpdk_vf(pf: str) -> dict[str, Any]:
    dpdk = {"dpdk_driver": "igb_uio", "kernel_driver": "igbvf"}
    return {"name": "user", "type": "sriov", "if0": netdev_of(pf), "if0name": "dpdk0", "dpdk": dpdk}


def test_a_pod_with_functions_for_the_kernel_and_for_dpdk(rig: Rig) -> None:
    vf = vfs_of(PFS[0])[3]
    rig.network(rig.ptp(), kernel_vf(rig, vf, if0name="net0", vlan=100), dpdk_vf(PFS[1]))
    rig.containerd.start()
    before = snapshot()
    pod = Pod("packets")
    sandbox = rig.cri.run(pod)
    container = rig.cri.start(sandbox, pod, ["sleep", "600"])
    seen = rig.cri.execute(container, "ip", "-o", "-4", "addr", "show", "net0")
    assert "18.1.0.2/24" in seen
    assert set(rig.addresses(sandbox)) == {"eth0", "net0"}
    assert [driver_of(each) for each in vfs_of(PFS[1])].count("igb_uio") == 1
    assert [driver_of(each) for each in vfs_of(PFS[0])] == ["igbvf"] * 7
    rig.cri.stop(sandbox)
    assert differences(before, snapshot()) == []
    rig.cri.stop(sandbox)
    rig.cri.remove(sandbox)
    assert rig.left() == {}
    assert differences(before, snapshot()) == []


def test_two_pods_talk_over_the_cards_after_their_runtime_died(rig: Rig) -> None:
    rig.network(rig.ptp(), {**kernel_vf(rig, ""), "deviceID": None, "if0": netdev_of(PFS[0])})
    rig.containerd.start()
    before = snapshot()
    pods = [Pod("left"), Pod("right")]
    sandboxes = [rig.cri.run(pod) for pod in pods]
    containers = [
        rig.cri.start(sandbox, pod, ["sleep", "600"])
        for sandbox, pod in zip(sandboxes, pods, strict=True)
    ]
    rig.containerd.kill()
    rig.containerd.start()
    (other,) = rig.addresses(sandboxes[1])["net1"]
    # igbvf looks for its link every other second; ping goes on until it has its answer.
    talked = rig.cri.execute(containers[0], "ping", "-I", "net1", "-c1", "-w60", other)
    assert "1 packets received" in talked
    for sandbox in sandboxes:
        rig.cri.stop(sandbox)
        rig.cri.remove(sandbox)
    assert rig.left() == {}
    assert differences(before, snapshot()) == []


def test_a_pod_that_asks_a_cluster_for_two_kinds_of_function(rig: Rig) -> None:
    """The whole way: containerd, multus, API server, kubelet's socket, sriov, hardware."""
    kernel, user = vfs_of(PFS[0])[5], vfs_of(PFS[1])[2]
    resources = [(RESOURCE, [kernel]), (f"{RESOURCE}-dpdk", [user])]
    listed = ListedPod("default", "packets", {"main": resources})
    dpdk = {"name": "user", "type": "sriov", "dpdk": {"dpdk_driver": "igb_uio"}}
    before = snapshot()
    with FakeKubelet(KUBELET, listed), serving(rig) as api:
        fast = {"name": "fast", "type": "sriov", "ipam": rig.ipam_conf("18.1.0.0/24")}
        define(api, "fast", {"cniVersion": "1.0.0", **fast}, RESOURCE)
        define(api, "user", {"cniVersion": "1.0.0", **dpdk}, f"{RESOURCE}-dpdk")
        start(rig, api, rig.ptp())
        sandbox = rig.cri.run(make_pod(api, "packets", "fast@net0, user"))
        assert set(rig.addresses(sandbox)) == {"eth0", "net0"}
        # A folder of sysfs that holds netdevs shows those of the reader's namespace.
        assert os.listdir(f"/sys/bus/pci/devices/{kernel}/net") == []
        assert driver_of(user) == "igb_uio"
        told = status_of(api, "packets")
        assert [each["name"] for each in told] == ["p2p", "default/fast", "default/user"]
    # Neither kubelet nor server is there any more.
    rig.cri.stop(sandbox)
    rig.cri.remove(sandbox)
    assert rig.left() == {}
    assert differences(before, snapshot()) == []


def test_the_pod_of_2018(rig: Rig) -> None:
    """Its own objects and annotation, by containerd, on real functions; twice, since the bridge
    plugin makes its bridge at the first pod and leaves it."""
    os.makedirs("/run/flannel", exist_ok=True)
    Path("/run/flannel/subnet.env").write_text(
        "FLANNEL_NETWORK=172.17.0.0/16\nFLANNEL_SUBNET=172.17.2.1/24\nFLANNEL_MTU=1450\n"
    )
    shutil.copy(Path(__file__).parent / "plugins/flannel", rig.containerd.bin_dir / "flannel")
    words = objects.words_of(netdev_of(PFS[0]), "igbvf", "igb_uio", "/usr/bin/dpdk-devbind.py")
    leases = Path("/var/lib/cni/networks/sriov-dpdk-network-enp4s0f1")
    before = None
    with serving(rig) as api:
        for name in objects.OBJECTS:
            api.add(objects.load(name, words))
        made = api.add(objects.load(objects.POD, words))
        conf = objects.configuration(api.kubeconfig(rig.folder / "kubeconfig"))
        start(rig, api, conf["delegates"][0])
        for attempt in range(2):
            uid = made["metadata"]["uid"]
            annotations = made["metadata"]["annotations"]
            sandbox = rig.cri.run(Pod("xftony-test", uid=uid, annotations=annotations))
            links = rig.addresses(sandbox)
            assert set(links) == {"eth0", "net0-4s0f1"}
            assert links["eth0"][0].startswith("172.17.2.")
            assert links["net0-4s0f1"][0].startswith("18.1.0.")
            assert [driver_of(each) for each in vfs_of(PFS[0])].count("igb_uio") == 1
            told = status_of(api, "xftony-test")
            assert told[0]["name"] == "default/flannel-network"
            rig.cri.stop(sandbox)
            rig.cri.remove(sandbox)
            assert [p.name for p in leases.iterdir() if p.name.startswith("18.")] == []
            if attempt == 0:
                before = snapshot()
    assert rig.left() == {}
    assert before is not None
    assert differences(before, snapshot()) == []
