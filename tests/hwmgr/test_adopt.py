"""What another tool attached is given back by its own state file, when no record of ours has it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr import adopt, claims
from hwmgr.driver import bind, current_driver
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, DpdkRequest, Kind, PciAddress, VFSettings, VlanProto

if TYPE_CHECKING:
    from tests.fakes.machine import Machine
    from tests.fakes.namespaces import Namespace

CONTAINER = "feedbeef" * 8
OTHER = "0badcafe" * 8
VF = PciAddress("0000:01:10.2")
SETTINGS = VFSettings(vlan=100, qos=2, proto=VlanProto.DOT1Q, trust=True)
V2_CONF: dict[str, object] = {
    "name": "n", "type": "sriov", "deviceID": str(VF), "vlan": 100, "vlanQoS": 2, "trust": "on",
}  # fmt: skip
SEED_CONF: dict[str, object] = {"name": "n", "type": "sriov", "if0": "eth1", "vlan": 100}


def attach_as_another_tool(machine: Machine, pod: Namespace, **change: Any) -> None:
    """Attach, then lose our record: what stays is what the other tool would have left."""
    fields: dict[str, Any] = {
        "container_id": CONTAINER,
        "ifname": "net1",
        "netns_path": pod.path,
        "kind": Kind.VF,
        "device": VF,
        "settings": SETTINGS,
        "saved_conf": V2_CONF,
    }
    Manager(machine.node).attach(AttachRequest(**{**fields, **change}))
    machine.node.journal.remove(VF)
    # Neither tool marks a netdev.
    machine.netlink.edit("net1", pod.key, alias=None) if change.get("kind") is None else None


def settings_of(machine: Machine) -> object:
    return machine.sim.vf_side.get("0000:01:00.0")[1]


def test_sriov_cni_is_undone_wholly(machine: Machine) -> None:
    pod = machine.namespace()
    machine.netlink.edit("eth1v1", mtu=1400)
    before = machine.snapshot()
    attach_as_another_tool(machine, pod)
    assert "eth1v1" not in machine.netlink.space()
    assert Manager(machine.node).detach(CONTAINER, "net1", pod.path)
    assert machine.snapshot() == {**before, **{k: machine.snapshot()[k] for k in _pf_up(machine)}}
    assert adopt.foreign_records(machine.node, CONTAINER, "net1") == []
    assert claims.addresses(machine.state) == []
    assert machine.node.journal.addresses() == []


def _pf_up(machine: Machine) -> list[str]:
    """Attach sets the PF up, for good."""
    return [k for k in machine.snapshot() if ("eth1/" in k and "flags" in k) or k == "netdev eth1"]


def test_the_seed_is_undone_as_far_as_it_saved(machine: Machine) -> None:
    pod = machine.namespace()
    settings = settings_of(machine)
    attach_as_another_tool(
        machine, pod, settings=VFSettings(vlan=100), seed_style=True, saved_conf=SEED_CONF
    )
    assert os.path.exists(machine.state.path(str(pod.key[1]), f"{CONTAINER}-net1"))
    assert Manager(machine.node).detach(CONTAINER, "net1", pod.path)
    # The name on the host was never saved, so it gets the one that udev gives a VF.
    assert "eth1v1" in machine.netlink.space()
    assert settings_of(machine) == settings
    assert machine.state.list() == ["journal", "locks", "pci"]


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_the_seeds_dpdk_device_gets_its_kernel_driver_back(machine: Machine, suffix: str) -> None:
    pod = machine.namespace()
    machine.sim.tree.add_driver("igb_uio")
    attach_as_another_tool(
        machine, pod, kind=Kind.DPDK, settings=VFSettings(), seed_style=True,
        dpdk=DpdkRequest(driver="igb_uio"), saved_conf=SEED_CONF,
    )  # fmt: skip
    path = machine.state.path(str(pod.key[1]), f"{CONTAINER}-net1")
    os.rename(path, path + suffix)
    assert current_driver(machine.sim, VF) == "igb_uio"
    assert Manager(machine.node).detach(CONTAINER, "net1", pod.path)
    assert current_driver(machine.sim, VF) == "igbvf"
    assert not os.path.exists(path + suffix)


def test_the_bare_file_of_early_2018(machine: Machine) -> None:
    machine.sim.tree.add_driver("igb_uio")
    bind(machine.sim, VF, "igb_uio")
    dpdk = {"pci_addr": VF, "ifname": "net1", "kernel_driver": "igbvf", "dpdk_driver": "igb_uio"}
    machine.state.write_json({**dpdk, "dpdk_tool": "/x", "VFID": 1}, f"{CONTAINER}-net1")
    assert Manager(machine.node).detach(CONTAINER, "net1")
    assert current_driver(machine.sim, VF) == "igbvf"


def test_without_the_namespace_the_netdev_that_came_home_is_dressed(machine: Machine) -> None:
    pod = machine.namespace()
    attach_as_another_tool(machine, pod)
    machine.kill(pod)
    assert "eth1v1" not in machine.netlink.space()
    assert Manager(machine.node).detach(CONTAINER, "net1", None)
    assert "eth1v1" in machine.netlink.space()


def test_a_file_of_an_earlier_boot_goes_and_the_hardware_stays(machine: Machine) -> None:
    pod = machine.namespace()
    attach_as_another_tool(machine, pod)
    with open(f"{machine.node.proc}/stat", "w") as file:
        file.write("cpu 1 2\nbtime 2000000000\n")
    os.utime(machine.state.path(f"{CONTAINER}-net1"), (1.9e9, 1.9e9))
    before = machine.snapshot()
    assert Manager(machine.node).detach(CONTAINER, "net1", pod.path)
    assert machine.snapshot() == before
    assert not os.path.exists(machine.state.path(f"{CONTAINER}-net1"))


def test_a_vf_that_has_a_newer_owner_is_left_alone(machine: Machine) -> None:
    pod = machine.namespace()
    attach_as_another_tool(machine, pod)
    path = machine.state.path(f"{CONTAINER}-net1")
    data = machine.state.read_bytes(f"{CONTAINER}-net1") or b""
    machine.state.write_bytes(data, f"{OTHER}-net1")
    os.utime(path, (1.7e9, 1.7e9))
    before = machine.snapshot()
    assert Manager(machine.node).detach(CONTAINER, "net1", pod.path)
    assert machine.snapshot() == before
    assert not os.path.exists(path)
    assert machine.state.read_bytes(f"{OTHER}-net1") == data


def test_a_vf_that_our_journal_gives_to_another_is_left_alone(machine: Machine) -> None:
    pod, late = machine.namespace(), machine.namespace()
    attach_as_another_tool(machine, pod)
    stale = machine.state.read_bytes(f"{CONTAINER}-net1") or b""
    assert Manager(machine.node).detach(CONTAINER, "net1", pod.path)
    Manager(machine.node).attach(AttachRequest(OTHER, "net1", late.path, Kind.VF, device=VF))
    machine.state.write_bytes(stale, f"{CONTAINER}-net1")
    before = machine.snapshot()
    Manager(machine.node).detach(CONTAINER, "net1", pod.path)
    assert machine.snapshot() == before
    assert [r.owner.container_id for r in machine.node.journal.records()] == [OTHER]


def test_a_torn_file_is_logged_and_passed_over(machine: Machine) -> None:
    machine.state.write_bytes(b"{", f"{CONTAINER}-net1")
    assert not Manager(machine.node).detach(CONTAINER, "net1")
    assert "damaged" in machine.logged[0]


def test_another_interface_of_the_same_container_is_not_meant(machine: Machine) -> None:
    pod = machine.namespace()
    attach_as_another_tool(machine, pod)
    assert not Manager(machine.node).detach(CONTAINER, "net2", pod.path)
    assert not Manager(machine.node).detach(CONTAINER + "-x", "net1", pod.path)


def test_the_note_names_the_format(machine: Machine) -> None:
    pod = machine.namespace()
    attach_as_another_tool(machine, pod)
    (record,) = adopt.foreign_records(machine.node, CONTAINER, "net1", pod.path)
    assert record.note == {"foreign": "sriov-cni"}
    assert replace(record.owner.netns, path="").same_namespace(record.owner.netns)
    assert json.dumps(record.note)
