"""Discovery on a tree recorded from a real kernel: two 82576 with seven VFs each."""

from __future__ import annotations

from pathlib import Path

from hwmgr.model import PciAddress
from hwmgr.pci import find_pf, find_vf, list_pfs, list_vfs, vf_address
from hwmgr.representor import representor
from hwmgr.sysfs import Sysfs

NODE = Sysfs(str(Path(__file__).parents[2] / "sysfs_fixtures/igb-82576/sys"))


def test_pfs_and_vfs() -> None:
    pfs = list_pfs(NODE)
    assert [(p.address, p.ifname, p.driver, p.num_vfs, p.total_vfs) for p in pfs] == [
        ("0000:01:00.0", "enp1s0", "igb", 7, 7),
        ("0000:02:00.0", "enp2s0", "igb", 7, 7),
    ]
    for pf in pfs:
        vfs = list_vfs(NODE, pf.address)
        assert [vf.index for vf in vfs] == list(range(7))
        assert {vf.driver for vf in vfs} == {"igbvf"}
        assert len({vf.iommu_group for vf in vfs}) == 7
        assert [vf.address for vf in vfs] == [vf_address(pf.address, 128, 2, n) for n in range(7)]
        assert [vf.ifname for vf in vfs] == [f"{pf.ifname}v{n}" for n in range(7)]


def test_one_vf() -> None:
    vf = find_vf(NODE, "0000:02:10.4")
    assert (vf.pf_address, vf.index, vf.device) == ("0000:02:00.0", 2, "10ca")
    assert find_pf(NODE, PciAddress(vf.pf_address)).device == "10c9"
    assert representor(NODE, "enp2s0", 2) is None
