"""Repair on a machine of fakes: every cure does what it says, also when it is killed half-way."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwmgr import claims, driver
from hwmgr.doctor import examination as doctor
from hwmgr.doctor import repair
from hwmgr.doctor.findings import Cure
from hwmgr.errors import NetlinkError, StateError, UndoIncomplete
from hwmgr.locate import mark
from hwmgr.locks import Locks
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, DpdkRequest, Kind, Netdev, PciAddress, VFSettings
from hwmgr.store import StateDir
from tests.fakes.kernel_sim import KernelSim
from tests.fakes.machine import build, replace_node
from tests.fakes.mortal import Killed, Life, mortal
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from hwmgr.links import Links
    from hwmgr.node import Node
    from hwmgr.sysfs import Folder
    from tests.fakes.machine import Machine
    from tests.fakes.namespaces import Namespace

PF = "0000:01:00.0"
HEALTHY = PciAddress("0000:01:10.0")
VF = PciAddress("0000:01:10.4")
CONTAINER = "feedbeef" * 8
OTHER = "c0ffee00" * 8


class Bench:
    """A machine with one healthy attachment, whose every attribute is looked at."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        Path(machine.node.proc, "self/ns").symlink_to("/proc/self/ns")
        self.healthy = self.attach(HEALTHY, OTHER)

    def attach(self, address: str, container: str = CONTAINER, **change: object) -> Namespace:
        pod = self.machine.namespace()
        request = AttachRequest(container, "net1", pod.path, Kind.VF, device=PciAddress(address))
        Manager(self.machine.node).attach(replace(request, **change))  # type: ignore[arg-type]
        return pod

    def hold(self, pod: Namespace) -> None:
        """Have a process keep a namespace, and take its name away."""
        folder = Path(self.machine.node.proc, "77", "ns")
        folder.mkdir(parents=True)
        fd = os.dup(pod.fd)
        (folder / "net").symlink_to(f"/proc/{os.getpid()}/fd/{fd}")
        Path(self.machine.node.proc, "77", "comm").write_text("sleep\n")
        pod.close()

    def untouched(self) -> object:
        node = self.machine.node
        record = node.journal.read(HEALTHY)
        claim = claims.claimed_by(node.state, HEALTHY)
        netdevs = self.machine.netlink.space(self.healthy.key)
        return record, claim, netdevs, self.machine.sim.vf_side.get(PF)[0]

    def write(self, data: object, *names: str) -> None:
        self.machine.state.write_bytes(json.dumps(data).encode(), *names)


@pytest.fixture
def bench(in_memory: Path) -> Iterator[Bench]:
    with closing(build(str(in_memory), Nic())) as machine:
        yield Bench(machine)


def leaked(bench: Bench) -> None:
    bench.machine.kill(bench.attach(VF, settings=VFSettings(vlan=7)))


def nameless(bench: Bench) -> None:
    bench.hold(bench.attach(VF))


def nameless_without_record(bench: Bench) -> None:
    pod = bench.attach(VF)
    node = bench.machine.node
    for path in node.journal.read(VF).saved_files:  # type: ignore[union-attr]
        os.unlink(path)
    node.journal.remove(VF)
    node.state.remove("pci", VF)
    bench.hold(pod)


def alias_left(bench: Bench) -> None:
    nameless_without_record(bench)
    (key,) = bench.machine.netlink._spaces.keys() - {
        bench.machine.netlink.host,
        bench.healthy.key,
    }
    os.unlink(f"{bench.machine.node.proc}/77/ns/net")
    bench.machine.netlink.namespace_died(key)


def torn_record(bench: Bench) -> None:
    bench.attach(VF, settings=VFSettings(vlan=7))
    bench.machine.state.write_bytes(b"{", "journal", f"{VF}.json")
    bench.machine.kill(bench.machine._namespaces[-1])


def two_records(bench: Bench) -> None:
    data = bench.machine.state.read_bytes("journal", f"{HEALTHY}.json")
    bench.machine.state.write_bytes(data or b"", "journal", f"{VF}.json")


def claim_lost(bench: Bench) -> None:
    bench.attach(VF)
    bench.machine.state.remove("pci", VF)


def claim_stale(bench: Bench) -> None:
    bench.machine.state.write_bytes(b"/run/netns/gone", "pci", VF)


def claim_torn(bench: Bench) -> None:
    os.makedirs(f"{bench.machine.state.root}/pci/{VF}")


