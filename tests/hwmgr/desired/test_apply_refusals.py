"""What a plan says before anything is touched: shared MACs, missing drivers, the host's own use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr import modules, rebind
from hwmgr.desired import applying, reverting
from hwmgr.desired.applypf import Manner
from hwmgr.devicefiles import device_files
from hwmgr.driver import current_driver
from hwmgr.errors import BindError, DeviceBusy, PlanRefused
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, DpdkRequest, Kind, PciAddress
from hwmgr.pci import device_path, list_vfs
from hwmgr.run import Completed
from tests.fakes.machine import Machine, build, replace_node
from tests.fakes.tree import Nic
from tests.hwmgr.desired.test_applying import (
    CONTAINER,
    FORCED,
    PF,
    PLAIN,
    attach,
    attributes,
    differences,
    drivers,
    wanted,
)

if TYPE_CHECKING:
    from pathlib import Path

    from hwmgr.node import Node
    from tests.fakes.runner import Call

OTHER = "0000:03:00.0"
MODPROBE = "/sbin/modprobe"


def two_cards(machine: Machine) -> Machine:
    machine.sim.add_nic(Nic(address=OTHER, ifname="eth3", vfs=2))
    return machine


def on_both(entry: dict[str, Any]) -> Any:
    return wanted(entry, {"match": {"name": "eth3"}, **entry})


def test_ports_of_a_bond_have_stable_macs_of_their_own(machine: Machine) -> None:
    """A bond gives its ports one MAC; what their VFs get is made from the cards' own."""
    desired = on_both({"vfs": [{"range": "0-1", "mac": "stable"}]})
    applying.apply(two_cards(machine).node, desired, PLAIN)
    with machine.node.netlink.links() as links:
        for name in ("eth1", "eth3"):
            port = links.find(name)
            assert port is not None
            links.set_mac(port.index, "02:00:00:00:00:b0")
    assert applying.make_plan(machine.node, desired, PLAIN).changes == ()
    macs = [s.mac for pf in (PF, OTHER) for s in machine.sim.vf_side.get(pf).values()]
    assert len(set(macs[:2] + macs[7:])) == 4


def test_one_mac_for_two_pfs(machine: Machine) -> None:
    desired = on_both({"vfs": [{"range": "0", "mac": ["02:00:00:00:00:01"]}]})
    with pytest.raises(PlanRefused, match="is wanted for eth1 VF 0 and for eth3 VF 0"):
        applying.apply(two_cards(machine).node, desired, PLAIN)


def test_a_mac_that_another_function_has(machine: Machine) -> None:
    """As long as that one stays: two VFs may change theirs, and one that goes has none."""
    one, two = (machine.netlink.space()[f"eth1v{i}"].mac for i in (0, 1))
    for mac, owner in ((two, "eth1 VF 1"), (machine.netlink.space()["eth1"].mac, "eth1")):
        with pytest.raises(PlanRefused, match=f"MAC {mac}, wanted for eth1 VF 0, is {owner}'s"):
            applying.apply(machine.node, wanted({"vfs": [{"range": "0", "mac": [mac]}]}), PLAIN)
    applying.apply(machine.node, wanted({"vfs": [{"range": "0-1", "mac": [two, one]}]}), PLAIN)
    mac = machine.netlink.space()["eth1v3"].mac
    desired = wanted({"numVfs": 2, "vfs": [{"range": "0", "mac": [mac]}]})
    assert applying.make_plan(machine.node, desired, PLAIN).problems == ()


def test_a_mac_that_a_pod_has_been_given(machine: Machine) -> None:
    from hwmgr.model import VFSettings

    attach(machine, 1, settings=VFSettings(mac="02:00:00:00:00:42"))
    desired = wanted({"vfs": [{"range": "0", "mac": ["02:00:00:00:00:42"]}]})
    with pytest.raises(PlanRefused, match="is eth1 VF 1's"):
        applying.apply(machine.node, desired, PLAIN)


