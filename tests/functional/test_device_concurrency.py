"""No VF has two owners: many processes at once, ours and ones that behave as sriov-cni."""

from __future__ import annotations

import fcntl
import os
import random
from functools import partial
from typing import TYPE_CHECKING

import pytest

from hwmgr.doctor import examination as doctor
from hwmgr.doctor import repair
from hwmgr.errors import DeviceBusy, NoFreeVF
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, DpdkRequest, Kind, PciAddress
from hwmgr.netns import entered
from tests.fakes.tree import Nic
from tests.functional.harness import Bench, changes
from tests.functional.processes import together

if TYPE_CHECKING:
    from tests.fakes.namespaces import Namespace

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: namespaces and veth"),
]
PROCESSES = 32
ROUNDS = 20
NIC = Nic()


def container(number: int) -> str:
    return f"{number:064x}"


def attach(bench: Bench, number: int, pod: Namespace) -> str:
    """Attach any free VF; every third as a DPDK device. Return its address, or the error's name."""
    dpdk = DpdkRequest("vfio-pci") if number % 3 == 0 else None
    request = AttachRequest(
        container_id=container(number),
        ifname="net1",
        netns_path=pod.path,
        kind=Kind.DPDK if dpdk else Kind.VF,
        pf_name=NIC.ifname,
        dpdk=dpdk,
        seed_style=number % 2 == 0,
    )
    try:
        return Manager(bench.node()).attach(request).address
    except NoFreeVF:
        return "none free"


def detach(bench: Bench, number: int, pod: Namespace) -> str:
    return str(Manager(bench.node()).detach(container(number), "net1", pod.path))


@pytest.mark.timeout(600)
@pytest.mark.soak
def test_32_at_once_for_7_vfs(folder: str) -> None:
    bench = Bench(folder, NIC)
    pods = [bench.pod() for _ in range(PROCESSES)]
    with entered(bench.host.fd):
        before = bench.snapshot()
        for _ in range(ROUNDS):
            numbers = random.sample(range(PROCESSES), PROCESSES)
            got = together([partial(attach, bench, n, pods[n]) for n in numbers])
            taken = [a for a in got if a != "none free"]
            assert len(taken) == len(set(taken)) == NIC.vfs, got
            for number, answer in zip(numbers, got, strict=True):
                kernel = answer != "none free" and number % 3 != 0
                assert bench.names_in(pods[number]) == ({"net1"} if kernel else set())
            gone = together([partial(detach, bench, n, pods[n]) for n in numbers])
            assert gone.count("True") == NIC.vfs
            assert changes(before, bench.snapshot()) == {}
    bench.close()


def churn(bench: Bench, number: int, pod: Namespace) -> str:
    """Attach and detach a few times; while one holds a VF, a file says so and none may exist."""
    held = 0
    for _ in range(4):
        address = attach(bench, number, pod)
        if address == "none free":
            continue
        _mark_held(bench, address)
        held += 1
        _unmark(bench, address)
        if not Manager(bench.node()).detach(container(number), "net1", pod.path):
            raise AssertionError(f"{number} held {address} and detach found nothing")
    return str(held)