def pf_renamed(bench: Bench) -> None:
    bench.attach(VF)
    node = bench.machine.node
    record = node.journal.read(VF)
    assert record is not None
    node.journal.write(replace(record, pf_ifname="old0"))


def temporary_left(bench: Bench) -> None:
    left = Path(bench.machine.state.root, "pci", ".x.4000000.17")
    left.write_text("")
    os.utime(left, (0, 0))


def orphaned_state_file(bench: Bench) -> None:
    saved = {"HostIFName": "eth1v2", "AdminMAC": "", "EffectiveMAC": ""}
    bench.write({"deviceID": VF, "Master": "eth1", "OrigVfState": saved}, "abc-net1")


def unreadable_state_file(bench: Bench) -> None:
    bench.machine.state.write_bytes(b"{", "abc-net1")


def unbound(bench: Bench) -> None:
    driver.unbind(bench.machine.sim, VF)


def left_on_vfio(bench: Bench) -> None:
    driver.bind(bench.machine.sim, VF, "vfio-pci")


def override_left(bench: Bench) -> None:
    driver.write_override(bench.machine.sim, VF, "vfio-pci")


def settings_left(bench: Bench) -> None:
    for change in (VFSettings(vlan=5, qos=1), VFSettings(trust=True), VFSettings(spoofchk=False)):
        bench.machine.sim.vf_side.change(PF, 2, change)


def renamed(bench: Bench) -> None:
    bench.machine.netlink.edit("eth1v2", name="dev7")


def left_up(bench: Bench) -> None:
    bench.machine.netlink.edit("eth1v2", up=True)


def admin_mac_left(bench: Bench) -> None:
    bench.machine.sim.vf_side.change(PF, 2, VFSettings(mac="02:00:00:00:00:99"))


def duplicate_mac(bench: Bench) -> None:
    mac = bench.machine.netlink.space()["eth1v1"].mac
    bench.machine.netlink.edit("eth1v2", mac=mac)
    bench.machine.sim.vf_side.own_mac(PF, 2, mac)


def pf_down(bench: Bench) -> None:
    bench.machine.netlink.edit("eth1", up=False)


DAMAGES = {
    leaked: "vf-leaked",
    nameless: "netns-nameless",
    nameless_without_record: "vf-lost-nameless",
    alias_left: "alias-left",
    torn_record: "record-torn",
    two_records: "record-two",
    claim_lost: "claim-missing",
    claim_stale: "claim-stale",
    claim_torn: "claim-torn",
    pf_renamed: "pf-renamed",
    temporary_left: "temp-file",
    orphaned_state_file: "companion-orphaned",
    unreadable_state_file: "state-unreadable",
    unbound: "vf-unbound",
    left_on_vfio: "vf-driver-left",
    override_left: "override-left",
    settings_left: "vf-settings",
    renamed: "vf-name",
    left_up: "vf-up",
    admin_mac_left: "mac-left",
    duplicate_mac: "mac-duplicate",
    pf_down: "pf-down",
}
every_damage = pytest.mark.parametrize(
    ("damage", "id_"), DAMAGES.items(), ids=[d.__name__ for d in DAMAGES]
)


@every_damage
def test_named_cured_and_seen_to_be(
    bench: Bench, damage: Callable[[Bench], None], id_: str
) -> None:
    node = bench.machine.node
    assert doctor.examine(node) == []
    untouched = bench.untouched()
    damage(bench)
    looked_at = bench.machine.snapshot()
    assert id_ in {f.id for f in doctor.examine(node)}
    assert bench.machine.snapshot() == looked_at, "doctor only looks"
    outcomes = repair.carry_out(node, repair.plan(node))
    assert [o.problems for o in outcomes if o.problems] == []
    assert doctor.examine(node) == []
    assert bench.untouched() == untouched


@every_damage
def test_killed_anywhere_the_next_repair_goes_on(
    in_memory: Path, damage: Callable[[Bench], None], id_: str
) -> None:
    number = 0
    while True:
        number += 1
        base = in_memory / str(number)
        base.mkdir()
        with closing(build(str(base), Nic(vfs=5))) as machine:
            bench = Bench(machine)
            untouched = bench.untouched()
            damage(bench)
            life = Life(number)
            dying = mortal(machine.node, life)
            try:
                repair.carry_out(dying, repair.plan(dying))
            except Killed:
                pass
            else:
                assert number > 1
                break
            node = machine.node
            outcomes = repair.carry_out(node, repair.plan(node))
            assert [o.problems for o in outcomes if o.problems] == [], life.names[-1]
            assert doctor.examine(node) == [], life.names[-1]
            assert bench.untouched() == untouched


