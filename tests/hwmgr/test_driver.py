"""Native driver binding: every refusal of the kernel, and nothing left behind."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from hwmgr import driver
from hwmgr.errors import BindError
from hwmgr.pci import device_path
from tests.fakes.machine import build
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.machine import Machine

BIND = "bus/pci/drivers/vfio-pci/bind"


@pytest.mark.parametrize("name", ["vfio-pci", "igb_uio", "uio_pci_generic"])
def test_there_and_back(machine: Machine, name: str) -> None:
    vf = machine.nics[0].vf(3)
    driver.check_bindable(machine.sim, vf, name)
    driver.bind(machine.sim, vf, name)
    assert driver.current_driver(machine.sim, vf) == name
    assert driver.current_override(machine.sim, vf) is None
    driver.restore(machine.sim, vf, "igbvf", None)
    assert driver.current_driver(machine.sim, vf) == "igbvf"
    assert "eth1v3" in machine.netlink.space()


def test_the_driver_that_has_it_is_not_disturbed(machine: Machine) -> None:
    vf = machine.nics[0].vf(0)
    before = machine.netlink.space()["eth1v0"]
    driver.bind(machine.sim, vf, "igbvf")
    assert machine.netlink.space()["eth1v0"] == before


def test_an_override_is_given_back(machine: Machine) -> None:
    vf = machine.nics[0].vf(0)
    machine.sim.write(device_path(vf, "driver_override"), "igbvf")
    driver.bind(machine.sim, vf, "vfio-pci")
    driver.restore(machine.sim, vf, "igbvf", "igbvf")
    assert driver.current_override(machine.sim, vf) == "igbvf"
    assert driver.current_driver(machine.sim, vf) == "igbvf"


def test_no_driver_is_given_back_too(machine: Machine) -> None:
    vf = machine.nics[0].vf(0)
    driver.unbind(machine.sim, vf)
    driver.unbind(machine.sim, vf)
    driver.bind(machine.sim, vf, "vfio-pci")
    driver.restore(machine.sim, vf, None, None)
    assert driver.current_driver(machine.sim, vf) is None


@pytest.mark.parametrize(
    "code",
    [errno.ENODEV, errno.EBUSY, errno.EINVAL, errno.EPERM, errno.EACCES, errno.EIO],
    ids=errno.errorcode.get,
)
def test_a_refused_bind_carries_its_errno_and_leaves_no_override(
    machine: Machine, code: int
) -> None:
    vf = machine.nics[0].vf(0)
    machine.sim.fail(BIND, code)
    with pytest.raises(BindError) as caught:
        driver.bind(machine.sim, vf, "vfio-pci")
    assert caught.value.errno == code
    assert caught.value.driver == "vfio-pci"
    assert driver.current_override(machine.sim, vf) is None


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENODEV])
def test_a_probe_that_fails(machine: Machine, code: int) -> None:
    vf = machine.nics[0].vf(0)
    machine.sim.fail(f"probe/uio_pci_generic/{vf}", code)
    with pytest.raises(BindError) as caught:
        driver.bind(machine.sim, vf, "uio_pci_generic")
    assert caught.value.errno == code


def test_success_is_what_the_link_says(machine: Machine) -> None:
    vf = machine.nics[0].vf(0)
    machine.sim.fail(BIND, errno.ENODEV, after=True)
    driver.bind(machine.sim, vf, "vfio-pci")
    assert driver.current_driver(machine.sim, vf) == "vfio-pci"


@pytest.mark.parametrize("code", [errno.ENODEV, errno.EPERM])
def test_a_refused_unbind(machine: Machine, code: int) -> None:
    vf = machine.nics[0].vf(0)
    machine.sim.fail("bus/pci/drivers/igbvf/unbind", code)
    with pytest.raises(BindError) as caught:
        driver.unbind(machine.sim, vf)
    assert caught.value.errno == code
    machine.sim.fail("bus/pci/drivers/igbvf/unbind", errno.ENODEV, after=True)
    driver.unbind(machine.sim, vf)


def test_a_kernel_without_driver_override(machine: Machine) -> None:
    vf = machine.nics[0].vf(0)
    machine.sim.tree.remove(device_path(vf, "driver_override"))
    with pytest.raises(BindError) as caught:
        driver.bind(machine.sim, vf, "vfio-pci")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("name", ["", ".", "..", "../igbvf", "nothing", "vfio-pci/x", "a\0b"])
def test_names_that_are_no_driver(machine: Machine, name: str) -> None:
    with pytest.raises(BindError):
        driver.check_bindable(machine.sim, machine.nics[0].vf(0), name)


def test_what_cannot_work_is_refused_beforehand(tmp_path: Path) -> None:
    bare = build(str(tmp_path / "a"), Nic(iommu=False))
    with pytest.raises(BindError, match="IOMMU"):
        driver.check_bindable(bare.sim, bare.nics[0].vf(0), "vfio-pci")
    bare.sim.tree.put("module/vfio/parameters/enable_unsafe_noiommu_mode", "Y")
    driver.check_bindable(bare.sim, bare.nics[0].vf(0), "vfio-pci")
    cx5 = Nic(driver="mlx5_core", vf_driver=None, vendor="15b3", device="1017", vf_device="1018")
    mellanox = build(str(tmp_path / "b"), cx5)
    with pytest.raises(BindError, match="mlx5_core"):
        driver.check_bindable(mellanox.sim, cx5.vf(0), "vfio-pci")
