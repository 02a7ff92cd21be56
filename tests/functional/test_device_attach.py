"""The device plane on real rtnetlink: attach then detach is the identity, for every kind."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from hwmgr import driver
from hwmgr.doctor import examination as doctor
from hwmgr.errors import DeviceBusy, NameTaken, UndoIncomplete
from hwmgr.manager import Manager
from hwmgr.model import Kind, VFSettings
from hwmgr.netlink import KernelNetlink
from hwmgr.netns import entered, identity_of
from hwmgr.udev import KernelUdev
from tests.fakes.attachments import CASES, CONTAINER, SMALL, WORN, Case
from tests.fakes.namespaces import Namespace
from tests.fakes.tree import Nic
from tests.functional.harness import Bench, changes

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: namespaces and veth"),
]
every_case = pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
MOVED = [c for c in CASES if c.kind is not Kind.DPDK]
OTHER = CONTAINER.replace("c0ffee", "decade")


def bench_for(folder: str, case: Case, *, parents: bool = True) -> Bench:
    bench = Bench(folder, case.nic, parents=parents)
    wear(bench, case)
    if case.bound:
        with entered(bench.host.fd):
            driver.bind(bench.sim, case.address, case.bound)
    return bench


def wear(bench: Bench, case: Case) -> None:
    """Have the function look used."""
    with entered(bench.host.fd):
        names = bench.sim.names(f"bus/pci/devices/{case.address}/net")
        with KernelNetlink().links() as links:
            for position, name in enumerate(sorted(names)):
                netdev = links.find(name)
                if netdev is None:
                    continue
                links.add_altname(netdev.index, f"enp9s0f{position}v0")
                links.add_altname(netdev.index, f"a-name-longer-than-fifteen-{position}")
                links.set_alias(netdev.index, f"rack 7 port {position}")
                links.set_mtu(netdev.index, 1600)
                if case.vf is not None:
                    links.set_mac(netdev.index, WORN.mac or "")
                links.set_up(netdev.index, up=True)
                if position == 0 and not case.by_name and case.kind is not Kind.DPDK:
                    links.add_address(netdev.index, "10.9.0.1/24")
                    links.add_address(netdev.index, "fd00::9/64")
    if case.vf is not None:
        bench.sim.vf_side.put(case.nic.address, case.vf, WORN)
        bench.sim.vf_side.change(case.nic.address, case.vf, VFSettings(mac=WORN.mac))


@every_case
def test_attach_then_detach_is_the_identity(folder: str, case: Case) -> None:
    bench = bench_for(folder, case)
    before = bench.snapshot()
    pod = bench.pod()
    with entered(bench.host.fd):
        manager = Manager(bench.node())
        attached = manager.attach(case.request(pod.path, bench.tool))
        assert attached.address == case.address
        assert bench.names_in(pod) == set(attached.ifnames)
        manager.check(CONTAINER, "net1")
        if case.kind is not Kind.DPDK:
            with KernelNetlink().links(pod.fd) as links:
                netdev = links.find("net1")
            assert netdev is not None
            assert (netdev.up, netdev.mac, netdev.mtu) == (case.up, attached.mac, attached.mtu)
        assert manager.detach(CONTAINER, "net1", pod.path)
    assert changes(before, bench.snapshot()) == {}
    assert bench.names_in(pod) == set()
    bench.close()


@pytest.mark.parametrize("case", MOVED, ids=[c.name for c in MOVED])
@pytest.mark.parametrize("parents", [True, False], ids=["parents", "marks"])
def test_what_the_pod_did_is_undone(folder: str, case: Case, parents: bool) -> None:
    """Without IFLA_PARENT_DEV_NAME (before Linux 5.14) the alias alone tells whose netdev it is."""
    bench = bench_for(folder, case, parents=parents)
    before = bench.snapshot()
    pod = bench.pod()
    with entered(bench.host.fd):
        Manager(bench.node()).attach(case.request(pod.path, bench.tool))
        with KernelNetlink().links(pod.fd) as links:
            netdev = links.find("net1")
            assert netdev is not None
            links.set_up(netdev.index, up=False)
            links.rename(netdev.index, "other0")
            links.set_mtu(netdev.index, 9000)
            links.add_altname(netdev.index, "mine")
            links.set_up(netdev.index, up=True)
            links.add_address(netdev.index, "192.0.2.1/24")
        Manager(bench.node()).detach(CONTAINER, "net1", pod.path)
    assert changes(before, bench.snapshot()) == {}
    bench.close()


@pytest.mark.parametrize("dead", [False, True], ids=["alive", "dead"])
@pytest.mark.parametrize("case", MOVED, ids=[c.name for c in MOVED])
def test_names_that_are_no_text_keep_nothing(folder: str, case: Case, dead: bool) -> None:
    """Whoever is root in the pod may call the netdev by any bytes but blanks, colon and slash."""
    bench = bench_for(folder, case)
    before = bench.snapshot()
    pod = bench.pod()
    with entered(bench.host.fd):
        node = bench.node(udev=KernelUdev())
        Manager(node).attach(case.request(pod.path, bench.tool))
        with KernelNetlink().links(pod.fd) as links:
            netdev = links.find("net1")
            assert netdev is not None
            links.set_up(netdev.index, up=False)
            links.rename(netdev.index, os.fsdecode(b"\xff\x1b[2J"))
            links.add_altname(netdev.index, os.fsdecode(b"\xfe\x1b\xe9"))
            links.set_alias(netdev.index, os.fsdecode(b"\xfd"))
        if dead:
            bench.end(pod)
            assert doctor.examine(node)
        Manager(node).detach(CONTAINER, "net1", pod.path)
    assert changes(before, bench.snapshot()) == {}
    bench.close()


@every_case
def test_the_namespace_is_gone(folder: str, case: Case) -> None:
    bench = bench_for(folder, case)
    before = bench.snapshot()
    pod = bench.pod()
    path = pod.path
    with entered(bench.host.fd):
        Manager(bench.node()).attach(case.request(path, bench.tool))
        bench.end(pod)
        Manager(bench.node()).detach(CONTAINER, "net1", path)
    assert changes(before, bench.snapshot()) == {}
    bench.close()


def test_the_namespaces_hardware_comes_back_late(folder: str) -> None:
    """The kernel ends a namespace in a worker: the netdev appears while detach waits for it."""
    case = CASES[0]
    bench = bench_for(folder, case)
    before = bench.snapshot()
    pod = bench.pod()
    kept = os.dup(pod.fd)
    path = pod.path
    with entered(bench.host.fd):
        Manager(bench.node()).attach(case.request(path, bench.tool))
        pod.close()
        held = Namespace.__new__(Namespace)
        held.fd = kept
        node = bench.node()
        node.udev.later.append(lambda: bench.end(held))  # type: ignore[attr-defined]
        Manager(node).detach(CONTAINER, "net1", path)
    assert changes(before, bench.snapshot()) == {}
    bench.close()


def test_a_namespace_that_nobody_can_name(folder: str) -> None:
    """A descriptor somewhere keeps it: a new probe of the driver makes a new netdev here."""
    case = CASES[0]
    bench = bench_for(folder, case)
    before = bench.snapshot()
    pod = bench.pod()
    kept = os.dup(pod.fd)
    path = pod.path
    with entered(bench.host.fd):
        Manager(bench.node()).attach(case.request(path, bench.tool))
        pod.close()
        Manager(bench.node()).detach(CONTAINER, "net1", path)
    assert changes(before, bench.snapshot()) == {}
    os.close(kept)
    bench.close()


def test_kernel_events_are_waited_for(folder: str) -> None:
    """The same with the real event source; where no udevd runs, the kernel's uevents serve."""
    case = CASES[1]
    bench = bench_for(folder, case)
    before = bench.snapshot()
    pod = bench.pod()
    with entered(bench.host.fd):
        node = bench.node(udev=KernelUdev())
        Manager(node).attach(case.request(pod.path, bench.tool))
        Manager(node).detach(CONTAINER, "net1", pod.path)
    assert changes(before, bench.snapshot()) == {}
    bench.close()