@pytest.mark.parametrize("state_file", [True, False])
def test_a_record_of_a_living_pod_is_written_anew(bench: Bench, state_file: bool) -> None:
    """From the state file all is known again; without it the alias tells owner and name."""
    node = bench.machine.node
    pod = bench.attach(VF, settings=VFSettings(vlan=7), saved_conf={"vlan": 7})
    if not state_file:
        os.unlink(f"{node.state.root}/{CONTAINER}-net1")
    mounted = Path(node.proc, "self/mountinfo")
    mounted.write_text(f"1 1 0:4 net:[{pod.key[1]}] {pod.path} rw - nsfs nsfs rw\n")
    record = node.journal.read(VF)
    assert record is not None
    node.journal.remove(VF)
    (found,) = doctor.examine(node)
    assert (found.id, found.value) == ("record-missing", pod.path)
    assert repair.carry_out(node, repair.plan(node))[0].problems == ()
    again = node.journal.read(VF)
    assert again is not None
    assert again.owner.container_id == record.owner.container_id
    assert again.owner.netns.same_namespace(record.owner.netns)
    assert again.before.netdevs[0].name == "eth1v2"
    assert again.saved_files == (record.saved_files if state_file else ())
    assert again.before.settings is not None
    assert again.before.settings.vlan == 0
    Manager(node).detach(CONTAINER, "net1", pod.path)
    assert doctor.examine(node) == []
    assert bench.machine.sim.vf_side.get(PF)[2].vlan == 0


@pytest.mark.parametrize(
    "alias",
    [
        f"hwmgr:{VF};name=../../x;owner={CONTAINER}",
        f"hwmgr:{VF};name=eth1v2;owner=../../../etc/passwd",
        f"hwmgr:{VF};name=;owner=",
        f"hwmgr:{VF};",
    ],
)
def test_an_alias_made_up_in_a_pod_becomes_no_path_and_no_name(bench: Bench, alias: str) -> None:
    nameless_without_record(bench)
    netlink = bench.machine.netlink
    (key,) = netlink._spaces.keys() - {netlink.host, bench.healthy.key}
    netlink.edit("net1", key, alias=alias)
    node = bench.machine.node
    (outcome,) = repair.carry_out(node, repair.plan(node))
    assert "alias does not tell" in outcome.problems[0]
    assert node.journal.addresses() == [HEALTHY]


def test_an_alias_on_a_pods_own_netdev_is_no_mark(bench: Bench) -> None:
    """This kernel names the parents of netdevs, and a veth has none."""
    pod = bench.attach(VF)
    bench.machine.node.journal.remove(VF)
    mounted = Path(bench.machine.node.proc, "self/mountinfo")
    mounted.write_text(f"1 1 0:4 net:[{pod.key[1]}] {pod.path} rw - nsfs nsfs rw\n")
    netlink = bench.machine.netlink
    netlink.edit("net1", pod.key, alias=None)
    alias = f"hwmgr:{VF};name=eth1v2;owner={OTHER}"
    netlink.add(Netdev(0, "veth0", "02:00:00:00:00:07", 1500, True, alias=alias), pod.key)
    node = bench.machine.node
    (found,) = [f for f in doctor.examine(node) if f.subject == VF]
    assert (found.id, found.cure) == ("vf-foreign", None)


def test_an_alias_that_names_another_function_is_no_mark(bench: Bench) -> None:
    bench.machine.netlink.edit("eth1v2", alias=f"hwmgr:{HEALTHY};name=eth1v0;owner=x")
    assert doctor.examine(bench.machine.node) == []


def test_a_function_that_a_call_is_working_on_is_left_out(bench: Bench) -> None:
    leaked(bench)
    node = bench.machine.node
    with node.locks.function(VF):
        assert doctor.examine(node) == []
        assert repair.plan(node) == []
    assert len(repair.plan(node)) == 1


def test_what_changed_between_plan_and_act_is_left_alone(bench: Bench) -> None:
    leaked(bench)
    node = bench.machine.node
    steps = repair.plan(node)
    assert Manager(node).collect([OTHER]) == []
    before = bench.machine.snapshot()
    assert repair.act(node, steps[0]) == []
    assert bench.machine.snapshot() == before
    bench.attach(VF)
    assert repair.act(node, steps[0]) == []
    assert node.journal.has(VF)