def churn_as_sriov_cni(bench: Bench, number: int, pod: Namespace) -> str:
    """Take VFs as sriov-cni does: flock, look for a live claim, claim, unlock; later unclaim."""
    folder_ = f"{bench.base}/state/pci"
    os.makedirs(f"{folder_}/vf_lock", exist_ok=True)
    held = 0
    for turn in range(6):
        address = NIC.vf((number + turn) % NIC.vfs)
        lock = os.open(f"{folder_}/vf_lock/{address}.lock", os.O_CREAT | os.O_RDONLY, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        free = not os.path.exists(f"{folder_}/{address}")
        # It takes a VF only with its netdev in sight.
        free = free and bool(bench.sim.names(f"bus/pci/devices/{address}/net"))
        if free:
            with open(f"{folder_}/{address}", "w") as file:
                file.write(pod.path)
            _mark_held(bench, address)
            held += 1
        os.close(lock)
        if free:
            lock = os.open(f"{folder_}/vf_lock/{address}.lock", os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            _unmark(bench, address)
            os.unlink(f"{folder_}/{address}")
            os.close(lock)
    return str(held)


def _mark_held(bench: Bench, address: str) -> None:
    os.close(os.open(f"{bench.base}/held-{address}", os.O_CREAT | os.O_EXCL))


def _unmark(bench: Bench, address: str) -> None:
    os.unlink(f"{bench.base}/held-{address}")


@pytest.mark.timeout(600)
def test_churn_beside_sriov_cni(folder: str) -> None:
    bench = Bench(folder, NIC)
    pods = [bench.pod() for _ in range(12)]
    with entered(bench.host.fd):
        before = bench.snapshot()
        works = [
            partial(churn_as_sriov_cni if n % 4 == 3 else churn, bench, n, pods[n])
            for n in range(len(pods))
        ]
        held = [int(answer) for answer in together(works)]
        assert sum(held[n] for n in range(12) if n % 4 != 3) > 0
        assert changes(before, bench.snapshot()) == {}
    bench.close()


def test_one_vf_for_all_goes_to_one(folder: str) -> None:
    bench = Bench(folder, NIC)
    pods = [bench.pod() for _ in range(8)]

    def take(number: int) -> str:
        request = AttachRequest(
            container_id=container(number),
            ifname="net1",
            netns_path=pods[number].path,
            kind=Kind.VF,
            device=PciAddress(NIC.vf(2)),
        )
        try:
            Manager(bench.node()).attach(request)
        except DeviceBusy as error:
            return "busy" if error.owner else "busy with nobody"
        return "mine"

    with entered(bench.host.fd):
        answers = together([partial(take, n) for n in range(8)])
        assert sorted(answers) == ["busy"] * 7 + ["mine"]
        # Those who were refused release too, as a runtime does: the owner is not harmed.
        winner = answers.index("mine")
        for number in range(8):
            if number != winner:
                assert detach(bench, number, pods[number]) == "False"
        Manager(bench.node()).check(container(winner), "net1")
    bench.close()


def attach_and_detach(bench: Bench, number: int, pod: Namespace) -> str:
    """Attach a VF of one's own again and again, and look whether it stays."""
    manager, address = Manager(bench.node()), PciAddress(NIC.vf(number))
    for _ in range(10):
        request = AttachRequest(container(number), "net1", pod.path, Kind.VF, device=address)
        manager.attach(request)
        manager.check(container(number), "net1")
        if not manager.detach(container(number), "net1", pod.path):
            return f"{address} was taken away"
    return "kept"


def repair_again_and_again(bench: Bench) -> str:
    problems: list[str] = []
    for _ in range(10):
        node = bench.node()
        for outcome in repair.carry_out(node, repair.plan(node)):
            problems += outcome.problems
    return str(problems)


def test_repairs_beside_calls_and_each_other(folder: str) -> None:
    """What is leaked is given back once; what calls are working on stays theirs."""
    bench = Bench(folder, NIC)
    with entered(bench.host.fd):
        before = bench.snapshot()
        for number in (4, 5, 6):
            pod = bench.pod()
            address = PciAddress(NIC.vf(number))
            request = AttachRequest(container(number), "net1", pod.path, Kind.VF, device=address)
            Manager(bench.node()).attach(request)
            pod.close()
        pods = [bench.pod() for _ in range(4)]
        got = together(
            [
                *(partial(attach_and_detach, bench, n, pod) for n, pod in enumerate(pods)),
                *[partial(repair_again_and_again, bench)] * 3,
            ]
        )
        assert got == ["kept"] * 4 + ["[]"] * 3
        assert doctor.examine(bench.node()) == []
        assert changes(before, bench.snapshot()) == {}
    bench.close()
