"""The main job on a real kernel: the seed's pod, and every kind of attachment, there and back."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from tests.lab.cni import Pod, pod
from tests.lab.host_state import (
    PFS,
    announce_vfs,
    differences,
    driver_of,
    ip,
    netdev_of,
    snapshot,
    vf_info,
    vfs_of,
)

pytestmark = pytest.mark.lab

PF = PFS[0]
IPAM = {
    "type": "host-local",
    "subnet": "18.1.0.0/24",
    "rangeStart": "18.1.0.70",
    "rangeEnd": "18.1.0.99",
    "routes": [{"dst": "0.0.0.0/0"}],
    "gateway": "18.1.0.1",
}


@pytest.fixture(autouse=True, scope="module")
def node() -> None:
    for module in ("igb_uio", "vfio-pci", "uio_pci_generic"):
        subprocess.run(["modprobe", module], check=True)
    announce_vfs()
    os.makedirs("/run/flannel", exist_ok=True)
    with open("/run/flannel/subnet.env", "w") as file:
        file.write(
            "FLANNEL_NETWORK=172.17.0.0/16\nFLANNEL_SUBNET=172.17.2.1/24\nFLANNEL_MTU=1450\n"
        )
    # The bridge plugin makes its bridge once and leaves it, so it is there before we look.
    subprocess.run("ip link show cni0 || ip link add cni0 type bridge", shell=True, check=True)
    subprocess.run(["ip", "link", "set", "cni0", "up"], check=True)
    with pod() as first:
        conf = network({"type": "flannel", "name": "warm-up", "isDefaultGateway": True})
        assert first.call("multus", "ADD", conf).status == 0
        assert first.call("multus", "DEL", conf).status == 0


def network(*delegates: dict[str, Any]) -> dict[str, Any]:
    return {
        "cniVersion": "1.0.0",
        "name": "multus-network",
        "type": "multus",
        "binDir": "/usr/lib/cni",
        "delegates": list(delegates),
    }


def seed_networks() -> list[dict[str, Any]]:
    """The seed's three configurations; device, driver and tool are this machine's."""
    if0 = netdev_of(PF)
    return [
        {
            "type": "flannel",
            "name": "cbr0",
            "hairpinMode": True,
            "masterplugin": True,
            "isDefaultGateway": True,
        },
        {"if0": if0, "pfOnly": False, "type": "sriov", "if0name": "net0-4s0f1", "ipam": IPAM},
        {
            "if0": if0,
            "pfOnly": False,
            "type": "sriov",
            "if0name": "Dpdk1-4s0f1",
            "dpdk": {
                "kernel_driver": "igbvf",
                "dpdk_driver": "igb_uio",
                "dpdk_tool": "/usr/bin/dpdk-devbind.py",
            },
        },
    ]


def with_result(conf: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    return {**conf, "prevResult": result}


def test_the_seeds_pod() -> None:
    before = snapshot()
    with pod() as one:
        conf = network(*seed_networks())
        added = one.call("multus", "ADD", conf)
        assert added.status == 0, added
        assert added.value["ips"][0]["address"].startswith("172.17.2.")
        links = {link["ifname"]: link for link in ip("address", "show", netns=one.netns)}
        assert set(links) == {"lo", "eth0", "net0-4s0f1"}
        vf_address = links["net0-4s0f1"]["addr_info"][0]["local"]
        assert 70 <= int(vf_address.rpartition(".")[2]) <= 99
        defaults = ip("route", "show", "default", netns=one.netns)
        assert [route["dev"] for route in defaults] == ["eth0"]

        inode = os.stat(one.path).st_ino
        folder = f"/var/lib/cni/sriov/{inode}"
        assert sorted(os.listdir(folder)) == [
            f"{one.container_id}-Dpdk1-4s0f1",
            f"{one.container_id}-net0-4s0f1",
        ]
        with open(f"{folder}/{one.container_id}-Dpdk1-4s0f1") as file:
            record = json.load(file)
        assert record["DPDKMode"] is True
        assert record["dpdk"]["kernel_driver"] == "igbvf"
        assert driver_of(record["pci_addr"]) == "igb_uio"

        checked = one.call("multus", "CHECK", with_result(conf, added.value))
        assert checked.status == 0, checked
        deleted = one.call("multus", "DEL", with_result(conf, added.value))
        assert deleted.status == 0, deleted
        again = one.call("multus", "DEL", conf, netns="")
        assert again.status == 0, again
    assert differences(before, snapshot()) == []


SRIOV = {"cniVersion": "1.0.0", "name": "sriov-network", "type": "sriov"}


def kinds() -> dict[str, dict[str, Any]]:
    """Every kind of attachment that the 82576 can do."""
    vf, if0 = vfs_of(PF)[3], netdev_of(PF)
    tool = "/usr/bin/dpdk-devbind.py"
    return {
        "kernel VF by PF name": {"if0": if0, "ipam": IPAM},
        "kernel VF by address, every setting igb has": {
            "deviceID": vf,
            "vlan": 100,
            "vlanQoS": 3,
            "mac": "02:00:00:00:0a:01",
            "spoofchk": "off",
            "trust": "on",
            "max_tx_rate": 100,
            "mtu": 1400,
            "ipam": IPAM,
        },
        "kernel VF with a MAC and no trust": {"deviceID": vf, "mac": "02:00:00:00:0a:02"},
        "L2 mode": {"if0": if0, "l2enable": True, "vlan": 7},
        "whole PF": {"if0": netdev_of(PFS[1]), "pfOnly": True, "ipam": IPAM},
        "igb_uio by dpdk-devbind.py": {
            "if0": if0,
            "vlan": 12,
            "mac": "02:00:00:00:0a:03",
            "dpdk": {"dpdk_driver": "igb_uio", "kernel_driver": "igbvf", "dpdk_tool": tool},
        },
        "igb_uio natively": {"if0": if0, "dpdk": {"dpdk_driver": "igb_uio"}},
        "uio_pci_generic natively": {"deviceID": vf, "dpdk": {"dpdk_driver": "uio_pci_generic"}},
        "vfio-pci natively": {
            "deviceID": vf,
            "mac": "02:00:00:00:0a:04",
            "dpdk": {"dpdk_driver": "vfio-pci"},
        },
    }


KINDS = (
    "kernel VF by PF name",
    "kernel VF by address, every setting igb has",
    "kernel VF with a MAC and no trust",
    "L2 mode",
    "whole PF",
    "igb_uio by dpdk-devbind.py",
    "igb_uio natively",
    "uio_pci_generic natively",
    "vfio-pci natively",
)


@pytest.mark.parametrize("kind", KINDS)
def test_add_check_del_is_the_identity(kind: str) -> None:
    before = snapshot()
    with pod() as one:
        conf = {**SRIOV, **kinds()[kind]}
        added = one.call("sriov", "ADD", conf)
        assert added.status == 0, added
        _has_what_was_asked(one, conf)
        checked = one.call("sriov", "CHECK", with_result(conf, added.value))
        assert checked.status == 0, checked
        deleted = one.call("sriov", "DEL", with_result(conf, added.value))
        assert deleted.status == 0, deleted
    subprocess.run(["udevadm", "settle"], check=True)
    assert differences(before, snapshot()) == []


def _has_what_was_asked(one: Pod, conf: dict[str, Any]) -> None:
    address = next(
        name.removesuffix(".json")
        for name in os.listdir("/var/lib/cni/sriov/journal")
        if name.endswith(".json")
    )
    if "dpdk" in conf:
        assert driver_of(address) == conf["dpdk"]["dpdk_driver"]
    else:
        names = {link["ifname"]: link for link in ip("link", "show", netns=one.netns)}
        assert "net1" in names
        if "mtu" in conf:
            assert names["net1"]["mtu"] == conf["mtu"]
        if "mac" in conf:
            assert names["net1"]["address"] == conf["mac"]
    if address not in PFS:
        info = vf_info(PF, vfs_of(PF).index(address))
        assert info.get("vlan_list", [{}])[0].get("vlan") == conf.get("vlan")
        if "mac" in conf:
            assert info["address"] == conf["mac"]


def test_a_namespace_that_dies_gives_its_vf_back_at_del() -> None:
    before = snapshot()
    with pod() as one:
        conf = {**SRIOV, **kinds()["kernel VF by address, every setting igb has"]}
        assert one.call("sriov", "ADD", conf).status == 0
    deleted = one.call("sriov", "DEL", conf, netns="")
    assert deleted.status == 0, deleted
    subprocess.run(["udevadm", "settle"], check=True)
    assert differences(before, snapshot()) == []


def test_a_namespace_without_a_name_is_found_by_its_process() -> None:
    before = snapshot()
    with pod() as one:
        conf = {**SRIOV, **kinds()["kernel VF by PF name"]}
        holder = subprocess.Popen(["ip", "netns", "exec", one.netns, "sleep", "600"])
        assert one.call("sriov", "ADD", conf).status == 0
    try:
        deleted = one.call("sriov", "DEL", conf, netns=one.path)
        assert deleted.status == 0, deleted
    finally:
        holder.kill()
        holder.wait()
    assert differences(before, snapshot()) == []


def test_a_namespace_that_only_a_descriptor_holds() -> None:
    before = snapshot()
    with pod() as one:
        conf = {**SRIOV, **kinds()["kernel VF by address, every setting igb has"]}
        held = os.open(one.path, os.O_RDONLY)
        assert one.call("sriov", "ADD", conf).status == 0
    try:
        deleted = one.call("sriov", "DEL", conf, netns=one.path)
        assert deleted.status == 0, deleted
        subprocess.run(["udevadm", "settle"], check=True)
        assert differences(before, snapshot()) == []
    finally:
        os.close(held)


def test_a_pf_stays_while_a_vf_of_it_is_in_use() -> None:
    with pod() as one, pod() as other:
        vf = {**SRIOV, "if0": netdev_of(PF)}
        assert one.call("sriov", "ADD", vf).status == 0
        before = snapshot()
        refused = other.call("sriov", "ADD", {**SRIOV, "if0": netdev_of(PF), "pfOnly": True})
        assert refused.status == 1
        assert refused.value["code"] == 11
        assert "in use" in refused.value["msg"]
        assert differences(before, snapshot()) == []
        assert one.call("sriov", "DEL", vf).status == 0


@pytest.mark.parametrize("mac", [None, "02:00:00:00:0a:05"])
def test_a_vf_that_was_never_up_receives_after_its_first_pod(mac: str | None) -> None:
    """The PF shows a VF's own MAC once its driver has announced it; giving back leaves it that."""
    vf = vfs_of(PF)[5]
    driver = f"/sys/bus/pci/drivers/{driver_of(vf)}"
    for file in ("unbind", "bind"):
        with open(f"{driver}/{file}", "w") as control:
            control.write(vf)
    subprocess.run(["udevadm", "settle"], check=True)
    with pod() as one:
        conf = {**SRIOV, "deviceID": vf, **({"mac": mac} if mac else {})}
        assert one.call("sriov", "ADD", conf).status == 0
        assert one.call("sriov", "DEL", conf).status == 0
    own = ip("link", "show", netdev_of(vf))[0]["address"]
    assert vf_info(PF, 5)["address"] == own