def test_vfio_without_an_iommu(in_memory: Path) -> None:
    machine = build(f"{in_memory}/plain", Nic(iommu=False))
    group = {"range": "0", "driver": "vfio-pci"}
    staying, anew = wanted({"vfs": [group]}), wanted({"numVfs": 3, "vfs": [group]})
    for desired in (staying, anew):
        with pytest.raises(PlanRefused, match=r"intel_iommu=on .*modprobe vfio enable_unsafe"):
            applying.apply(machine.node, desired, PLAIN)
    parameter = "module/vfio/parameters/enable_unsafe_noiommu_mode"
    machine.sim.tree.put(parameter, "N")
    with pytest.raises(BindError, match=f"echo 1 > /sys/{parameter}"):
        rebind.bind(machine.node, machine.nics[0].vf(0), "vfio-pci")
    assert drivers(machine.node) == ["igbvf"] * 7
    machine.sim.tree.put(parameter, "Y")
    assert applying.make_plan(machine.node, anew, PLAIN).problems == ()


def test_a_vf_has_no_larger_mtu_than_its_pf(machine: Machine) -> None:
    group = {"range": "0", "mtu": 9000}
    with pytest.raises(PlanRefused, match=r"VF 0 cannot have an MTU above that of the PF \(1500\)"):
        applying.apply(machine.node, wanted({"vfs": [group]}), PLAIN)
    applying.apply(machine.node, wanted({"mtu": 9000, "vfs": [group]}), PLAIN)
    assert machine.netlink.space()["eth1v0"].mtu == 9000


def held_open(machine: Machine, index: int) -> None:
    """Have a process with a VF's device file open."""
    (path,) = (
        f
        for f in device_files(machine.sim, machine.nics[0].vf(index), machine.node.dev)
        if not f.endswith("/vfio/vfio")
    )
    os.makedirs(f"{machine.node.proc}/77/fd")
    os.symlink(path, f"{machine.node.proc}/77/fd/3")
    with open(f"{machine.node.proc}/77/comm", "w") as file:
        file.write("qemu\n")


@pytest.mark.parametrize("recorded", [False, True], ids=["somebody's", "a pod's"])
def test_force_does_not_hang_on_an_open_device(machine: Machine, recorded: bool) -> None:
    """The driver would not let go before that process ends: nothing is tried, nobody loses any."""
    applying.apply(machine.node, wanted({"vfs": [{"range": "0", "driver": "vfio-pci"}]}), PLAIN)
    attach(machine, 2)
    if recorded:
        attach(machine, 0, Kind.DPDK, "net2", dpdk=DpdkRequest("vfio-pci"))
    held_open(machine, 0)
    before = machine.snapshot()
    said = r"process 77 \(qemu\) has .* open.*; end it first"
    with pytest.raises(PlanRefused, match=said):
        applying.apply(machine.node, wanted({"numVfs": 2}), FORCED)
    with pytest.raises(PlanRefused, match=said):
        reverting.revert(machine.node, FORCED)
    assert differences(before, machine.snapshot()) == {}
    assert len(machine.node.journal.addresses()) == 1 + recorded


def lend_the_pf(machine: Machine) -> None:
    request = AttachRequest(
        container_id=CONTAINER,
        ifname="net1",
        netns_path=machine.namespace().path,
        kind=Kind.PF,
        pf_name="eth1",
    )
    Manager(machine.node).attach(request)


def test_a_pf_that_a_pod_has_is_as_it_will_be(machine: Machine) -> None:
    """The file still names it, and what it says of other PFs is done."""
    entry = {"numVfs": 0, "mtu": 1500}
    desired = wanted(entry, {"match": {"name": "eth3"}, "numVfs": 1})
    applying.apply(machine.node, wanted(entry), PLAIN)
    lend_the_pf(two_cards(machine))
    assert attributes(applying.apply(machine.node, desired, PLAIN)) == [(None, "numVfs")]
    with pytest.raises(PlanRefused, match="eth1: it is held as a whole by container feedbeef"):
        applying.apply(machine.node, wanted({"numVfs": 2}), FORCED)


def test_a_pf_that_a_pod_has_is_not_reverted(machine: Machine) -> None:
    applying.apply(machine.node, wanted({"numVfs": 0}), PLAIN)
    lend_the_pf(machine)
    for manner in (PLAIN, FORCED):
        with pytest.raises(PlanRefused, match="eth1: it is held as a whole by"):
            reverting.revert(machine.node, manner)
    assert list_vfs(machine.sim, PF) == []
    Manager(machine.node).detach_container(CONTAINER)
    reverting.revert(machine.node, PLAIN)
    assert drivers(machine.node) == ["igbvf"] * 7


