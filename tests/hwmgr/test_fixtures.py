"""Every node of sysfs_fixtures/ is read as the expected.json beside it says."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.devicefiles import device_files
from hwmgr.driver import check_bindable
from hwmgr.errors import BindError, NoSuchDevice
from hwmgr.inventory import inventory
from hwmgr.pci import find_pf, find_vf
from hwmgr.pfinventory import pf_inventory
from hwmgr.rdma import rdma_devices, verbs_files
from hwmgr.representor import representor
from scripts.benchrig.sysfstree import Size, write_tree
from tests.fakes import fixtures
from tests.fakes.nodes import node_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.inventory import VFInfo
    from hwmgr.node import Node
    from hwmgr.pfinventory import PFInfo

ROOT = Path(__file__).parents[2] / "sysfs_fixtures"
NAMES = sorted(path.name for path in ROOT.iterdir() if path.is_dir())
MELLANOX = [name for name in NAMES if name.startswith("cx")]


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / name / "expected.json").read_text())
    return found


@pytest.fixture(scope="module")
def node(name: str) -> Iterator[Node]:
    with tempfile.TemporaryDirectory() as made:
        yield node_of(name, Path(made))


def node_of(name: str, made: Path) -> Node:
    size = ROOT / name / "size.json"
    if not size.exists():
        return node_on(ROOT / name)
    write_tree(f"{made}/sys", Size(**json.loads(size.read_text())))
    return node_on(made)


def pf_view(info: PFInfo) -> dict[str, object]:
    pf = info.pf
    return {
        "netdevs": list(pf.netdevs),
        "driver": pf.driver,
        "ids": f"{pf.vendor}:{pf.device}",
        "vfs": f"{pf.num_vfs}/{pf.total_vfs}",
        "free": info.free_vfs,
        "numaNode": pf.numa_node,
        "eswitchMode": info.eswitch_mode,
    }


def vf_view(node: Node, info: VFInfo) -> dict[str, object]:
    vf, sysfs = info.vf, node.sysfs
    files = (*device_files(sysfs, vf.address), *verbs_files(sysfs, vf.address))
    sometimes: dict[str, object] = {
        "reason": info.reason,
        "driverOverride": vf.driver_override,
        "representor": representor(sysfs, info.pf_ifname, vf.index) if info.pf_ifname else None,
        "rdma": list(rdma_devices(sysfs, vf.address)),
        "deviceFiles": list(files),
    }
    return {
        "pf": vf.pf_address,
        "index": vf.index,
        "ids": f"{vf.vendor}:{vf.device}",
        "driver": vf.driver,
        "netdevs": list(vf.netdevs),
        "state": str(info.state),
        "iommuGroup": vf.iommu_group,
        "numaNode": vf.numa_node,
        **{key: value for key, value in sometimes.items() if value},
    }


def test_it_says_where_it_comes_from(name: str) -> None:
    text = (ROOT / name / "README.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert "Recorded with" in text or "Written, " in text
    assert f"| `{name}` |" in (ROOT / "README.md").read_text()


def test_physical_functions(node: Node, expected: dict[str, Any]) -> None:
    found = {info.pf.address: pf_view(info) for info in pf_inventory(node)}
    if "counts" in expected:
        assert len(found) == expected["counts"]["pfs"]
        found = {address: found[address] for address in expected["pfs"]}
    assert found == expected["pfs"]


def test_virtual_functions(node: Node, expected: dict[str, Any]) -> None:
    infos = inventory(node)
    if "counts" in expected:
        counts = expected["counts"]
        assert (len(infos), sum(i.state == "free" for i in infos)) == (
            counts["vfs"],
            counts["free"],
        )
        infos = [info for info in infos if info.vf.address in expected["vfs"]]
    found = {info.vf.address: vf_view(node, info) for info in infos}
    assert list(found) == list(expected["vfs"])
    assert found == expected["vfs"]
    assert all(find_vf(node.sysfs, info.vf.address) == info.vf for info in infos)
    assert all(find_pf(node.sysfs, address) for address in expected["pfs"])


def test_what_may_be_bound_and_what_may_not(node: Node, expected: dict[str, Any]) -> None:
    for address, driver in expected.get("bindable", {}).items():
        check_bindable(node.sysfs, address, driver)
    for address, drivers in expected.get("refused", {}).items():
        for driver, reason in drivers.items():
            with pytest.raises(BindError, match=reason):
                check_bindable(node.sysfs, address, driver)


def test_what_is_no_virtual_function(node: Node, expected: dict[str, Any]) -> None:
    for address, reason in expected.get("noVfs", {}).items():
        with pytest.raises(NoSuchDevice, match=reason):
            find_vf(node.sysfs, address)


def test_device_files_of_what_has_no_pf(node: Node, expected: dict[str, Any]) -> None:
    for address, files in expected.get("deviceFiles", {}).items():
        assert list(device_files(node.sysfs, address)) == files


@pytest.mark.parametrize("name", MELLANOX)
def test_no_function_of_a_bifurcated_driver_is_ever_rebound(name: str, tmp_path: Path) -> None:
    """Nor is one that has no driver at the moment: a userspace driver would not do for DPDK."""
    shutil.copytree(ROOT / name / "sys", tmp_path / "sys", symlinks=True)
    node = node_on(tmp_path)
    infos = inventory(node)
    assert infos
    for info in infos:
        address = info.vf.address
        for driver in ("vfio-pci", "igb_uio", "uio_pci_generic"):
            with pytest.raises(BindError, match="never rebound"):
                check_bindable(node.sysfs, address, driver)
        check_bindable(node.sysfs, address, info.vf.driver or "")
        (tmp_path / "sys/bus/pci/devices" / address / "driver").unlink()
        with pytest.raises(BindError, match="never rebound"):
            check_bindable(node.sysfs, address, "vfio-pci")
        check_bindable(node.sysfs, address, info.vf.driver or "")


def test_the_trees_are_what_their_writer_writes(tmp_path: Path) -> None:
    for name in fixtures.FIXTURES:
        fixtures.write(name, f"{tmp_path}/{name}")
        assert files(tmp_path / name / "sys") == files(ROOT / name / "sys"), name


def files(root: Path) -> dict[str, str]:
    """Return files and links; git keeps no empty folders."""
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }
