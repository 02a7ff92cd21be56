"""Apply among others: what a killed one left, who comes in between, what stands in the way."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr import claims
from hwmgr.desired import applying, reverting
from hwmgr.desired.applypf import Manner
from hwmgr.errors import DeviceBusy, HwmgrError, NoFreeVF, PlanRefused, StateError, SysfsError
from hwmgr.inventory import inventory
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, Kind, VFState
from hwmgr.pci import device_path, list_vfs
from hwmgr.store import StateDir
from tests.fakes.machine import Machine, build, replace_node
from tests.fakes.mortal import Killed, Life, mortal
from tests.fakes.tree import Nic
from tests.hwmgr.desired.test_applying import (
    FORCED,
    PF,
    PLAIN,
    attach,
    differences,
    drivers,
    wanted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from hwmgr.desired.state import Desired
    from hwmgr.node import Node
    from tests.fakes.namespaces import Namespace

MIXED = {"numVfs": 3, "vfs": [{"range": "0", "driver": "vfio-pci", "vlan": 5}]}
OTHER = "0000:03:00.0"


def probing(machine: Machine) -> str | None:
    return machine.sim.read(device_path(PF, "sriov_drivers_autoprobe"))


def states(machine: Machine) -> set[str]:
    return {i.reason for i in inventory(machine.node)} - {""}


def effects(folder: Path, work: Callable[[Node], object], *first: Desired) -> list[str]:
    """Return the effects of some work on a machine to which files have been applied."""
    machine, life = build(f"{folder}/count", Nic(vfs=4)), Life()
    for desired in first:
        applying.apply(machine.node, desired, PLAIN)
    work(mortal(machine.node, life))
    return life.names


def killed(machine: Machine, at: int, work: Callable[[Node], object]) -> None:
    with pytest.raises(Killed):
        work(mortal(machine.node, Life(at)))


def test_only_vfs_finishes_what_a_killed_apply_began(in_memory: Path) -> None:
    """The new number of VFs has udevd start it: it comes right after an apply that was killed."""
    desired = wanted(MIXED)
    steps = effects(in_memory, lambda node: applying.apply(node, desired, PLAIN))
    for at, step in enumerate(steps, start=1):
        machine = build(f"{in_memory}/{at}", Nic(vfs=4))
        killed(machine, at, lambda node: applying.apply(node, desired, PLAIN))
        applying.apply(machine.node, desired, Manner(only_vfs=True, pf=PF))
        assert probing(machine) == "1", step
        applying.apply(machine.node, desired, PLAIN)
        assert (probing(machine), drivers(machine.node), states(machine)) == (
            "1", ["vfio-pci", "igbvf", "igbvf"], set(),
        ), step  # fmt: skip


@pytest.mark.parametrize("numbered", [True, False], ids=["made anew", "staying"])
def test_nothing_of_a_killed_apply_is_left_over(in_memory: Path, numbered: bool) -> None:
    """A driver_override that stood for a moment does not make the VF dirty for good."""
    desired = wanted(MIXED if numbered else {"vfs": MIXED["vfs"]})
    steps = effects(in_memory, lambda node: applying.apply(node, desired, PLAIN))
    for at, step in enumerate(steps, start=1):
        machine = build(f"{in_memory}/{at}", Nic(vfs=4))
        killed(machine, at, lambda node: applying.apply(node, desired, PLAIN))
        applying.apply(machine.node, desired, PLAIN)
        assert states(machine) == set(), step
        assert applying.make_plan(machine.node, desired, PLAIN).changes == (), step


def test_an_override_of_somebody_elses_stays(machine: Machine) -> None:
    """As driverctl leaves it: the VF is on the driver that is wanted: nothing to do."""
    address = machine.nics[0].vf(0)
    machine.sim.write(device_path(address, "driver_override"), "igbvf")
    desired = wanted({"vfs": [{"range": "0", "driver": "igbvf"}]})
    assert applying.apply(machine.node, desired, PLAIN) == []
    assert machine.sim.read(device_path(address, "driver_override")) == "igbvf"


@pytest.mark.parametrize(
    "other",
    [{"mtu": 3000}, {"numVfs": 5}, {"numVfs": 4, "vfs": [{"range": "0-2", "driver": "igb_uio"}]}],
    ids=["mtu", "number", "drivers"],
)
def test_killed_then_another_file_then_reverted(in_memory: Path, other: dict[str, Any]) -> None:
    first, second = wanted({**MIXED, "autoprobe": False, "mtu": 9000}), wanted(other)
    steps = effects(in_memory, lambda node: applying.apply(node, first, PLAIN))
    for at, step in enumerate(steps, start=1):
        machine = build(f"{in_memory}/{at}", Nic(vfs=4))
        before = machine.snapshot()
        killed(machine, at, lambda node: applying.apply(node, first, PLAIN))
        applying.apply(machine.node, second, PLAIN)
        assert applying.make_plan(machine.node, second, PLAIN).changes == (), step
        reverting.revert(machine.node, PLAIN)
        assert differences(before, machine.snapshot()) == {}, step


def test_a_killed_revert_then_another_file(in_memory: Path) -> None:
    """VFs that a revert had made without drivers get them from whatever comes instead of it."""
    first, second = wanted(MIXED), wanted({"numVfs": 2})
    steps = effects(in_memory, lambda node: reverting.revert(node, PLAIN), first)
    for at, step in enumerate(steps, start=1):
        machine = build(f"{in_memory}/{at}", Nic(vfs=4))
        before = machine.snapshot()
        applying.apply(machine.node, first, PLAIN)
        killed(machine, at, lambda node: reverting.revert(node, PLAIN))
        applying.apply(machine.node, second, PLAIN)
        assert (probing(machine), drivers(machine.node)) == ("1", ["igbvf"] * 2), step
        if step != "revert.struck":
            reverting.revert(machine.node, PLAIN)
            assert differences(before, machine.snapshot()) == {}, step


def test_probing_is_as_before_when_no_vfs_could_be_made(machine: Machine) -> None:
    machine.sim.write(device_path(PF, "sriov_numvfs"), "0")
    machine.sim.fail(".*/sriov_numvfs", errno.ENOMEM)
    with pytest.raises(SysfsError):
        applying.apply(machine.node, wanted(MIXED), PLAIN)
    assert probing(machine) == "1"
    applying.apply(machine.node, wanted(MIXED), PLAIN)
    assert (probing(machine), drivers(machine.node)) == ("1", ["vfio-pci", "igbvf", "igbvf"])


@pytest.mark.parametrize("manner", [PLAIN, FORCED], ids=["plain", "forced"])
@pytest.mark.parametrize("reverts", [False, True], ids=["apply", "revert"])
def test_sriov_cni_comes_between_the_look_and_the_lock(
    machine: Machine, manner: Manner, reverts: bool
) -> None:
    desired = wanted({"vfs": [{"range": "1", "driver": "vfio-pci"}]})
    pod = machine.namespace()
    if reverts:
        applying.apply(machine.node, desired, PLAIN)

    @contextmanager
    def meanwhile(_what: str) -> Iterator[None]:
        claims.write(machine.state, machine.nics[0].vf(1), pod.path)
        yield

    late = Manner(force=manner.force, busy=meanwhile)
    expected = drivers(machine.node)
    with pytest.raises(HwmgrError, match="sriov-cni has just given it to namespace"):
        (
            reverting.revert(machine.node, late)
            if reverts
            else applying.apply(machine.node, desired, late)
        )
    assert drivers(machine.node) == expected


def test_a_record_of_an_earlier_boot_hides_nobody(machine: Machine) -> None:
    """Somebody else has the VF by now: sriov-cni gave it to a pod of this boot."""
    machine.kill(attach(machine, 1))
    pod = machine.namespace()
    claims.write(machine.state, machine.nics[0].vf(1), pod.path)
    with pytest.raises(DeviceBusy, match="sriov-cni's claim file"):
        applying.apply(machine.rebooted(), wanted({"numVfs": 3}), PLAIN)
    assert len(list_vfs(machine.sim, PF)) == 7
    assert VFState.LEAKED in {i.state for i in inventory(machine.rebooted())}


@pytest.mark.parametrize("back", [False, True])
def test_one_that_comes_while_another_makes_vfs_waits_for_it(machine: Machine, back: bool) -> None:
    """Without their netdevs the other's VFs look like those of a pod."""
    desired = wanted({"numVfs": 3, "vfs": [{"range": "0", "vlan": 2}]})
    if back:
        applying.apply(machine.node, desired, PLAIN)
    machine.sim.write(device_path(PF, "sriov_numvfs"), "0")
    machine.netlink.late = True
    machine.sim.write(device_path(PF, "sriov_numvfs"), "4")
    with pytest.raises(DeviceBusy, match="another namespace has it"):
        applying.apply(machine.node, desired, PLAIN)

    class Waits(StateDir):
        """The other one is through when its lock can be had."""

        def lock(
            self, *names: str, timeout: float, remove: bool = False
        ) -> AbstractContextManager[None]:
            if names[:2] == ("locks", "pf"):
                machine.netlink.late = False
                machine.netlink.deliver()
            return super().lock(*names, timeout=timeout, remove=remove)

    node = replace_node(machine.node, state=Waits(machine.state.root))
    if back:
        reverting.revert(node, PLAIN)
    else:
        applying.apply(node, desired, PLAIN)
    assert len(list_vfs(machine.sim, PF)) == (7 if back else 3)