def used_by_the_host(machine: Machine, how: str) -> str:
    """Have the host use eth1; return what the plan is to say of it."""
    tree, net = machine.sim.tree, f"{machine.node.proc}/net"
    os.makedirs(net)
    routes = ["Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT"]
    if how == "address":
        machine.netlink.edit("eth1", addresses=("192.0.2.7/24",))
        return "it has the address 192.0.2.7/24"
    if how == "bond":
        tree.link("class/net/eth1/master", "class/net/bond0")
        tree.put("class/net/eth1/upper_bond0", "")
        tree.put("class/net/bond0/upper_bond0.7", "")
        routes.append("bond0.7 00000000 010200C0 0003 0 0 100 00000000 0 0 0")
        said = "it is a port of bond0; bond0.7 is on top of it; the node's default route leads"
        said += " through bond0.7"
    elif how == "route":
        routes.append("eth1 00000000 010200C0 0003 0 0 100 00000000 0 0 0")
        said = "the node's default route leads through eth1"
    else:
        zeros = "0" * 32
        gateway = "fe80000000000000" + "0" * 15 + "1"
        lines = [
            f"{zeros} 00 {zeros} 00 {gateway} 00000400 1 0 {flags} {name}\n"
            for flags, name in (("00000003", "eth1"), ("00200200", "lo"))
        ]
        with open(f"{net}/ipv6_route", "w") as file:
            file.writelines(lines)
        said = "the node's default route leads through eth1"
    with open(f"{net}/route", "w") as file:
        file.write("\n".join(routes) + "\n")
    return said


@pytest.mark.parametrize("how", ["address", "bond", "route", "IPv6 route"])
def test_the_node_is_not_cut_off_unasked(machine: Machine, how: str) -> None:
    said = used_by_the_host(machine, how)
    plan = applying.make_plan(machine.node, wanted({"mtu": 9000, "numVfs": 2}), PLAIN)
    assert [w.partition(": ")[0] for w in plan.warnings] == ["pfs[0].mtu", "pfs[0].numVfs"]
    assert all(f"the host uses eth1: {said}; its link may go down" in w for w in plan.warnings)
    assert (plan.cuts, plan.problems) == ((), ())
    plan = applying.make_plan(machine.node, wanted({"vfs": [{"range": "0", "vlan": 2}]}), PLAIN)
    assert plan.warnings == ()
    with pytest.raises(PlanRefused, match=r"it would lose it; --force does it all the same"):
        applying.apply(machine.node, wanted({"up": False}), PLAIN)
    assert machine.netlink.space()["eth1"].up is True
    applying.apply(machine.node, wanted({"up": False}), FORCED)
    assert machine.netlink.space()["eth1"].up is False


def test_a_pf_that_nobody_uses_may_go_down(machine: Machine) -> None:
    applying.apply(machine.node, wanted({"up": False}), PLAIN)
    assert machine.netlink.space()["eth1"].up is False


def with_modprobe(
    machine: Machine, *there: str, fails: bytes = b"", blacklisted: bool = False
) -> Node:
    """Take the userspace drivers away, and have a modprobe that brings those of these modules."""
    for name in ("vfio-pci", "igb_uio", "uio_pci_generic"):
        machine.sim.tree.remove(f"bus/pci/drivers/{name}")

    def modprobe(call: Call) -> Completed:
        name = call.argv[-1]
        assert call.argv[1] == "--use-blacklist"
        if name not in there or (fails and "--dry-run" not in call.argv):
            return Completed(1, b"", fails or b"FATAL: Module not found")
        if "--dry-run" not in call.argv and not blacklisted:
            machine.sim.tree.add_driver(name)
        return Completed(0, b"", b"")

    machine.runner.programs[MODPROBE] = modprobe
    return replace_node(machine.node, modprobes=("/usr/sbin/modprobe", MODPROBE))