def test_the_pods_name_is_taken(folder: str) -> None:
    case = CASES[1]
    bench = bench_for(folder, case)
    before = bench.snapshot()
    pod = bench.pod()
    with entered(bench.host.fd):
        request = replace(case.request(pod.path, bench.tool), ifname="lo")
        with pytest.raises(NameTaken):
            Manager(bench.node()).attach(request)
    assert changes(before, bench.snapshot()) == {}
    bench.close()


@pytest.mark.parametrize("taken", [("eth1v0",), ("net1",), ("eth1v0", "net1")])
def test_the_hosts_name_is_taken_meanwhile(folder: str, taken: tuple[str, ...]) -> None:
    """It comes home all the same, detach says what is wrong, and the next one puts it right."""
    case = CASES[0]
    bench = bench_for(folder, case)
    before = bench.snapshot()
    pod = bench.pod()
    with entered(bench.host.fd):
        Manager(bench.node()).attach(case.request(pod.path, bench.tool))
        squatters = _squat(bench, *taken)
        if "eth1v0" in taken:
            with pytest.raises(UndoIncomplete, match="eth1v0"):
                Manager(bench.node()).detach(CONTAINER, "net1", pod.path)
        else:
            Manager(bench.node()).detach(CONTAINER, "net1", pod.path)
        assert bench.names_in(pod) == set()
        _leave(bench, squatters)
        Manager(bench.node()).detach(CONTAINER, "net1", pod.path)
    assert changes(before, bench.snapshot()) == {}
    bench.close()


