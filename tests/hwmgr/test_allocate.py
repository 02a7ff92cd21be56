"""Whose VF it is: locks, records and sriov-cni's claims, each told apart from what is stale."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hwmgr import claims
from hwmgr.errors import DeviceBusy, LockTimeout, NoFreeVF
from hwmgr.locks import Locks
from hwmgr.manager import Manager
from hwmgr.model import Kind, PciAddress
from tests.fakes.attachments import CASES, CONTAINER
from tests.fakes.machine import replace_node

if TYPE_CHECKING:
    from hwmgr.model import AttachRequest, Record
    from hwmgr.node import Node
    from tests.fakes.machine import Machine
    from tests.fakes.namespaces import Namespace

OTHER = CONTAINER.replace("c0ffee", "decade")


def request(pod: Namespace, machine: Machine, index: int | None, owner: str) -> AttachRequest:
    """Ask for one VF, or for any."""
    nic = machine.nics[0]
    return replace(
        CASES[0].request(pod.path),
        container_id=owner,
        device=None if index is None else PciAddress(nic.vf(index)),
        pf_name=nic.ifname if index is None else None,
    )


def impatient(node: Node) -> Node:
    """Return a node that waits for no lock."""
    made = replace_node(node)
    object.__setattr__(made, "locks", Locks(node.state, timeout=0))
    return made


def locked(path: str) -> int:
    """Hold a lock file as another program would."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_a_vf_whose_lock_sriov_cni_holds_is_passed_over(machine: Machine) -> None:
    pod = machine.namespace()
    first, second = machine.nics[0].vf(0), machine.nics[0].vf(1)
    fd = locked(f"{machine.state.root}/pci/vf_lock/{first}.lock")
    manager = Manager(impatient(machine.node))
    with pytest.raises(LockTimeout):
        manager.attach(request(pod, machine, 0, CONTAINER))
    assert manager.attach(request(pod, machine, None, CONTAINER)).address == second
    os.close(fd)


