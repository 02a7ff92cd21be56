"""Writes the sysfs_fixtures/ that are not recorded: ``python -m tests.fakes.fixtures FOLDER``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile

from hwmgr.pci import device_path
from tests.fakes.fixtures_mellanox import MELLANOX, built
from tests.fakes.kernel_sim import KernelSim, NoNetdevs
from tests.fakes.tree import Nic, Shown

X710 = tuple(
    Nic(
        address=f"0000:3b:00.{port}",
        ifname=f"enp59s0f{port}",
        driver="i40e",
        vf_driver="iavf",
        device="1572",
        vf_device="154c",
        total=64,
        vfs=4,
        offset=16 + 63 * port,
        stride=1,
        numa_node=0,
    )
    for port in (0, 1)
)
WIDE = Nic(
    address="10000:01:00.0",
    ifname="enP65536p1s0",
    driver="i40e",
    vf_driver="iavf",
    device="1572",
    vf_device="154c",
    total=32,
    vfs=2,
    offset=16,
    stride=1,
    iommu=False,
)
E810 = tuple(
    Nic(
        address=f"0000:17:00.{port}",
        ifname=f"ens785f{port}np{port}",
        driver="ice",
        vf_driver="iavf",
        device="1592",
        vf_device="1889",
        total=128,
        vfs=vfs,
        offset=8 + 127 * port,
        stride=1,
        numa_node=0,
        # The card's, made from its serial number, in whatever mode (ice_devlink_set_switch_id()).
        switch_id="b49691fffe000001",
    )
    for port, vfs in ((0, 3), (1, 1))
)
IXGBE = tuple(
    Nic(
        address=f"0000:03:00.{port}",
        ifname=f"enp3s0f{port}",
        driver="ixgbe",
        vf_driver="ixgbevf",
        device="10fb",
        vf_device="10ed",
        total=63,
        vfs=3,
        offset=128,
        stride=2,
    )
    for port in (0, 1)
)


def x710(folder: str) -> None:
    """Two ports, four VFs each; VF 2 of the first is on vfio-pci, VF 3 has no driver."""
    sim = built(folder, *X710)
    nic = X710[0]
    sim.write("bus/pci/drivers/iavf/unbind", nic.vf(3))
    sim.write("bus/pci/drivers/iavf/unbind", nic.vf(2))
    sim.write(device_path(nic.vf(2), "driver_override"), "vfio-pci")
    sim.write("bus/pci/drivers/vfio-pci/bind", nic.vf(2))


def wide_domain(folder: str) -> None:
    """A card behind a VMD: PCI domain 10000, no IOMMU groups."""
    built(folder, WIDE)


def e810_switchdev(folder: str) -> None:
    """One port in switchdev mode with a representor for each VF, the other in legacy mode."""
    sim = built(folder, *E810)
    sim.tree.put(f"class/net/{E810[1].ifname}/phys_port_name", "p1")
    for index in range(3):
        shown = Shown(
            index=60 + index,
            name=f"ens785f0npf0vf{index}",
            mac=f"02:fc:00:00:00:{index:02x}",
            switch_id=E810[0].switch_id,
            port_name=f"pf0vf{index}",
        )
        sim.tree.show_netdev(E810[0].address, shown)
    sim.write(f"bus/pci/devices/{E810[0].vf(2)}/driver/unbind", E810[0].vf(2))
    sim.write(device_path(E810[0].vf(2), "driver_override"), "vfio-pci")
    sim.write("bus/pci/drivers/vfio-pci/bind", E810[0].vf(2))
    sim.write(device_path(E810[0].vf(2), "driver_override"), "\n")


def ixgbe_82599(folder: str) -> None:
    """Both ports' VFs interleave; a root port without ACS; a VF that came back as ``dev7``."""
    sim = built(folder, *IXGBE)
    tree = sim.tree
    first = tree.functions()[0]
    for address in tree.functions()[1:]:
        group = sim.link_name(device_path(address, "iommu_group"))
        home = f"devices/pci0000:00/{address}"
        tree.remove(f"{home}/iommu_group")
        tree.remove(f"kernel/iommu_groups/{group}")
        tree.link(f"{home}/iommu_group", "kernel/iommu_groups/0")
        tree.link(f"kernel/iommu_groups/0/devices/{address}", home)
    assert sim.link_name(device_path(first, "iommu_group")) == "0"
    lost = IXGBE[1].vf(1)
    tree.hide_netdev(lost, f"{IXGBE[1].ifname}v1")
    tree.show_netdev(lost, Shown(index=7, name="dev7", mac="02:fa:00:00:00:77"))


def vm_without_pf(folder: str) -> None:
    """A guest: virtio, a VF that was passed through, and one on vfio-pci without an IOMMU."""
    sim = KernelSim(folder, NoNetdevs())
    tree = sim.tree
    for driver in ("virtio-pci", "iavf", "vfio-pci"):
        tree.add_driver(driver)
    tree.put("module/vfio/parameters/enable_unsafe_noiommu_mode", "Y")
    for address, vendor, device in (
        ("0000:00:03.0", "1af4", "1041"),
        ("0000:00:06.0", "8086", "154c"),
        ("0000:00:07.0", "8086", "154c"),
    ):
        tree.add_function(address, vendor, device, group=None)
    sim.write("bus/pci/drivers/virtio-pci/bind", "0000:00:03.0")
    sim.write("bus/pci/drivers/iavf/bind", "0000:00:06.0")
    tree.show_netdev("0000:00:06.0", Shown(index=3, name="ens6", mac="02:fa:00:00:00:06"))
    # A virtio netdev's parent is the virtio device, which is a child of the PCI function.
    home = "devices/pci0000:00/0000:00:03.0/virtio0"
    for name, value in (("ifindex", 2), ("address", "02:fa:00:00:00:03"), ("mtu", 1500)):
        tree.put(f"{home}/net/ens3/{name}", value)
    tree.link(f"{home}/net/ens3/device", home)
    tree.link("class/net/ens3", f"{home}/net/ens3")
    # vfio-pci without an IOMMU makes a group of its own, by name (vfio_noiommu_group_alloc()).
    guest = "0000:00:07.0"
    sim.write(device_path(guest, "driver_override"), "vfio-pci")
    sim.write("bus/pci/drivers/vfio-pci/bind", guest)
    tree.put("kernel/iommu_groups/0/name", "vfio-noiommu")
    tree.link(f"kernel/iommu_groups/0/devices/{guest}", f"devices/pci0000:00/{guest}")
    tree.link(f"devices/pci0000:00/{guest}/iommu_group", "kernel/iommu_groups/0")


FIXTURES = {
    "x710-i40e": x710,
    "wide-domain": wide_domain,
    "e810-switchdev": e810_switchdev,
    "82599-ixgbe": ixgbe_82599,
    "vm-without-pf": vm_without_pf,
    **MELLANOX,
}


def write(name: str, folder: str) -> None:
    """Write one fixture's tree to ``<folder>/sys``."""
    with tempfile.TemporaryDirectory() as base:
        FIXTURES[name](base)
        if os.path.exists(f"{folder}/sys"):
            shutil.rmtree(f"{folder}/sys")
        shutil.copytree(f"{base}/sys", f"{folder}/sys", symlinks=True)


if __name__ == "__main__":
    for each in FIXTURES:
        write(each, f"{sys.argv[1]}/{each}")