def test_a_userspace_drivers_module_is_loaded(machine: Machine) -> None:
    node = with_modprobe(machine, "vfio-pci", "igb_uio")
    groups = [{"range": "0", "driver": "vfio-pci"}, {"range": "1", "driver": "igb_uio"}]
    desired = wanted({"numVfs": 3, "vfs": groups})
    plan = applying.make_plan(node, desired, PLAIN)
    assert [(c.attribute, c.then) for c in plan.changes[:2]] == [
        ("module", "igb_uio"),
        ("module", "vfio-pci"),
    ]
    assert not modules.is_loaded(node, "vfio-pci")
    applying.apply(node, desired, PLAIN)
    assert drivers(node) == ["vfio-pci", "igb_uio", "igbvf"]
    calls = len(machine.runner.calls)
    assert applying.apply(node, desired, PLAIN) == []
    assert len(machine.runner.calls) == calls
    reverting.revert(node, PLAIN)
    assert drivers(node) == ["igbvf"] * 7


def test_only_vfs_loads_it_too(machine: Machine) -> None:
    node = with_modprobe(machine, "vfio-pci")
    desired = wanted({"externallyManaged": True, "vfs": [{"range": "0", "driver": "vfio-pci"}]})
    applying.apply(node, desired, Manner(only_vfs=True))
    assert drivers(node)[0] == "vfio-pci"


def test_a_module_that_is_not_installed(machine: Machine) -> None:
    node = with_modprobe(machine)
    desired = wanted({"numVfs": 3, "vfs": [{"range": "0", "driver": "igb_uio"}]})
    with pytest.raises(PlanRefused, match="the driver igb_uio is not loaded; load its module"):
        applying.apply(node, desired, PLAIN)
    with pytest.raises(BindError, match="has not loaded the driver; FATAL: Module not found"):
        rebind.bind(node, machine.nics[0].vf(0), "igb_uio")
    assert len(list_vfs(machine.sim, PF)) == 7


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"fails": b"Key was rejected"}, "Key was"),
        ({"blacklisted": True}, "blacklisted"),
    ],
)
def test_a_module_that_does_not_load(machine: Machine, how: dict[str, Any], said: str) -> None:
    """Nothing else has been touched by then."""
    node = with_modprobe(machine, "vfio-pci", **how)
    before = machine.snapshot()
    desired = wanted({"numVfs": 3, "vfs": [{"range": "0", "driver": "vfio-pci"}]})
    with pytest.raises(BindError, match=f"modprobe vfio-pci has not loaded the driver; .*{said}"):
        applying.apply(node, desired, PLAIN)
    assert differences(before, machine.snapshot()) == {}


def test_no_module_of_this_kernel_for_a_tree_of_another(machine: Machine) -> None:
    node = replace_node(with_modprobe(machine, "vfio-pci"), modprobes=())
    with pytest.raises(PlanRefused, match="is not loaded"):
        applying.apply(node, wanted({"vfs": [{"range": "0", "driver": "vfio-pci"}]}), PLAIN)
    assert machine.runner.calls == []


def test_a_pod_has_vfio_loaded_and_no_uio_driver(machine: Machine) -> None:
    """Whoever may create a Network object does not load a driver that opens all memory."""
    node = with_modprobe(machine, "vfio-pci", "igb_uio")
    machine.node = node
    attach(machine, 0, Kind.DPDK, "net1", dpdk=DpdkRequest("vfio-pci"))
    assert current_driver(node.sysfs, machine.nics[0].vf(0)) == "vfio-pci"
    with pytest.raises(BindError, match="'igb_uio' is not loaded"):
        attach(machine, 1, Kind.DPDK, "net2", dpdk=DpdkRequest("igb_uio"))
    assert {c.argv[-1] for c in machine.runner.calls} == {"vfio-pci"}
    rebind.bind(node, machine.nics[0].vf(1), "igb_uio")
    assert current_driver(node.sysfs, machine.nics[0].vf(1)) == "igb_uio"


def test_an_entry_for_a_leaked_vf_says_what_frees_it(machine: Machine) -> None:
    machine.kill(attach(machine, 1))
    with pytest.raises(DeviceBusy, match=r"whose namespace is gone.*hwmgr repair"):
        applying.apply(machine.node, wanted({"numVfs": 3}), PLAIN)
    assert machine.sim.exists(device_path(PciAddress(machine.nics[0].vf(6))))