@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_every_step_on_hardware_is_under_the_locks_of_vf_and_pf(
    machine: Machine, verb: str
) -> None:
    pod = machine.namespace()
    vf, pf = machine.nics[0].vf(0), machine.nics[0].address
    files = [
        f"{machine.state.root}/pci/vf_lock/{vf}.lock",
        f"{machine.state.root}/locks/pf/{pf}.lock",
    ]
    seen: list[str] = []

    def look(name: str) -> None:
        seen.append(name)
        for path in files:
            fd = os.open(path, os.O_RDONLY)
            try:
                with pytest.raises(BlockingIOError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                os.close(fd)

    watched = Manager(replace_node(machine.node, checkpoint=look))
    plain = Manager(machine.node)
    (watched if verb == "attach" else plain).attach(request(pod, machine, 0, CONTAINER))
    (watched if verb == "detach" else plain).detach(CONTAINER, "net1", pod.path)
    assert any(name.startswith(verb) for name in seen)


def test_a_live_claim_is_respected_and_stays(machine: Machine) -> None:
    pod, theirs = machine.namespace(), machine.namespace()
    first, second = machine.nics[0].vf(0), machine.nics[0].vf(1)
    claims.write(machine.state, first, theirs.path)
    manager = Manager(machine.node)
    with pytest.raises(DeviceBusy) as caught:
        manager.attach(request(pod, machine, 0, CONTAINER))
    assert caught.value.owner == theirs.path
    assert manager.attach(request(pod, machine, None, CONTAINER)).address == second
    manager.detach(CONTAINER, "net1", pod.path)
    assert claims.claimed_by(machine.state, first) == theirs.path


def test_a_claim_for_a_path_of_any_bytes(machine: Machine) -> None:
    """CNI_NETNS is a path: what is no UTF-8 comes with surrogates (os.fsdecode)."""
    vf, path = machine.nics[0].vf(0), "/run/netns/\udcff"
    claims.write(machine.state, vf, path)
    assert machine.state.read_bytes("pci", vf) == b"/run/netns/\xff"
    assert claims.claimed_by(machine.state, vf) == path
    claims.release(machine.state, vf, path)
    assert claims.addresses(machine.state) == []


def test_a_stale_claim_is_taken_over(machine: Machine) -> None:
    pod, theirs = machine.namespace(), machine.namespace()
    vf = machine.nics[0].vf(0)
    claims.write(machine.state, vf, theirs.path)
    theirs.close()
    Manager(machine.node).attach(request(pod, machine, 0, CONTAINER))
    assert claims.claimed_by(machine.state, vf) == pod.path
    Manager(machine.node).detach(CONTAINER, "net1", pod.path)
    assert claims.claimed_by(machine.state, vf) is None


def test_a_vf_of_a_living_owner_is_not_taken_a_dead_ones_is(machine: Machine) -> None:
    old, new = machine.namespace(), machine.namespace()
    manager = Manager(machine.node)
    manager.attach(request(old, machine, 0, CONTAINER))
    with pytest.raises(DeviceBusy, match=r"c0ffee.* as net1"):
        manager.attach(request(new, machine, 0, OTHER))
    assert set(machine.netlink.space(old.key)) == {"net1"}
    machine.kill(old)
    assert manager.attach(request(new, machine, 0, OTHER)).ifnames == ("net1",)
    assert not manager.detach(CONTAINER, "net1")
    manager.check(OTHER, "net1")


def out_of_sight(machine: Machine, pod: Namespace | None = None) -> tuple[Node, str, str]:
    """A pod has VF 0, sriov-cni's has VF 1; return the node as a container sees it, and both paths.

    The host's paths lead nowhere in there, and no process of the host shows.
    """
    pod = pod or machine.namespace()
    Manager(machine.node).attach(request(pod, machine, 0, CONTAINER))
    record = machine.node.journal.read(machine.nics[0].vf(0))
    assert record is not None
    ours, theirs = (f"{machine.state.root}/host/run/netns/{name}" for name in ("ours", "theirs"))
    netns = replace(record.owner.netns, path=ours)
    machine.node.journal.write(replace(record, owner=replace(record.owner, netns=netns)))
    claims.write(machine.state, machine.nics[0].vf(0), ours)
    claims.write(machine.state, machine.nics[0].vf(1), theirs)
    return replace_node(machine.node, all_processes=False), ours, theirs


def test_an_owner_that_cannot_be_seen_from_a_container_keeps_its_vf(machine: Machine) -> None:
    node, ours, theirs = out_of_sight(machine)
    before, new = machine.snapshot(), machine.namespace()
    manager = Manager(node)
    for index in (0, 1):
        with pytest.raises(DeviceBusy, match=r"cannot be seen from here.*hwmgr repair.*hostPID"):
            manager.attach(request(new, machine, index, OTHER))
    whole = replace(request(new, machine, None, OTHER), kind=Kind.PF, whole_pf=True)
    with pytest.raises(DeviceBusy, match="in use by"):
        manager.attach(whole)
    assert machine.snapshot() == before
    assert [claims.claimed_by(machine.state, machine.nics[0].vf(n)) for n in (0, 1)] == [
        ours,
        theirs,
    ]


def test_an_empty_claim_is_nobodys_in_a_container_too(machine: Machine) -> None:
    node, _ours, _theirs = out_of_sight(machine)
    address = machine.nics[0].vf(1)
    claims.write(machine.state, address, "")
    new = machine.namespace()
    Manager(node).attach(request(new, machine, 1, OTHER))
    assert claims.claimed_by(machine.state, address) == new.path


def test_who_cannot_be_seen_is_passed_over_and_told_of(machine: Machine) -> None:
    node, _ours, _theirs = out_of_sight(machine)
    pods = [machine.namespace() for _ in range(6)]
    nic, manager = machine.nics[0], Manager(node)
    got = [manager.attach(request(pods[n], machine, None, f"{n:064x}")).address for n in range(5)]
    assert got == [nic.vf(n) for n in range(2, 7)]
    with pytest.raises(NoFreeVF, match=r"2 out of sight.*cannot be seen from here.*hostPID"):
        manager.attach(request(pods[5], machine, None, OTHER))


def test_in_a_folder_with_namespaces_a_container_knows_who_is_gone(machine: Machine) -> None:
    node, ours, _theirs = out_of_sight(machine)
    folder = os.path.dirname(ours)
    with open(f"{node.proc}/self/mountinfo", "w", encoding="utf-8") as file:
        file.write(f"1 1 0:4 net:[4] {folder}/another rw - nsfs nsfs rw\n")
    record = node.journal.read(machine.nics[0].vf(0))
    assert record is not None
    machine.netlink.namespace_died((record.owner.netns.dev, record.owner.netns.inode))
    for index in (0, 1):
        Manager(node).attach(request(machine.namespace(), machine, index, f"{index:064x}"))


def test_who_sees_all_processes_finds_a_namespace_by_the_first_ones_root(machine: Machine) -> None:
    """With hostPID: true, and without the host's /run/netns, of a pod that has no process."""
    pod = machine.namespace()
    node, ours, _theirs = out_of_sight(machine, pod)
    path = f"{node.proc}/1/root{ours}"
    os.makedirs(os.path.dirname(path))
    new = machine.namespace()
    os.symlink(pod.path, path)
    with pytest.raises(DeviceBusy, match="allocated to"):
        Manager(machine.node).attach(request(new, machine, 0, OTHER))


def test_given_on_between_the_look_and_the_lock(machine: Machine) -> None:
    """A detach that was overtaken must not touch what has a new owner by now."""
    old, new = machine.namespace(), machine.namespace()
    plain = Manager(machine.node)
    plain.attach(request(old, machine, 0, CONTAINER))

    class Overtaken(Manager):
        def held(self, container_id: str, ifname: str | None = None) -> list[Record]:
            found = super().held(container_id, ifname)
            plain.detach(CONTAINER, "net1", old.path)
            plain.attach(request(new, machine, 0, OTHER))
            return found

    Overtaken(machine.node).detach(CONTAINER, "net1", old.path)
    assert set(machine.netlink.space(new.key)) == {"net1"}
    plain.check(OTHER, "net1")


def test_the_first_free_one_by_index_and_leaked_ones_last(machine: Machine) -> None:
    pods = [machine.namespace() for _ in range(9)]
    nic, manager = machine.nics[0], Manager(machine.node)
    machine.netlink.edit("eth1v0", addresses=("10.0.0.1/24",))
    machine.netlink.edit("eth1v1", master=99)
    manager.attach(request(pods[0], machine, 3, f"{99:064x}"))
    machine.kill(pods[0])
    got = []
    for number in range(1, 6):
        owner = f"{number:064x}"
        got.append(manager.attach(request(pods[number], machine, None, owner)).address)
    assert got == [nic.vf(n) for n in (2, 4, 5, 6, 3)]
    with pytest.raises(NoFreeVF) as caught:
        manager.attach(request(pods[6], machine, None, OTHER))
    assert sum(caught.value.counts.values()) == nic.vfs
    assert caught.value.counts["in use by the host"] == 2
    assert caught.value.counts["allocated"] == 5


def test_a_pf_with_a_vf_in_use_is_not_given_away(machine: Machine) -> None:
    pod, other = machine.namespace(), machine.namespace()
    manager = Manager(machine.node)
    manager.attach(request(pod, machine, 0, CONTAINER))
    whole = replace(
        request(other, machine, None, OTHER), kind=Kind.PF, whole_pf=True, ifname="net1"
    )
    with pytest.raises(DeviceBusy, match="in use by"):
        manager.attach(whole)
    manager.detach(CONTAINER, "net1", pod.path)
    manager.attach(whole)
    with pytest.raises((DeviceBusy, NoFreeVF)):
        manager.attach(
            replace(request(pod, machine, None, CONTAINER), pf_name=machine.nics[0].address)
        )
    manager.detach(OTHER, "net1", other.path)