def test_only_the_functions_that_are_named(bench: Bench) -> None:
    leaked(bench)
    renamed_name = "eth1v4"
    bench.machine.netlink.edit(renamed_name, name="dev9")
    node = bench.machine.node
    assert [s.finding.subject for s in repair.plan(node, {VF})] == [VF]
    repair.carry_out(node, repair.plan(node, {VF}), {VF})
    assert [f.id for f in doctor.examine(node)] == ["vf-name"]


def test_a_cure_that_does_not_work_says_so(bench: Bench) -> None:
    settings_left(bench)
    bench.machine.sim.vf_side.refuse(PF, "trust", errno.EPERM)
    node = bench.machine.node
    (outcome,) = repair.carry_out(node, repair.plan(node))
    assert outcome.problems
    assert [f.id for f in doctor.examine(node)] == ["vf-settings"]
    assert node.journal.addresses() == [HEALTHY], "it can still be attached"
    bench.machine.sim.vf_side.forgive(PF)
    repair.carry_out(node, repair.plan(node))
    assert doctor.examine(node) == []


def test_a_living_foreign_owner_is_nobodys_to_take(bench: Bench) -> None:
    pod = bench.machine.namespace()
    claims.write(bench.machine.state, VF, pod.path)
    node = bench.machine.node
    (found,) = doctor.examine(node)
    assert (found.id, found.cure) == ("vf-foreign", None)
    assert repair.plan(node) == []
    bench.machine.kill(pod)
    repair.carry_out(node, repair.plan(node))
    assert doctor.examine(node) == []


def test_a_dpdk_device_of_a_dead_pod_by_its_state_file_alone(bench: Bench) -> None:
    """What the 2018 plugin would know: the kernel driver is in the file."""
    dpdk = DpdkRequest(driver="vfio-pci", kernel_driver="igbvf")
    pod = bench.attach(VF, kind=Kind.DPDK, dpdk=dpdk, seed_style=True)
    node = bench.machine.node
    node.journal.remove(VF)
    node.state.remove("pci", VF)
    bench.machine.kill(pod)
    assert "companion-orphaned" in {f.id for f in doctor.examine(node)}
    repair.carry_out(node, repair.plan(node))
    assert doctor.examine(node) == []
    assert driver.current_driver(bench.machine.sim, VF) == "igbvf"


def test_a_device_that_a_process_drives_is_not_taken(bench: Bench) -> None:
    """Its pod lives, and the administrator has bound it to another userspace driver."""
    bench.attach(VF, kind=Kind.DPDK, dpdk=DpdkRequest(driver="vfio-pci"))
    node, sim = bench.machine.node, bench.machine.sim
    driver.bind(sim, VF, "igb_uio")
    folder = Path(node.proc, "88/fd")
    folder.mkdir(parents=True)
    (uio,) = sim.names(f"bus/pci/devices/{VF}/uio")
    (folder / "4").symlink_to(f"{node.dev}/{uio}")
    Path(node.proc, "88/comm").write_text("testpmd\n")
    (outcome,) = repair.carry_out(node, repair.plan(node))
    assert outcome.step.finding.id == "vf-lost"
    assert "process 88 (testpmd)" in outcome.problems[0]
    assert driver.current_driver(sim, VF) == "igb_uio"
    (folder / "4").unlink()
    repair.carry_out(node, repair.plan(node))
    assert doctor.examine(node) == []
    assert driver.current_driver(sim, VF) == "igbvf"


def test_a_claim_is_a_name_too(bench: Bench) -> None:
    """A runtime that names namespaces by /proc mounts none: the claim tells that its pod lives."""
    pod = bench.attach(VF)
    node = bench.machine.node
    record = node.journal.read(VF)
    node.journal.remove(VF)
    folder = Path(node.proc, "77/ns")
    folder.mkdir(parents=True)
    (folder / "net").symlink_to(pod.path)
    (found,) = doctor.examine(node)
    assert (found.id, found.value) == ("record-missing", pod.path)
    repair.carry_out(node, repair.plan(node))
    again = node.journal.read(VF)
    assert record is not None
    assert again is not None
    assert again.owner.netns == record.owner.netns


def test_a_namespace_that_only_another_process_space_knows_is_not_judged(bench: Bench) -> None:
    """In a container without the host's processes a dead path of /proc says nothing."""
    nameless(bench)
    node = replace_node(bench.machine.node, all_processes=False)
    assert doctor.examine(node) == []


