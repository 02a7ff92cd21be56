"""What is told of every fixture, beside what a reader that shares no code with hwmgr tells."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwmgr.devicefiles import device_files
from hwmgr.inventory import inventory
from hwmgr.pfinventory import pf_inventory
from hwmgr.rdma import rdma_devices, verbs_files
from hwmgr.representor import representor
from tests.hwmgr.plainreader import Plain
from tests.hwmgr.test_fixtures import NAMES, node_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.node import Node


@pytest.fixture(scope="module", params=NAMES)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with tempfile.TemporaryDirectory() as made:
        yield node_of(str(request.param), Path(made))


@pytest.fixture(scope="module")
def plain(node: Node) -> Plain:
    return Plain(Path(node.sysfs.root))


def test_a_kernel_could_show_it(plain: Plain) -> None:
    assert plain.implausible() == []


def test_pfs(node: Node, plain: Plain) -> None:
    found = {
        info.pf.address: {
            "ids": f"{info.pf.vendor}:{info.pf.device}",
            "driver": info.pf.driver,
            "netdevs": sorted(info.pf.netdevs),
            "total": info.pf.total_vfs,
            "num": info.pf.num_vfs,
            "numa": info.pf.numa_node,
        }
        for info in pf_inventory(node)
    }
    expected = plain.pfs()
    assert found == {a: {k: v for k, v in pf.items() if k != "vfs"} for a, pf in expected.items()}
    modes = {info.pf.address: info.eswitch_mode for info in pf_inventory(node)}
    assert modes == {address: plain.mode(address) for address in expected}


def test_vfs(node: Node, plain: Plain) -> None:
    found = {
        info.vf.address: {
            "ids": f"{info.vf.vendor}:{info.vf.device}",
            "driver": info.vf.driver,
            "netdevs": sorted(info.vf.netdevs),
            "numa": info.vf.numa_node,
            "group": info.vf.iommu_group,
            "rdma": list(rdma_devices(node.sysfs, info.vf.address)),
            "files": [
                *device_files(node.sysfs, info.vf.address),
                *verbs_files(node.sysfs, info.vf.address),
            ],
            "state": str(info.state),
        }
        for info in inventory(node)
    }
    addresses = [vf for pf in plain.pfs().values() for vf in pf["vfs"].values()]
    assert list(found) == addresses
    assert found == {address: plain.vf(address) for address in addresses}


def test_each_vf_has_its_place_and_its_representor(node: Node, plain: Plain) -> None:
    pfs = plain.pfs()
    for info in inventory(node):
        pf = info.vf.pf_address
        assert pfs[pf]["vfs"][info.vf.index] == info.vf.address
        told = representor(node.sysfs, info.pf_ifname, info.vf.index) if info.pf_ifname else None
        assert told == plain.representor(pf, info.vf.index)
