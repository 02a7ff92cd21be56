"""Attach then detach is the identity, whatever is refused and wherever the process is killed."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwmgr import driver
from hwmgr.doctor import repair
from hwmgr.errors import HwmgrError, NetlinkError
from hwmgr.manager import Manager
from hwmgr.model import Kind, Stage, VFSettings
from tests.fakes.attachments import CASES, CONTAINER, WORN, Case, repair_of_records
from tests.fakes.machine import Machine, build, replace_node
from tests.fakes.mortal import Killed, Life, mortal
from tests.fakes.runner import Devbind

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmgr.node import Node
    from tests.fakes.namespaces import Namespace

every_case = pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
MOVED = [c for c in CASES if c.kind is not Kind.DPDK]
worn_too = pytest.mark.parametrize("worn", [False, True], ids=["fresh", "worn"])


@dataclass
class Scene:
    """A machine, a pod, and what the host looked like before."""

    machine: Machine
    case: Case
    pod: Namespace
    tool: str
    before: dict[str, object]
    pins: set[int]

    @property
    def node(self) -> Node:
        return self.machine.node

    def attach(self, node: Node | None = None) -> None:
        Manager(node or self.node).attach(self.case.request(self.pod.path, self.tool))

    def detach(self, node: Node | None = None) -> None:
        Manager(node or self.node).detach(CONTAINER, "net1", self.pod.path)

    def assert_as_before(self) -> None:
        now = self.machine.snapshot()
        changed = {
            key: (self.before.get(key), now.get(key))
            for key in self.before.keys() | now.keys()
            if self.before.get(key) != now.get(key)
        }
        assert changed == {}
        assert self.leftovers() == []
        assert self.machine.netlink.space(self.pod.key) == {}

    def assert_held_as_before(self) -> None:
        """The admin's choice of a MAC still binds the VF; that it is bound, no kernel shows."""
        assert self.pins <= self.machine.sim.vf_side.pins(self.case.nic.address)

    def leftovers(self) -> list[str]:
        """Return every file of the state directory but locks."""
        root = Path(self.machine.state.root)
        return [
            str(path.relative_to(root))
            for path in root.rglob("*")
            if path.is_file() and "lock" not in str(path.relative_to(root))
        ]

    def close(self) -> None:
        self.machine.close()


def scene(tmp: Path, case: Case, *, worn: bool = False) -> Scene:
    machine = build(str(tmp / "machine"), case.nic)
    tool = tmp / "dpdk-devbind.py"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    machine.runner.programs[str(tool)] = Devbind(machine.sim)
    machine.node = replace_node(machine.node, dpdk_tools=(str(tool),))
    if worn:
        wear(machine, case)
    if case.bound:
        driver.bind(machine.sim, case.address, case.bound)
    pins = machine.sim.vf_side.pins(case.nic.address)
    return Scene(machine, case, machine.namespace(), str(tool), machine.snapshot(), pins)


def wear(machine: Machine, case: Case) -> None:
    """Have the function look used: names, alias, MTU, up, and settings of its PF's driver."""
    names = [n.name for n in machine.netlink.space().values() if n.parent == case.address]
    for position, name in enumerate(names):
        machine.netlink.edit(
            name,
            altnames=(f"enp9s0f{position}v0", f"a-name-longer-than-fifteen-{position}"),
            alias=f"rack 7 port {position}",
            mtu=1600,
            up=True,
        )
    if case.vf is not None:
        machine.sim.vf_side.put(case.nic.address, case.vf, WORN)
        machine.sim.vf_side.change(case.nic.address, case.vf, VFSettings(mac=WORN.mac))
        for name in names:
            machine.netlink.edit(name, mac=WORN.mac)
    if case.by_name or case.kind is Kind.DPDK:
        return
    address = "10.9.0.1/24" if case.vf is None else "fd00::1/64"
    machine.netlink.edit(names[0], addresses=(address,))


@every_case
@worn_too
def test_attach_then_detach_is_the_identity(in_memory: Path, case: Case, worn: bool) -> None:
    made = scene(in_memory, case, worn=worn)
    attached = Manager(made.node).attach(case.request(made.pod.path, made.tool))
    assert attached.address == case.address
    there = made.machine.netlink.space(made.pod.key)
    if case.kind is Kind.DPDK:
        assert there == {}
        assert all(os.path.exists(f) for f in attached.device_files)
        assert attached.driver == (case.driver or case.bound)
    else:
        assert set(there) == set(attached.ifnames)
        assert there["net1"].up is case.up
        assert attached.mac == there["net1"].mac
    if case.settings.mac and case.kind is not Kind.DPDK:
        assert there["net1"].mac == case.settings.mac
    if case.mtu:
        assert there["net1"].mtu == case.mtu == attached.mtu
    if case.vf is not None:
        now = made.machine.sim.vf_side.get(case.nic.address)[case.vf]
        for name in ("mac", "vlan", "qos", "proto", "max_rate", "spoofchk", "trust", "link_state"):
            wanted = getattr(case.settings, name)
            assert wanted is None or getattr(now, name) == wanted, name
    Manager(made.node).check(CONTAINER, "net1")
    made.detach()
    made.assert_as_before()
    made.assert_held_as_before()
    made.detach()
    made.close()