def test_from_a_container_a_namespace_that_cannot_be_seen_is_not_taken_for_gone(
    bench: Bench, tmp_path: Path
) -> None:
    """Its own /run/netns is empty, or has plain files where the host has mounts."""
    bench.attach(VF)
    node = replace_node(bench.machine.node, all_processes=False)
    record = node.journal.read(VF)
    assert record is not None
    for name, there in (("away/x", False), ("plain", True)):
        path = tmp_path / name
        if there:
            path.write_text("")
        netns = replace(record.owner.netns, path=str(path))
        node.journal.write(replace(record, owner=replace(record.owner, netns=netns)))
        claims.write(node.state, VF, str(path))
        (found,) = doctor.examine(node)
        assert (found.id, found.cure) == ("owner-unseen", None)
        node.journal.remove(VF)
        (found,) = doctor.examine(node)
        assert (found.id, found.cure) == ("vf-foreign", None), "its claim may well count"
    assert repair.plan(node) == []


def test_in_a_folder_with_namespaces_an_absent_name_is_gone(bench: Bench, tmp_path: Path) -> None:
    bench.attach(VF)
    node = replace_node(bench.machine.node, all_processes=False)
    record = node.journal.read(VF)
    assert record is not None
    netns = replace(record.owner.netns, path=str(tmp_path / "gone"))
    node.journal.write(replace(record, owner=replace(record.owner, netns=netns)))
    claims.write(node.state, VF, str(tmp_path / "gone"))
    mounted = f"1 1 0:4 net:[4] {tmp_path}/another rw - nsfs nsfs rw\n"
    Path(node.proc, "self/mountinfo").write_text(mounted)
    assert [f.id for f in doctor.examine(node)] == ["vf-leaked"]


def test_a_pod_of_a_plugin_that_makes_no_claims_keeps_its_vf(bench: Bench) -> None:
    """An older sriov-cni: a state file, and the netdev in a namespace that has a name."""
    pod = bench.attach(VF)
    node = bench.machine.node
    node.journal.remove(VF)
    node.state.remove("pci", VF)
    bench.machine.netlink.edit("net1", pod.key, alias=None)
    mounted = Path(node.proc, "self/mountinfo")
    mounted.write_text(f"1 1 0:4 net:[{pod.key[1]}] {pod.path} rw - nsfs nsfs rw\n")
    (found,) = doctor.examine(node)
    assert (found.id, found.cure) == ("vf-foreign", None)
    told = f"delete the pod that has {pod.path}, or unmount that; the VF comes home"
    assert found.repair == told
    mounted.unlink()
    bench.machine.kill(pod)
    assert "companion-orphaned" in {f.id for f in doctor.examine(node)}
    repair.carry_out(node, repair.plan(node))
    assert doctor.examine(node) == []


NEXT = "decade00" * 8


def given_to_the_next(
    bench: Bench, kind: Kind, *, claimed: bool, first_lives: bool = False
) -> tuple[object, Namespace]:
    """A record of a dead pod, and sriov-cni's next pod has its VF; older ones make no claims."""
    node, state = bench.machine.node, bench.machine.state
    dpdk = DpdkRequest(driver="vfio-pci") if kind is Kind.DPDK else None
    first = bench.attach(VF, kind=kind, dpdk=dpdk)
    record = node.journal.read(VF)
    assert record is not None
    Manager(node).detach(CONTAINER, "net1", first.path)
    following = bench.attach(VF, NEXT, kind=kind, dpdk=dpdk, settings=VFSettings(vlan=9))
    node.journal.write(replace(record, owner=replace(record.owner, since=1.0)))
    claims.write(state, VF, following.path if claimed else first.path)
    mounted = f"1 1 0:4 net:[{following.key[1]}] {following.path} rw - nsfs nsfs rw\n"
    Path(node.proc, "self/mountinfo").write_text(mounted)
    if kind is Kind.VF:
        alias = mark(VF, "eth1v2", CONTAINER)
        bench.machine.netlink.edit("net1", following.key, alias=alias)
    if not first_lives:
        bench.machine.kill(first)
    return vf_of_the_next(bench, following), following


def vf_of_the_next(bench: Bench, pod: Namespace) -> object:
    sim = bench.machine.sim
    netdevs = bench.machine.netlink.space(pod.key)
    return netdevs, sim.vf_side.get(PF)[2], driver.current_driver(sim, VF)


