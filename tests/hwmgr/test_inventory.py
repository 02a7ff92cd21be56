"""The inventory on a machine of fakes: what each thing that happens to a VF makes of its state."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwmgr import claims
from hwmgr.devlink import NoDevlink
from hwmgr.driver import bind, unbind
from hwmgr.errors import NetlinkError
from hwmgr.inuse import OpenFiles, routed_netdevs
from hwmgr.inventory import inventory, look_at
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, DpdkRequest, Kind, PciAddress, VFSettings, VFState
from hwmgr.pci import find_vf
from hwmgr.pfinventory import pf_inventory
from tests.fakes.devlink import FakeDevlink
from tests.fakes.machine import Machine, build, replace_node
from tests.fakes.tree import Nic, Shown

if TYPE_CHECKING:
    from hwmgr.inventory import VFInfo
    from tests.fakes.namespaces import Namespace

CONTAINER = "feedbeef" * 8
PF = "0000:01:00.0"
VF = PciAddress("0000:01:10.2")


def look(machine: Machine) -> VFInfo:
    return look_at(machine.node, find_vf(machine.sim, VF))


def attach(machine: Machine, kind: Kind = Kind.VF) -> Namespace:
    pod = machine.namespace()
    dpdk = DpdkRequest(driver="vfio-pci") if kind is Kind.DPDK else None
    request = AttachRequest(CONTAINER, "net1", pod.path, kind, device=VF, dpdk=dpdk)
    Manager(machine.node).attach(request)
    return pod


def expect(machine: Machine, state: VFState, reason: str) -> None:
    info = look(machine)
    assert (info.state, reason in info.reason) == (state, True), info.reason


def test_all_vfs_are_listed_in_order(tmp_path: Path) -> None:
    machine = build(str(tmp_path), Nic(vfs=3), Nic(address="0000:02:00.0", ifname="eth2", vfs=2))
    found = inventory(machine.node)
    assert [(i.pf_ifname, i.vf.index) for i in found] == [
        ("eth1", 0), ("eth1", 1), ("eth1", 2), ("eth2", 0), ("eth2", 1),
    ]  # fmt: skip
    assert {i.state for i in found} == {VFState.FREE}
    assert all(i.settings is not None for i in found)


@pytest.mark.parametrize("kind", [Kind.VF, Kind.DPDK])
def test_allocated_then_leaked_then_free(machine: Machine, kind: Kind) -> None:
    pod = attach(machine, kind)
    expect(machine, VFState.ALLOCATED, "held by container feedbeeffeedb as net1")
    machine.kill(pod)
    expect(machine, VFState.LEAKED, "namespace is gone")
    Manager(machine.node).detach(CONTAINER, "net1")
    assert look(machine).state is VFState.FREE


def test_after_a_reboot_it_is_leaked(machine: Machine) -> None:
    attach(machine)
    node = machine.rebooted()
    assert look_at(node, find_vf(machine.sim, VF)).state is VFState.LEAKED


def test_a_damaged_record(machine: Machine) -> None:
    machine.state.write_bytes(b"{", "journal", f"{VF}.json")
    expect(machine, VFState.BROKEN, "damaged")


def test_a_record_of_a_vf_that_is_gone_has_a_line(machine: Machine) -> None:
    attach(machine)
    machine.sim.write(f"bus/pci/devices/{PF}/sriov_numvfs", "0")
    (info,) = inventory(machine.node)
    assert (info.vf.address, info.state) == (VF, VFState.BROKEN)
    assert "no such device" in info.reason


def test_a_live_claim_without_record(machine: Machine) -> None:
    pod = machine.namespace()
    claims.write(machine.state, VF, pod.path)
    expect(machine, VFState.FOREIGN, pod.path)
    machine.kill(pod)
    assert look(machine).state is VFState.FREE


def test_a_netdev_that_somebody_moved_away(machine: Machine) -> None:
    attach(machine)
    machine.node.journal.remove(VF)
    claims.release(machine.state, VF, claims.claimed_by(machine.state, VF) or "")
    expect(machine, VFState.FOREIGN, "another namespace")


def test_a_process_with_the_device_file_open(machine: Machine) -> None:
    bind(machine.sim, VF, "vfio-pci")
    expect(machine, VFState.DIRTY, "driver vfio-pci")
    group = machine.sim.link_name(f"bus/pci/devices/{VF}/iommu_group")
    os.makedirs(f"{machine.node.proc}/77/fd")
    os.symlink(f"{machine.node.dev}/vfio/{group}", f"{machine.node.proc}/77/fd/4")
    Path(machine.node.proc, "77", "comm").write_text("testpmd\n")
    expect(machine, VFState.FOREIGN, "process 77 (testpmd)")


def test_no_driver(machine: Machine) -> None:
    unbind(machine.sim, VF)
    expect(machine, VFState.BROKEN, "no driver")


def test_settings_that_were_left(machine: Machine) -> None:
    machine.sim.vf_side.change(PF, 1, VFSettings(vlan=5, qos=0))
    expect(machine, VFState.DIRTY, "VLAN 5")


def test_an_address_on_the_host(machine: Machine) -> None:
    machine.netlink.edit("eth1v1", addresses=("10.0.0.1/24",))
    expect(machine, VFState.FOREIGN, "an address")


def test_a_bridge_port(machine: Machine) -> None:
    os.symlink("../br0", f"{machine.sim.root}/class/net/eth1v1/master")
    expect(machine, VFState.FOREIGN, "port of br0")


def test_a_pf_given_away_has_no_free_vf(machine: Machine) -> None:
    pod = machine.namespace()
    Manager(machine.node).attach(
        AttachRequest(CONTAINER, "net1", pod.path, Kind.PF, pf_name="eth1")
    )
    assert {i.state for i in inventory(machine.node)} == {VFState.ALLOCATED}
    (pf,) = pf_inventory(machine.node)
    assert (pf.free_vfs, pf.pf.ifname, pf.mtu) == (0, None, None)


def test_pfs(machine: Machine) -> None:
    attach(machine)
    (pf,) = pf_inventory(machine.node)
    assert (pf.free_vfs, pf.pf.num_vfs, pf.mtu, pf.eswitch_mode) == (6, 7, 1500, "legacy")


class Refusing(NoDevlink):
    def eswitch_mode(self, address: str, bus: str = "pci") -> str | None:
        raise NetlinkError("ask devlink", 1)


def test_devlink_knows_the_switch_and_sysfs_where_it_does_not_tell(machine: Machine) -> None:
    devlink = FakeDevlink(machine.sim, PF)
    devlink.modes[PF] = "switchdev"
    (pf,) = pf_inventory(replace_node(machine.node, devlink=devlink))
    assert (pf.eswitch_mode, pf.mode_told_by) == ("switchdev", "devlink")
    (pf,) = pf_inventory(replace_node(machine.node, devlink=Refusing()))
    assert (pf.eswitch_mode, pf.mode_told_by) == ("legacy", "sysfs")


def test_a_switch_id_alone_is_no_switchdev_mode(tmp_path: Path) -> None:
    """Ice and mlx5 show one in legacy mode too; representors are what tells."""
    machine = build(str(tmp_path), Nic(vfs=1, switch_id="aa00"))

    def told() -> list[tuple[str | None, str | None]]:
        return [(info.eswitch_mode, info.mode_told_by) for info in pf_inventory(machine.node)]

    assert told() == [("legacy", "sysfs")]
    shown = Shown(60, "eth1r0", "02:00:00:00:01:00", switch_id="aa00", port_name="pf0vf0")
    machine.sim.tree.show_netdev(PF, shown)
    assert told() == [("switchdev", "sysfs")]
    machine.sim.tree.hide_netdev(PF, "eth1r0")
    machine.sim.write(f"bus/pci/devices/{PF}/sriov_numvfs", "0")
    assert told() == [(None, "sysfs")]
    machine.close()


def test_one_question_to_the_kernel_for_all_vfs_of_a_pf(tmp_path: Path) -> None:
    machine = build(str(tmp_path), Nic(vfs=7))
    asked: list[str] = []
    fault = machine.netlink.fault

    def listen(verb: str) -> int:
        asked.append(verb)
        return fault(verb)

    machine.netlink.fault = listen  # type: ignore[method-assign]
    assert len(inventory(machine.node)) == 7
    assert sorted(asked) == ["addresses", "list", "vf_settings"]


def test_a_kernel_that_refuses_leaves_the_settings_unknown(machine: Machine) -> None:
    machine.netlink.fail("vf_settings", 1, times=9)
    info = look(machine)
    assert (info.settings, info.state) == (None, VFState.FREE)


def test_nothing_is_written(machine: Machine) -> None:
    before = machine.snapshot()
    inventory(machine.node)
    assert machine.snapshot() == before
    assert not os.path.exists(machine.state.root)


def test_routes_of_the_main_table(tmp_path: Path) -> None:
    net = tmp_path / "net"
    net.mkdir()
    (net / "route").write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
        "eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\n"
        "eth9\t00000000\t0202000A\t0000\t0\t0\t0\t00000000\n"
    )
    zero = "0" * 32
    (net / "ipv6_route").write_text(
        f"fe80{'0' * 28} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 eth1\n"
        f"fd00{'0' * 28} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 eth2\n"
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n"
    )
    assert routed_netdevs(str(tmp_path)) == {"eth0", "eth2"}
    assert routed_netdevs(str(tmp_path / "none")) == frozenset()


def test_routes_of_netdevs_whose_names_are_any_bytes(tmp_path: Path) -> None:
    names = ["vé0", os.fsdecode(b"\xff0"), "a\x1cb", "u\u2028v"]
    (tmp_path / "net").mkdir()
    row = b"%s\t0009000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    rows = b"".join(row % os.fsencode(name) for name in names)
    (tmp_path / "net/route").write_bytes(rows)
    assert routed_netdevs(str(tmp_path)) == set(names)


def test_no_process_is_looked_at_without_a_file_to_look_for() -> None:
    assert OpenFiles("/nonexistent").holder() is None