def test_vfs_made_by_hand_whose_netdevs_are_late(machine: Machine) -> None:
    """iavf makes them some time after the VFs: apply may come in between."""
    machine.sim.write(device_path(PF, "sriov_numvfs"), "0")
    machine.netlink.late = True
    machine.sim.write(device_path(PF, "sriov_numvfs"), "4")
    machine.udev.later = [lambda: None, machine.netlink.deliver]
    desired = wanted({"numVfs": 4, "vfs": [{"range": "0", "vlan": 2}, {"range": "1", "mtu": 1400}]})
    applying.apply(machine.node, desired, PLAIN)
    assert machine.sim.vf_side.get(PF)[0].vlan == 2
    assert machine.netlink.space()["eth1v1"].mtu == 1400


def test_several_pfs_are_looked_at_again_while_nobody_is_at_work(machine: Machine) -> None:
    """Two applies that are refused at once do not wait for each other for ever."""
    machine.sim.add_nic(Nic(address="0000:03:00.0", ifname="eth3", vfs=0))
    attach(machine, 0)
    entries: list[dict[str, Any]] = [
        {"numVfs": 2},
        {"match": {"name": "eth3"}, "numVfs": 3},
    ]
    with ThreadPoolExecutor() as pool:
        work = [
            pool.submit(applying.apply, machine.node, wanted(*order), PLAIN)
            for order in (entries, entries[::-1])
        ]
        for one in work:
            with pytest.raises(DeviceBusy, match="--force takes them away"):
                one.result()