@pytest.mark.parametrize("kind", [Kind.VF, Kind.DPDK])
@pytest.mark.parametrize("claimed", [True, False])
def test_what_was_given_to_the_next_pod_is_left_to_it(
    bench: Bench, kind: Kind, claimed: bool
) -> None:
    before, pod = given_to_the_next(bench, kind, claimed=claimed)
    node = bench.machine.node
    found = [f for f in doctor.examine(node) if f.cure is not None]
    assert [(f.subject, f.id, f.cure) for f in found] == [(VF, "record-superseded", Cure.FORGET)]
    assert all(not o.problems for o in repair.carry_out(node, repair.plan(node)))
    assert node.journal.read(VF) is None
    assert vf_of_the_next(bench, pod) == before
    assert not {f.id for f in doctor.examine(node)} & {"record-superseded", "vf-leaked"}


@pytest.mark.parametrize("kind", [Kind.VF, Kind.DPDK])
@pytest.mark.parametrize("claimed", [True, False])
def test_a_late_del_spares_the_next_pod(bench: Bench, kind: Kind, claimed: bool) -> None:
    before, pod = given_to_the_next(bench, kind, claimed=claimed)
    Manager(bench.machine.node).detach(CONTAINER, "net1", None)
    assert bench.machine.node.journal.read(VF) is None
    assert vf_of_the_next(bench, pod) == before
    assert any("left alone" in line for line in bench.machine.logged)


@pytest.mark.parametrize("kind", [Kind.VF, Kind.DPDK])
def test_a_late_del_spares_the_next_pod_while_the_first_one_lives(bench: Bench, kind: Kind) -> None:
    """sriov-cni before 2.7 leaves our claim to the first pod, and makes none for the next."""
    before, pod = given_to_the_next(bench, kind, claimed=False, first_lives=True)
    node = bench.machine.node
    first = claims.claimed_by(node.state, VF)
    Manager(node).detach(CONTAINER, "net1", first)
    assert node.journal.read(VF) is None
    assert vf_of_the_next(bench, pod) == before


@pytest.mark.parametrize("kind", [Kind.VF, Kind.DPDK])
def test_the_next_pods_state_file_stays_while_the_first_one_lives(bench: Bench, kind: Kind) -> None:
    """Without it sriov-cni could not take the function back."""
    before, pod = given_to_the_next(bench, kind, claimed=False, first_lives=True)
    node = bench.machine.node
    assert "companion-orphaned" not in {f.id for f in doctor.examine(node)}
    repair.carry_out(node, repair.plan(node))
    assert os.path.exists(bench.machine.state.path(f"{NEXT}-net1"))
    assert vf_of_the_next(bench, pod) == before


def test_a_device_that_a_process_drives_is_not_touched_at_all(bench: Bench) -> None:
    """Unbinding vfio-pci would hang, and nobody says whose process it is."""
    node, sim = bench.machine.node, bench.machine.sim
    dpdk = DpdkRequest(driver="vfio-pci")
    pod = bench.attach(VF, kind=Kind.DPDK, dpdk=dpdk, settings=VFSettings(vlan=9))
    group = sim.link_name(f"bus/pci/devices/{VF}/iommu_group")
    opened = Path(node.proc, "77/fd/5")
    opened.parent.mkdir(parents=True)
    Path(node.proc, "77/comm").write_text("qemu\n")
    opened.symlink_to(f"{node.dev}/vfio/{group}")
    before = vf_of_the_next(bench, pod)
    with pytest.raises(UndoIncomplete, match=r"process 77 \(qemu\) has .*end it first"):
        Manager(node).detach(CONTAINER, "net1", pod.path)
    assert vf_of_the_next(bench, pod) == before
    opened.unlink()
    Manager(node).detach(CONTAINER, "net1", pod.path)
    assert driver.current_driver(sim, VF) == "igbvf"


@pytest.mark.parametrize("kind", [Kind.VF, Kind.DPDK])
def test_an_older_state_file_gives_nothing_to_anybody(bench: Bench, kind: Kind) -> None:
    """A DEL that went wrong has left it there, and the function was ours since."""
    node, dpdk = bench.machine.node, DpdkRequest(driver="vfio-pci") if kind is Kind.DPDK else None
    old = bench.machine.state.path(f"{NEXT}-net1")
    pod = bench.attach(VF, kind=kind, dpdk=dpdk)
    shutil.copy(bench.machine.state.path(f"{CONTAINER}-net1"), old)
    os.utime(old, (1.0, 1.0))
    Manager(node).detach(CONTAINER, "net1", pod.path)
    assert driver.current_driver(bench.machine.sim, VF) == "igbvf"
    assert set(bench.machine.netlink.space(pod.key)) == set()


