"""Detach gets on: with a full disk, with a name that was taken, with a driver that refuses once."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hwmgr.errors import NameTaken, StateError, UndoIncomplete
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, DpdkRequest, Kind, Netdev, PciAddress
from hwmgr.store import StateDir
from tests.fakes.machine import replace_node

if TYPE_CHECKING:
    from tests.fakes.machine import Machine

VF = PciAddress("0000:01:10.0")


class FullDisk(StateDir):
    """A state directory in which nothing more can be written; removing works."""

    def write_bytes(self, data: bytes, *names: str, lasting: bool = True) -> None:
        raise StateError(self.path(*names), errno.ENOSPC)


def request(machine: Machine, **change: object) -> AttachRequest:
    pod = machine.namespace()
    base = AttachRequest("c1", "net1", pod.path, Kind.VF, device=VF)
    return replace(base, **change)  # type: ignore[arg-type]


def test_a_full_disk_refuses_an_attachment_before_anything_is_touched(machine: Machine) -> None:
    before = machine.snapshot()
    full = replace_node(machine.node, state=FullDisk(machine.state.root))
    with pytest.raises(StateError, match="No space left"):
        Manager(full).attach(request(machine))
    assert machine.snapshot() == before


def test_a_full_disk_does_not_keep_a_device(machine: Machine) -> None:
    before = machine.snapshot()
    Manager(machine.node).attach(request(machine, mtu=1400))
    full = replace_node(machine.node, state=FullDisk(machine.state.root))
    Manager(full).detach("c1", "net1")
    assert machine.snapshot() == before
    assert machine.node.journal.addresses() == []


def test_a_disk_that_fills_up_during_an_attachment(machine: Machine) -> None:
    before = machine.snapshot()

    class Filling(StateDir):
        left = 2

        def write_bytes(self, data: bytes, *names: str, lasting: bool = True) -> None:
            if self.left == 0:
                raise StateError(self.path(*names), errno.ENOSPC)
            self.left -= 1
            super().write_bytes(data, *names, lasting=lasting)

    filling = replace_node(machine.node, state=Filling(machine.state.root))
    with pytest.raises(StateError, match="No space left"):
        Manager(filling).attach(request(machine))
    assert machine.snapshot() == before
    assert machine.node.journal.addresses() == []


def test_a_name_that_somebody_took_holds_up_one_detach_only(machine: Machine) -> None:
    manager = Manager(machine.node)
    manager.attach(request(machine))
    other = Netdev(index=0, name="eth1v0", mac="02:00:00:00:00:09", mtu=1500, up=False)
    machine.netlink.add(other)
    with pytest.raises(UndoIncomplete, match="eth1v0"):
        manager.detach("c1", "net1")
    assert manager.detach("c1", "net1")
    assert machine.node.journal.addresses() == []
    names = {n.name for n in machine.netlink.space().values() if n.parent == VF}
    assert names
    assert "eth1v0" not in names


def test_a_setting_that_is_refused_at_first_is_no_failure(machine: Machine) -> None:
    before = machine.snapshot()
    from hwmgr.model import VFSettings

    manager = Manager(machine.node)
    manager.attach(request(machine, settings=VFSettings(vlan=7)))
    machine.netlink.fail("set_vf", errno.EBUSY)
    assert manager.detach("c1", "net1")
    assert machine.snapshot() == before


def test_two_devices_cannot_have_one_name(machine: Machine) -> None:
    manager = Manager(machine.node)
    first = request(machine, kind=Kind.DPDK, dpdk=DpdkRequest("vfio-pci"))
    manager.attach(first)
    before = machine.snapshot()
    with pytest.raises(NameTaken):
        manager.attach(replace(first, device=PciAddress("0000:01:10.2")))
    assert machine.snapshot() == before