class Full(StateDir):
    """A state directory on a full disk."""

    def write_bytes(self, data: bytes, *names: str, lasting: bool = True) -> None:
        raise StateError("/".join(names), errno.ENOSPC)


def test_a_full_disk_where_all_is_as_desired(machine: Machine) -> None:
    said: list[str] = []
    full = replace_node(machine.node, state=Full(machine.state.root), log=said.append)
    assert applying.apply(full, wanted({"numVfs": 7}), PLAIN) == []
    assert "No space left" in said[-1]


def test_nobody_loses_a_vf_for_nothing_on_a_full_disk(machine: Machine) -> None:
    attach(machine, 5)
    before = machine.snapshot()
    full = replace_node(machine.node, state=Full(machine.state.root))
    with pytest.raises(StateError, match="No space left"):
        applying.apply(full, wanted({"numVfs": 3}), FORCED)
    assert differences(before, machine.snapshot()) == {}
    assert machine.node.journal.addresses() == [machine.nics[0].vf(5)]


def test_revert_on_a_full_disk(machine: Machine) -> None:
    """The record of before serves; only a PF whose VFs are made anew has more to write down."""
    before = machine.snapshot()
    full = replace_node(machine.node, state=Full(machine.state.root))
    with pytest.raises(StateError):
        applying.apply(full, wanted({"vfs": [{"range": "0", "vlan": 9}]}), PLAIN)
    assert differences(before, machine.snapshot()) == {}
    applying.apply(machine.node, wanted({"vfs": [{"range": "0", "vlan": 9}]}), PLAIN)
    reverting.revert(full, PLAIN)
    assert differences(before, machine.snapshot()) == {}