@pytest.mark.parametrize("kind", [Kind.VF, Kind.DPDK])
def test_an_own_state_file_gives_nothing_to_anybody(bench: Bench, kind: Kind) -> None:
    """Of ``sandbox-net-1`` the name does not tell where the container ends."""
    dpdk = DpdkRequest(driver="vfio-pci") if kind is Kind.DPDK else None
    pod = bench.attach(VF, "sandbox", kind=kind, dpdk=dpdk, ifname="net-1")
    bench.machine.kill(pod)
    node = bench.machine.node
    assert [f.id for f in doctor.examine(node)] == ["vf-leaked"]
    repair.carry_out(node, repair.plan(node))
    assert driver.current_driver(bench.machine.sim, VF) == "igbvf"
    assert doctor.examine(node) == []


class _Looks(KernelSim):
    """Counts how often the whole of a PF, or of the node, is looked at."""

    looks = 0

    def names(self, path: str) -> list[str]:
        self.looks += path == "bus/pci/drivers"
        return super().names(path)


def leaked_vfs(machine: Machine, vfs: list[str]) -> Node:
    """Attach VFs and end their pods; return the node with a sysfs that counts."""
    for number, address in enumerate(vfs):
        pod = machine.namespace()
        request = AttachRequest(
            f"{number:064}", "net1", pod.path, Kind.VF, device=PciAddress(address)
        )
        Manager(machine.node).attach(request)
        machine.kill(pod)
    return replace_node(machine.node, sysfs=_Looks(machine.sim.base, machine.netlink))


def test_one_look_serves_all_of_a_pf(in_memory: Path) -> None:
    """One for the plan, one for each PF under its locks, one at the end, however many VFs."""
    for vfs in (2, 7):
        base = in_memory / str(vfs)
        base.mkdir()
        nics = [Nic(vfs=vfs), Nic(address="0000:03:00.0", ifname="eth3", vfs=vfs)]
        with closing(build(str(base), *nics)) as machine:
            for index in range(vfs):
                mac = f"02:00:00:00:03:{index:02x}"
                machine.netlink.edit(f"eth3v{index}", mac=mac)
                machine.sim.vf_side.own_mac(nics[1].address, index, mac)
            every = [nic.vf(i) for nic in nics for i in range(vfs)]
            node = leaked_vfs(machine, every)
            outcomes = repair.carry_out(node, repair.plan(node))
            assert sorted(o.step.finding.subject for o in outcomes) == sorted(every)
            assert [o.problems for o in outcomes if o.problems] == []
            assert isinstance(node.sysfs, _Looks)
            assert node.sysfs.looks == 1 + len(nics) + 1


def test_who_works_on_one_function_does_not_hold_up_the_others(bench: Bench) -> None:
    vfs = [bench.machine.nics[0].vf(n) for n in range(1, 5)]
    node = leaked_vfs(bench.machine, vfs)
    steps = repair.plan(node)
    short = replace_node(node)
    object.__setattr__(short, "locks", Locks(node.state, timeout=0))
    with node.locks.function(vfs[1]), node.locks.container(f"{2:064}"):
        outcomes = {o.step.finding.subject: o.problems for o in repair.carry_out(short, steps)}
    assert [a for a in vfs if outcomes[a]] == vfs[1:3]
    assert "is held by process" in outcomes[vfs[1]][0]
    assert [r.address for r in node.journal.records()] == [HEALTHY, *vfs[1:3]]
    repair.carry_out(node, repair.plan(node))
    assert doctor.examine(node) == []


def test_a_batch_ends_when_others_have_waited_long_enough(bench: Bench) -> None:
    vfs = [bench.machine.nics[0].vf(n) for n in range(1, 5)]
    times = itertools.count(0, 6)
    node = replace_node(leaked_vfs(bench.machine, vfs), clock=lambda: float(next(times)))
    outcomes = repair.carry_out(node, repair.plan(node))
    assert sorted(o.step.finding.subject for o in outcomes) == vfs
    assert [o.problems for o in outcomes if o.problems] == []
    assert isinstance(node.sysfs, _Looks)
    assert node.sysfs.looks > 3