@pytest.mark.parametrize("case", MOVED, ids=[c.name for c in MOVED])
def test_what_the_pod_did_is_undone(in_memory: Path, case: Case) -> None:
    made = scene(in_memory, case, worn=True)
    made.attach()
    with made.machine.netlink.locked():
        made.machine.netlink.edit(
            "net1", made.pod.key, mtu=9000, up=True, alias="hacked", altnames=("mine",)
        )
        made.machine.netlink.edit("net1", made.pod.key, name="other0")
    if case.settings.trust:
        netdev = made.machine.netlink.space(made.pod.key)["other0"]
        with made.machine.netlink.links(made.pod.fd) as links:
            links.set_mac(netdev.index, "02:00:00:00:00:99")
    made.detach()
    made.assert_as_before()
    made.assert_held_as_before()
    made.close()


@every_case
def test_the_namespace_died(in_memory: Path, case: Case) -> None:
    made = scene(in_memory, case, worn=True)
    made.attach()
    key = made.pod.key
    path = made.pod.path
    made.machine.kill(made.pod)
    Manager(made.node).detach(CONTAINER, "net1", path)
    now = made.machine.snapshot()
    assert {k: v for k, v in now.items() if made.before.get(k) != v} == {}
    assert made.leftovers() == []
    assert made.machine.netlink.space(key) == {}
    made.close()


@pytest.mark.parametrize("case", MOVED, ids=[c.name for c in MOVED])
def test_a_process_of_the_pod_renames_the_netdev_during_the_attach(
    in_memory: Path, case: Case
) -> None:
    made = scene(in_memory, replace(case, up=True), worn=True)

    def rename(name: str) -> None:
        if name == "attach.up" and "net1" in made.machine.netlink.space(made.pod.key):
            made.machine.netlink.edit("net1", made.pod.key, name="mine")

    with pytest.raises(NetlinkError, match="is no more net1 in "):
        made.attach(replace_node(made.node, checkpoint=rename))
    made.assert_as_before()
    made.close()


DEVICES = [c for c in CASES if c.kind is Kind.DPDK]


@pytest.mark.parametrize("case", DEVICES, ids=[c.name for c in DEVICES])
def test_an_own_state_file_names_no_other_container(in_memory: Path, case: Case) -> None:
    """``sandbox-net-1``: where the container ends the name of the file does not tell."""
    made = scene(in_memory, case)
    request = case.request(made.pod.path, made.tool, container_id="sandbox", ifname="net-1")
    Manager(made.node).attach(request)
    Manager(made.node).detach("sandbox", "net-1", made.pod.path)
    made.assert_as_before()
    made.close()


def refusals(case: Case, tmp: Path) -> list[str]:
    """Return what an attach and a detach of this kind do to the world, in order."""
    made = scene(tmp, case, worn=True)
    life = Life(dies=False)
    made.attach(mortal(made.node, life))
    made.close()
    return life.names


@every_case
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
def test_a_failed_attach_leaves_the_host_as_it_was(
    in_memory: Path, case: Case, lasting: bool
) -> None:
    count = len(refusals(case, in_memory / _sub(in_memory)))
    for number in range(1, count + 1):
        made = scene(in_memory / _sub(in_memory), case, worn=True)
        life = Life(number, dies=False, lasting=lasting)
        try:
            made.attach(mortal(made.node, life))
        except HwmgrError:
            if not lasting:
                made.assert_as_before()
        made.detach()
        made.assert_as_before()
        made.close()


@every_case
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
def test_a_failed_detach_can_be_done_again(in_memory: Path, case: Case, lasting: bool) -> None:
    number = 0
    while True:
        number += 1
        made = scene(in_memory / _sub(in_memory), case, worn=True)
        made.attach()
        life = Life(number, dies=False, lasting=lasting)
        try:
            made.detach(mortal(made.node, life))
        except HwmgrError:
            assert len(life.names) >= number
            made.detach()
        made.assert_as_before()
        made.close()
        if len(life.names) < number:
            break


def by_detach(made: Scene) -> None:
    made.detach()


def by_gc(made: Scene) -> None:
    assert Manager(made.node).collect([]) == []


def by_repair(made: Scene) -> None:
    for step in repair_of_records(made.node):
        assert repair.act(made.node, step) == [], step
    assert repair_of_records(made.node) == []
    for record in made.node.journal.records():
        # What is whole and whose pod lives is no repair's business.
        assert record.stage is Stage.ATTACHED
        Manager(made.node).check(CONTAINER, "net1")
        made.detach()


RECOVERIES = (by_detach, by_gc, by_repair)


@every_case
@pytest.mark.parametrize("recover", RECOVERIES, ids=[r.__name__[3:] for r in RECOVERIES])
def test_killed_anywhere_and_nothing_leaks(
    in_memory: Path, case: Case, recover: Callable[[Scene], None]
) -> None:
    number = 0
    while True:
        number += 1
        made = scene(in_memory / _sub(in_memory), case, worn=True)
        life = Life(number)
        doomed = mortal(made.node, life)
        try:
            made.attach(doomed)
            made.detach(doomed)
        except Killed:
            recover(made)
            made.assert_as_before()
            made.close()
        else:
            made.assert_as_before()
            made.close()
            break
    assert number > 15


def _sub(in_memory: Path) -> str:
    name = str(len(os.listdir(in_memory)))
    (in_memory / name).mkdir()
    return name
