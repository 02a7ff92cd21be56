"""Writes the sysfs_fixtures/ that are not recorded: ``python -m tests.fakes.fixtures FOLDER``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile

from hwmgr.pci import device_path
from tests.fakes.netlink import FakeNetlink
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
CX5 = Nic(
    address="0000:5e:00.0",
    ifname="enp94s0f0np0",
    driver="mlx5_core",
    vf_driver=None,
    vendor="15b3",
    device="1017",
    vf_device="1018",
    total=8,
    vfs=3,
    offset=2,
    stride=1,
    numa_node=1,
    switch_id="9803130003ca1e00",
)
CX3 = Nic(
    address="0000:04:00.0",
    ifname="ens1",
    driver="mlx4_core",
    vf_driver=None,
    vendor="15b3",
    device="1003",
    vf_device="1004",
    total=8,
    vfs=2,
    offset=1,
    stride=1,
    ports=2,
)


def _built(folder: str, *nics: Nic) -> FakeNetlink:
    netlink = FakeNetlink()
    sim = netlink.machine(folder)
    for nic in nics:
        sim.add_nic(nic)
    return netlink


def x710(folder: str) -> None:
    """Two ports, four VFs each; VF 2 of the first is on vfio-pci, VF 3 has no driver."""
    netlink = _built(folder, *X710)
    sim = netlink.sim
    if sim is None:
        return
    nic = X710[0]
    sim.write("bus/pci/drivers/iavf/unbind", nic.vf(3))
    sim.write("bus/pci/drivers/iavf/unbind", nic.vf(2))
    sim.write(device_path(nic.vf(2), "driver_override"), "vfio-pci")
    sim.write("bus/pci/drivers/vfio-pci/bind", nic.vf(2))


def wide_domain(folder: str) -> None:
    """A card behind a VMD: PCI domain 10000, no IOMMU groups."""
    _built(folder, WIDE)


def cx5_switchdev(folder: str) -> None:
    """Switchdev mode: each VF has a representor, a netdev of the PF's function."""
    netlink = _built(folder, CX5)
    sim = netlink.sim
    if sim is None:
        return
    for index in range(CX5.vfs):
        shown = Shown(
            index=40 + index,
            name=f"enp94s0f0r{index}",
            mac=f"02:fb:00:00:00:{index:02x}",
            switch_id=CX5.switch_id,
            port_name=f"pf0vf{index}",
        )
        sim.tree.show_netdev(CX5.address, shown)


def cx3_shared(folder: str) -> None:
    """Dual-port mlx4: every function, PF or VF, has two netdevs."""
    _built(folder, CX3)


FIXTURES = {
    "x710-i40e": x710,
    "wide-domain": wide_domain,
    "cx5-switchdev": cx5_switchdev,
    "cx3-shared": cx3_shared,
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