def test_a_vf_that_a_new_pod_has_by_now_is_not_in_the_batch(bench: Bench) -> None:
    vfs = [bench.machine.nics[0].vf(n) for n in range(1, 5)]
    # Made before the others die: the kernel gives a dead namespace's inode to the next one.
    pod = bench.machine.namespace()
    node = leaked_vfs(bench.machine, vfs)
    steps = repair.plan(node)
    request = AttachRequest(CONTAINER, "net1", pod.path, Kind.VF, device=PciAddress(vfs[2]))
    Manager(bench.machine.node).attach(request)
    repair.carry_out(node, steps)
    record = node.journal.read(vfs[2])
    assert record is not None
    assert record.owner.container_id == CONTAINER
    assert doctor.examine(node) == []


def test_many_with_one_mac_are_told_apart_at_once(bench: Bench) -> None:
    """All but one get another: the attached one keeps it."""
    side, netlink = bench.machine.sim.vf_side, bench.machine.netlink
    mac = next(iter(netlink.space(bench.healthy.key).values())).mac
    untouched = bench.untouched()
    for index in range(1, 7):
        netlink.edit(f"eth1v{index}", mac=mac)
        side.own_mac(PF, index, mac)
    node = bench.machine.node
    found = doctor.examine(node)
    assert [f.id for f in found] == ["mac-duplicate"] * 6
    repair.carry_out(node, repair.plan(node))
    assert doctor.examine(node) == []
    assert bench.untouched() == untouched


def test_a_namespace_that_cannot_be_read_lives_all_the_same(bench: Bench) -> None:
    """The kernel may be out of memory for a moment, or refuse who is not root."""
    bench.attach(VF)

    class Refusing:
        def links(self, ns_fd: int | None = None) -> AbstractContextManager[Links]:
            if ns_fd is not None:
                raise NetlinkError("list", errno.ENOBUFS)
            return bench.machine.netlink.links()

    assert doctor.examine(replace_node(bench.machine.node, netlink=Refusing())) == []


def test_where_not_all_processes_are_seen_no_driver_is_taken(bench: Bench) -> None:
    """A virtual machine out of sight may have it: unbinding would hang, or end it."""
    left_on_vfio(bench)
    node = replace_node(bench.machine.node, all_processes=False)
    (found,) = doctor.examine(node)
    assert (found.id, found.severity, found.cure) == ("vf-driver-left", "info", None)


class _FullDisk(StateDir):
    """A disk without room: nothing can be written, all else works."""

    def write_bytes(self, data: bytes, *names: str, lasting: bool = True) -> None:
        raise StateError(self.path(*names), errno.ENOSPC)


@every_damage
def test_on_a_full_disk_what_cannot_be_recorded_is_not_done(
    bench: Bench, damage: Callable[[Bench], None], id_: str
) -> None:
    untouched = bench.untouched()
    damage(bench)
    node = bench.machine.node
    before = bench.machine.snapshot()
    full = replace_node(node, state=_FullDisk(node.state.root))
    for outcome in repair.carry_out(full, repair.plan(full)):
        assert outcome.problems == () or "No space left" in outcome.problems[0]
    left = {f.id for f in doctor.examine(node)}
    if id_ in left:
        assert bench.machine.snapshot() == before
    assert [o.problems for o in repair.carry_out(node, repair.plan(node)) if o.problems] == []
    assert doctor.examine(node) == []
    assert bench.untouched() == untouched


class _Unplugged(KernelSim):
    """The administrator's ``echo 0 > sriov_numvfs`` comes when a VF is read for the n-th time."""

    left = 0

    def folder(self, path: str) -> Folder | None:
        if path.endswith(VF) and self.left:
            self.left -= 1
            if not self.left:
                self.write(f"bus/pci/devices/{PF}/sriov_numvfs", "0")
        return super().folder(path)


@pytest.mark.parametrize("damage", [settings_left, admin_mac_left, duplicate_mac, unbound, renamed])
def test_a_vf_that_goes_while_it_is_put_right_leaves_nothing(
    in_memory: Path, damage: Callable[[Bench], None]
) -> None:
    for number in itertools.count(1):
        base = in_memory / str(number)
        base.mkdir()
        with closing(build(str(base), Nic(vfs=5))) as machine:
            bench = Bench(machine)
            damage(bench)
            sim = _Unplugged(machine.sim.base, machine.netlink)
            node = replace_node(machine.node, sysfs=sim)
            (step, *_others) = [s for s in repair.plan(node) if s.finding.subject == VF]
            sim.left = number
            repair.act(node, step)
            if sim.left:
                assert number > 2
                return
            repair.carry_out(node, repair.plan(node))
            assert VF not in node.journal.addresses()