def _squat(bench: Bench, *names: str) -> list[int]:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        for name in names:
            peer = {"ifname": f"q{name}", "net_ns_fd": bench.wire.fd}
            route.link("add", kind="veth", ifname=name, peer=peer)
        return [route.link_lookup(ifname=name)[0] for name in names]


def _leave(bench: Bench, indices: list[int]) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        for index in indices:
            route.link("del", index=index)


def test_late_detach_after_a_reboot_harms_nobody(folder: str) -> None:
    bench = Bench(folder, SMALL)
    case = CASES[0]
    old, new = bench.pod(), bench.pod()
    with entered(bench.host.fd):
        Manager(bench.node()).attach(case.request(old.path, bench.tool))
        bench.end(old)
        bench.sim.write(f"bus/pci/devices/{SMALL.address}/sriov_numvfs", "0")
        bench.sim.write(f"bus/pci/devices/{SMALL.address}/sriov_numvfs", "2")
        rebooted = bench.node(boot_id="another-boot")
        Manager(rebooted).attach(case.request(new.path, bench.tool, container_id=OTHER))
        while_held = bench.snapshot()
        assert not Manager(rebooted).detach(CONTAINER, "net1", old.path)
        assert not Manager(rebooted).detach(CONTAINER, "net1", new.path)
        assert changes(while_held, bench.snapshot()) == {}
        assert bench.names_in(new) == {"net1"}
        Manager(rebooted).check(OTHER, "net1")
    bench.close()


def test_after_a_reboot_the_old_record_goes_and_the_hardware_is_left_alone(folder: str) -> None:
    bench = Bench(folder, SMALL)
    case = CASES[0]
    pod = bench.pod()
    with entered(bench.host.fd):
        Manager(bench.node()).attach(case.request(pod.path, bench.tool))
        bench.end(pod)
        bench.sim.vf_side.put(SMALL.address, 0, WORN)
        hardware = {k: v for k, v in bench.snapshot().items() if "/state/" not in k}
        Manager(bench.node(boot_id="another-boot")).detach(CONTAINER, "net1", pod.path)
        assert changes(hardware, bench.snapshot()) == {}
    bench.close()


def test_a_recycled_inode_and_path(folder: str) -> None:
    """The record's namespace number is another pod's by now: that pod keeps what is in it."""
    bench = Bench(folder, SMALL)
    first, second = CASES[0], Case("second", vf=1)
    old, new = bench.pod(), bench.pod()
    with entered(bench.host.fd):
        node = bench.node()
        before = bench.snapshot()
        Manager(node).attach(first.request(old.path, bench.tool))
        bench.end(old)
        Manager(node).attach(second.request(new.path, bench.tool, container_id=OTHER))
        record = node.journal.read(first.address)
        assert record is not None
        recycled = identity_of(record.owner.netns.path, new.fd)
        node.journal.write(replace(record, owner=replace(record.owner, netns=recycled)))
        Manager(node).detach(CONTAINER, "net1", new.path)
        assert bench.names_in(new) == {"net1"}
        Manager(node).check(OTHER, "net1")
        Manager(node).detach(OTHER, "net1", new.path)
        assert changes(before, bench.snapshot()) == {}
    bench.close()


def test_a_vf_given_to_a_new_pod(folder: str) -> None:
    bench = Bench(folder, SMALL)
    case = CASES[1]
    old, new = bench.pod(), bench.pod()
    with entered(bench.host.fd):
        node = bench.node()
        before = bench.snapshot()
        Manager(node).attach(case.request(old.path, bench.tool))
        with pytest.raises(DeviceBusy, match="c0ffee"):
            Manager(node).attach(case.request(new.path, bench.tool, container_id=OTHER))
        bench.end(old)
        Manager(node).attach(case.request(new.path, bench.tool, container_id=OTHER))
        assert not Manager(node).detach(CONTAINER, "net1", old.path)
        Manager(node).check(OTHER, "net1")
        assert bench.names_in(new) == {"net1"}
        Manager(node).detach(OTHER, "net1", new.path)
        assert changes(before, bench.snapshot()) == {}
    bench.close()


def test_two_interfaces_of_one_pod_have_a_record_each(folder: str) -> None:
    bench = Bench(folder, Nic(vfs=3))
    pod = bench.pod()
    with entered(bench.host.fd):
        node = bench.node()
        before = bench.snapshot()
        for number in range(3):
            case = replace(CASES[3], nic=Nic(vfs=3))
            Manager(node).attach(case.request(pod.path, bench.tool, ifname=f"net{number}"))
        assert bench.names_in(pod) == {"net0", "net1", "net2"}
        Manager(node).detach(CONTAINER, "net1", pod.path)
        assert bench.names_in(pod) == {"net0", "net2"}
        assert Manager(node).detach_container(CONTAINER) == []
        assert changes(before, bench.snapshot()) == {}
    bench.close()