def test_one_pf_does_not_wait_for_another(machine: Machine) -> None:
    desired = wanted(
        {"vfs": [{"range": "0", "vlan": 3}]}, {"match": {"name": "absent"}, "numVfs": 1}
    )
    with pytest.raises(PlanRefused, match="no PF here has name absent"):
        applying.apply(machine.node, desired, PLAIN)
    applying.apply(machine.node, desired, Manner(only_vfs=True, pf=PF))
    assert machine.sim.vf_side.get(PF)[0].vlan == 3


def test_force_for_a_pod_whose_namespace_is_gone(machine: Machine) -> None:
    machine.kill(attach(machine, 1))
    with pytest.raises(DeviceBusy, match="whose namespace is gone"):
        applying.apply(machine.node, wanted({"numVfs": 3}), PLAIN)
    applying.apply(machine.node, wanted({"numVfs": 3}), FORCED)
    assert (machine.node.journal.addresses(), len(list_vfs(machine.sim, PF))) == ([], 3)


def come_and_go(machine: Machine, pod: Namespace, lost: list[str]) -> None:
    """Give a pod a VF and take it back, a dozen times; note those that did not stay with it."""
    manager = Manager(machine.node)
    for number in range(12):
        request = AttachRequest(
            container_id=f"{number:064d}",
            ifname=f"net{number}",
            netns_path=pod.path,
            kind=Kind.VF,
            pf_name="eth1",
        )
        try:
            address = manager.attach(request).address
        except NoFreeVF:
            continue
        if f"net{number}" not in machine.netlink.space(pod.key):
            lost.append(address)
        manager.detach(f"{number:064d}", f"net{number}")


def apply_often(machine: Machine, desired: Desired) -> None:
    for _ in range(6):
        with suppress(DeviceBusy, PlanRefused):
            applying.apply(machine.node, desired, PLAIN)


def test_applies_and_pods_at_once(machine: Machine) -> None:
    """Two files against each other while pods come and go: each VF keeps one owner, none is lost.

    A pod's VF is never made anew under it.
    """
    files = [wanted({"numVfs": n, "vfs": [{"range": "0", "vlan": n}]}) for n in (4, 5)]
    lost: list[str] = []
    with ThreadPoolExecutor() as pool:
        work = [pool.submit(apply_often, machine, desired) for desired in files]
        work.append(pool.submit(come_and_go, machine, machine.namespace(), lost))
        for one in work:
            one.result()
    assert lost == []
    assert machine.node.journal.addresses() == []
    assert states(machine) == set()
    assert len(list_vfs(machine.sim, PF)) in (4, 5, 7)
    for desired in files:
        applying.apply(machine.node, desired, PLAIN)
        assert applying.make_plan(machine.node, desired, PLAIN).changes == ()
