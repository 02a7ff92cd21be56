"""What differs by driver and by class: vfio's variants, accelerators, disks, groups, bifurcated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwmgr.cli import vfmap, vfmap_text
from hwmgr.cli.output import Screen
from hwmgr.devicefiles import device_files
from hwmgr.driver import check_bindable
from hwmgr.errors import BindError
from hwmgr.inventory import inventory
from hwmgr.iommugroups import not_viable
from hwmgr.pci import device_path
from hwmgr.pfinventory import pf_inventory
from hwmgr.sysfs import Sysfs

if TYPE_CHECKING:
    from tests.fakes.machine import Machine

FIXTURES = Path(__file__).parents[2] / "sysfs_fixtures"
PF = "0000:01:00.0"
VF = "0000:01:10.2"


def only(machine: Machine, address: str) -> tuple[str, str]:
    info = next(i for i in inventory(machine.node) if i.vf.address == address)
    return str(info.state), info.reason


def test_a_variant_of_vfio_is_a_userspace_driver(machine: Machine) -> None:
    """mlx5_vfio_pci, for live migration: a virtual machine has it, and no namespace."""
    tree = machine.sim.tree
    tree.add_driver("mlx5_vfio_pci")
    machine.sim.write("bus/pci/drivers/igbvf/unbind", VF)
    machine.sim.write(device_path(VF, "driver_override"), "mlx5_vfio_pci")
    machine.sim.write("bus/pci/drivers/mlx5_vfio_pci/bind", VF)
    machine.sim.write(device_path(VF, "driver_override"), "\n")
    assert only(machine, VF) == ("foreign", "mlx5_vfio_pci has it, for a virtual machine")
    group = machine.sim.link_name(device_path(VF, "iommu_group"))
    assert device_files(machine.sim, VF) == (f"/dev/vfio/{group}", "/dev/vfio/vfio")
    vfs = inventory(machine.node)
    text = vfmap_text.render(vfmap.build(pf_inventory(machine.node, vfs), vfs), Screen(80))
    assert "· Fv·" in text
    assert text.endswith("after the state: v vfio-pci")


def test_a_disk_that_could_have_vfs_is_not_listed(machine: Machine) -> None:
    tree = machine.sim.tree
    tree.add_function("0000:81:00.0", "144d", "a824", group=None)
    tree.put(device_path("0000:81:00.0", "class"), "0x010802")
    tree.put(device_path("0000:81:00.0", "sriov_totalvfs"), 32)
    tree.put(device_path("0000:81:00.0", "sriov_numvfs"), 0)
    assert [info.pf.address for info in pf_inventory(machine.node)] == [PF]


def test_an_accelerators_vf_has_no_netdev_anywhere(machine: Machine) -> None:
    for address in (PF, VF):
        machine.sim.tree.put(device_path(address, "class"), "0x0b4000")
    machine.sim.tree.hide_netdev(VF, "eth1v1")
    assert only(machine, VF) == ("free", "")
    assert len(pf_inventory(machine.node)) == 1


def test_the_rest_of_a_group_is_named() -> None:
    problem = not_viable(Sysfs(str(FIXTURES / "82599-ixgbe/sys")), "0000:03:10.0")
    assert problem is not None
    assert "0000:03:00.0 on ixgbe, 0000:03:00.1 on ixgbe, 0000:03:10.0 on ixgbevf" in problem
    assert not_viable(Sysfs(str(FIXTURES / "vm-without-pf/sys")), "0000:00:07.0") is None


@pytest.mark.parametrize("name", ["mlx4_core", "mlx5_core", "mana"])
def test_a_refusal_says_what_to_do_instead(machine: Machine, name: str) -> None:
    machine.sim.tree.add_driver(name)
    machine.sim.write("bus/pci/drivers/igbvf/unbind", VF)
    machine.sim.write(device_path(VF, "driver_override"), name)
    machine.sim.write(f"bus/pci/drivers/{name}/bind", VF)
    with pytest.raises(
        BindError, match=r"never rebound to vfio-pci: leave it there, and give .*uve"
    ):
        check_bindable(machine.sim, VF, "vfio-pci")
