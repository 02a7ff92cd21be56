"""Facts of the host, from files as the kernel, kubelet and network managers write them."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from hwmgr.doctor import facts_host
from hwmgr.doctor.examination import examine
from hwmgr.sysfs import Sysfs
from tests.fakes.kernel_sim import load_fixture
from tests.fakes.machine import build, replace_node

ROOT = Path(__file__).parents[3]


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_hugepages(tmp_path: Path) -> None:
    for size, total, free in ((2048, 10, 4), (1048576, 0, 0)):
        home = tmp_path / f"kernel/mm/hugepages/hugepages-{size}kB"
        put(home / "nr_hugepages", f"{total}\n")
        put(home / "free_hugepages", f"{free}\n")
    put(tmp_path / "kernel/mm/hugepages/odd/nr_hugepages", "1\n")
    found = facts_host.hugepages(Sysfs(str(tmp_path)))
    assert sorted((p.size, p.total, p.free) for p in found) == [(2048, 10, 4), (1048576, 0, 0)]


def test_managers(tmp_path: Path) -> None:
    devices = tmp_path / "NetworkManager/devices"
    put(devices / "3", "[device]\nmanaged=true\nconnection-uuid=x\n")
    put(devices / "4", "[device]\nmanaged=false\n")
    put(devices / "x", "[device]\nmanaged=true\n")
    links = tmp_path / "systemd/netif/links"
    put(links / "5", "ADMIN_STATE=configured\nOPER_STATE=routable\n")
    put(links / "6", "ADMIN_STATE=unmanaged\n")
    put(links / "7", "")
    put(links / "8", "ADMIN_STATE=pending\n")
    put(links / "3", "ADMIN_STATE=configuring\n")
    found = facts_host.managers(str(tmp_path))
    assert {index: [m.name for m in each] for index, each in found.items()} == {
        3: ["NetworkManager", "systemd-networkd"],
        5: ["systemd-networkd"],
    }
    assert found[3][0].says == "managed=true"
    assert facts_host.managers(str(tmp_path / "none")) == {}


def test_kubelet(tmp_path: Path) -> None:
    assert facts_host.kubelet(str(tmp_path / "none")) is None
    checkpoint = {
        "Data": {
            "PodDeviceEntries": None,
            "RegisteredDevices": {"intel.com/vf": ["0000:01:10.2", "vf-7"], "other": []},
        },
        "Checksum": 1,
    }
    put(tmp_path / facts_host.CHECKPOINT, json.dumps(checkpoint))
    (tmp_path / "pod-resources").mkdir()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "pod-resources/kubelet.sock"))
        found = facts_host.kubelet(str(tmp_path))
    assert found is not None
    assert found.missing == (f"{tmp_path}/device-plugins/kubelet.sock",)
    assert (found.problem, found.advertised) == (None, frozenset({"0000:01:10.2"}))


@pytest.mark.parametrize("text", ["{", "[]", '{"Data": null}', '{"Data": {}}', "\xff"])
def test_a_checkpoint_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    put(tmp_path / facts_host.CHECKPOINT, text)
    found = facts_host.kubelet(str(tmp_path))
    assert found is not None
    assert found.problem
    assert found.advertised == frozenset()


def test_what_driverctl_keeps(tmp_path: Path) -> None:
    put(tmp_path / "driverctl.d/pci-0000:01:10.2", "vfio-pci\n")
    put(tmp_path / "driverctl.d/vmbus-1", "x\n")
    assert set(facts_host.kept_drivers(str(tmp_path))) == {"0000:01:10.2"}


@pytest.mark.parametrize(
    "fixture", sorted(p.name for p in (ROOT / "sysfs_fixtures").iterdir() if (p / "sys").is_dir())
)
def test_a_recorded_node_is_examined_without_its_kernel(tmp_path: Path, fixture: str) -> None:
    """A tree of another machine has no netlink behind it: nothing is made up about netdevs."""
    machine = build(str(tmp_path / "machine"))
    sim = load_fixture(str(ROOT / "sysfs_fixtures" / fixture), str(tmp_path / "tree"))
    found = examine(replace_node(machine.node, sysfs=Sysfs(sim.root)))
    ids = {f.id for f in found}
    # One of that node's VFs has its netdev in a pod, which the tree alone cannot tell.
    known = {"vf-nowhere"} if fixture == "cx6-rdma" else set()
    known |= {"vf-unbound", "vf-driver-left", "vf-userspace", "override-left", "iommu-missing"}
    assert ids <= known
    if fixture == "x710-i40e":
        assert ids == {"vf-unbound", "vf-userspace"}, "driver_override names its driver"
