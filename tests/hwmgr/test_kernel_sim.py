"""The simulator answers writes as the kernel does; what the other tests rest on."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from hwmgr.errors import SysfsError
from hwmgr.model import PciAddress
from hwmgr.pci import device_path, find_vf, list_vfs
from tests.fakes.machine import Machine, build
from tests.fakes.namespaces import Namespace
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from pathlib import Path

PF = PciAddress("0000:01:00.0")


def refused(machine: Machine, path: str, value: str) -> int:
    with pytest.raises(SysfsError) as caught:
        machine.sim.write(path, value)
    return caught.value.errno


@pytest.mark.parametrize(
    ("value", "code"),
    [("8", errno.ERANGE), ("3", errno.EBUSY), ("x", errno.EINVAL), ("-1", errno.EINVAL)],
)
def test_numvfs_refusals(machine: Machine, value: str, code: int) -> None:
    assert refused(machine, device_path(PF, "sriov_numvfs"), value) == code


def test_numvfs_goes_by_zero_and_the_same_number_is_fine(machine: Machine) -> None:
    path = device_path(PF, "sriov_numvfs")
    machine.sim.write(path, "7")
    machine.sim.write(path, "0")
    assert list_vfs(machine.sim, PF) == []
    assert set(machine.netlink.space()) == {"eth1"}
    machine.sim.write(device_path(PF, "sriov_drivers_autoprobe"), "0")
    machine.sim.write(path, "2")
    assert [v.driver for v in list_vfs(machine.sim, PF)] == [None, None]


def test_numvfs_without_a_driver(machine: Machine) -> None:
    machine.sim.write("bus/pci/drivers/igb/unbind", PF)
    assert list_vfs(machine.sim, PF) == []
    assert refused(machine, device_path(PF, "sriov_numvfs"), "2") == errno.ENOENT


def test_bind_errnos(machine: Machine) -> None:
    vf = machine.nics[0].vf(0)
    drivers = "bus/pci/drivers"
    assert refused(machine, f"{drivers}/vfio-pci/bind", vf) == errno.ENODEV
    assert refused(machine, f"{drivers}/igbvf/bind", vf) == errno.EBUSY
    assert refused(machine, f"{drivers}/vfio-pci/unbind", vf) == errno.ENODEV
    assert refused(machine, f"{drivers}/nothing/bind", vf) == errno.ENOENT
    machine.sim.write(f"{drivers}/igbvf/unbind", vf)
    assert machine.netlink.space().get("eth1v0") is None
    assert refused(machine, f"{drivers}/vfio-pci/bind", vf) == errno.ENODEV
    machine.sim.write(device_path(vf, "driver_override"), "vfio-pci")
    machine.sim.write("bus/pci/drivers_probe", vf)
    assert find_vf(machine.sim, vf).driver == "vfio-pci"
    for cleared in ("\n", "\0"):
        machine.sim.write(device_path(vf, "driver_override"), cleared)
        assert machine.sim.read(device_path(vf, "driver_override")) == "(null)"


def test_new_id_takes_every_idle_function_of_that_kind(machine: Machine) -> None:
    first, second = machine.nics[0].vf(0), machine.nics[0].vf(1)
    machine.sim.write("bus/pci/drivers/igbvf/unbind", first)
    machine.sim.write("bus/pci/drivers/igb_uio/new_id", "8086 10ca")
    assert find_vf(machine.sim, first).driver == "igb_uio"
    assert find_vf(machine.sim, second).driver == "igbvf"
    code = refused(machine, "bus/pci/drivers/igb_uio/new_id", "8086 10ca")
    assert code == errno.EEXIST


def test_vfio_needs_a_group(tmp_path: Path) -> None:
    machine = build(str(tmp_path), Nic(iommu=False))
    vf = machine.nics[0].vf(0)
    machine.sim.write("bus/pci/drivers/igbvf/unbind", vf)
    machine.sim.write(device_path(vf, "driver_override"), "vfio-pci")
    assert refused(machine, "bus/pci/drivers/vfio-pci/bind", vf) == errno.EINVAL
    machine.sim.tree.put("module/vfio/parameters/enable_unsafe_noiommu_mode", "Y")
    machine.sim.write("bus/pci/drivers/vfio-pci/bind", vf)


def test_a_new_probe_makes_a_new_netdev_with_the_admin_mac_if_there_is_one(
    machine: Machine,
) -> None:
    vf = machine.nics[0].vf(0)
    old = machine.netlink.space()["eth1v0"]
    machine.sim.write("bus/pci/drivers/igbvf/unbind", vf)
    machine.sim.write("bus/pci/drivers/igbvf/bind", vf)
    new = machine.netlink.space()["eth1v0"]
    assert new.index != old.index
    assert new.mac == old.mac
    with machine.netlink.links() as links:
        from hwmgr.model import VFSettings

        links.set_vf(machine.netlink.space()["eth1"].index, 0, VFSettings(mac="02:00:00:00:aa:01"))
    machine.sim.write("bus/pci/drivers/igbvf/unbind", vf)
    machine.sim.write("bus/pci/drivers/igbvf/bind", vf)
    assert machine.netlink.space()["eth1v0"].mac == "02:00:00:00:aa:01"


def test_a_dead_namespace_returns_its_hardware(machine: Machine) -> None:
    pod = Namespace()
    index = machine.netlink.space()["eth1v0"].index
    with machine.netlink.links() as links:
        links.move(index, pod.fd, "net1")
        assert links.get(index) is None
    assert machine.sim.names(device_path(machine.nics[0].vf(0), "net")) == []
    machine.netlink.edit("eth1v3", name="net1")
    machine.kill(pod)
    assert "dev0" in machine.netlink.space()
    assert machine.sim.names(device_path(machine.nics[0].vf(0), "net")) == ["dev0"]
