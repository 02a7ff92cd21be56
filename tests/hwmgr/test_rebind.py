"""Binding by the administrator: refused while in use, undone when the driver declines."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from hwmgr.driver import current_driver, current_override
from hwmgr.errors import BindError, DeviceBusy, LockTimeout, NoSuchDevice
from hwmgr.locks import Locks
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, Kind, PciAddress, VFState
from hwmgr.rebind import bind, unbind

if TYPE_CHECKING:
    from tests.fakes.machine import Machine

VF = PciAddress("0000:01:10.2")


def test_bind_and_back(machine: Machine) -> None:
    before = machine.snapshot()
    info = bind(machine.node, VF, "vfio-pci")
    assert (info.vf.driver, info.state) == ("vfio-pci", VFState.DIRTY)
    assert current_override(machine.sim, VF) is None
    assert bind(machine.node, VF, "igbvf").state is VFState.FREE
    after = machine.snapshot()
    assert {k for k in before if before[k] != after.get(k)} <= {"netdev eth1v1"}


def test_unbind(machine: Machine) -> None:
    info = unbind(machine.node, VF)
    assert (info.vf.driver, info.state) == (None, VFState.BROKEN)
    assert unbind(machine.node, VF).vf.driver is None


def test_an_allocated_vf_is_refused_unless_forced(machine: Machine) -> None:
    pod = machine.namespace()
    Manager(machine.node).attach(AttachRequest("c" * 64, "net1", pod.path, Kind.VF, device=VF))
    with pytest.raises(DeviceBusy, match=r"held by container cccc.*--force"):
        bind(machine.node, VF, "vfio-pci")
    with pytest.raises(DeviceBusy):
        unbind(machine.node, VF)
    assert current_driver(machine.sim, VF) == "igbvf"
    assert bind(machine.node, VF, "vfio-pci", force=True).vf.driver == "vfio-pci"


def test_one_that_the_host_uses_is_refused(machine: Machine) -> None:
    machine.netlink.edit("eth1v1", addresses=("10.0.0.1/24",))
    with pytest.raises(DeviceBusy, match="has an address"):
        unbind(machine.node, VF)


def test_a_damaged_record_counts(machine: Machine) -> None:
    machine.state.write_bytes(b"{", "journal", f"{VF}.json")
    with pytest.raises(DeviceBusy, match="damaged"):
        unbind(machine.node, VF)


def test_a_driver_that_declines_leaves_it_as_it_was(machine: Machine) -> None:
    machine.sim.fail("bus/pci/drivers/vfio-pci/bind", errno.ENODEV)
    with pytest.raises(BindError, match="declined"):
        bind(machine.node, VF, "vfio-pci")
    assert current_driver(machine.sim, VF) == "igbvf"
    assert current_override(machine.sim, VF) is None


def test_a_driver_that_is_not_loaded(machine: Machine) -> None:
    with pytest.raises(BindError, match="modprobe nosuch"):
        bind(machine.node, VF, "nosuch")


@pytest.mark.parametrize("address", ["0000:01:00.0", "0000:7f:00.0"])
def test_only_vfs(machine: Machine, address: str) -> None:
    with pytest.raises(NoSuchDevice):
        bind(machine.node, address, "vfio-pci")


def test_it_waits_for_who_works_on_the_vf(machine: Machine) -> None:
    object.__setattr__(machine.node, "locks", Locks(machine.state, timeout=0.01))
    with machine.node.locks.function(VF), pytest.raises(LockTimeout):
        unbind(machine.node, VF)
