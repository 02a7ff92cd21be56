"""A node with 1,024 VFs: everything is found, and costs little more than a bare walk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from hwmgr.inventory import inventory
from hwmgr.model import VFState
from hwmgr.pci import list_pfs
from hwmgr.pfinventory import pf_inventory
from scripts.benchrig.sysfstree import Size, main, write_tree
from scripts.benchrig.walk import walk
from tests.fakes.nodes import node_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hwmgr.node import Node

ROUNDS = 7


@contextmanager
def made(base: Path, size: Size) -> Iterator[Node]:
    write_tree(f"{base}/sys", size)
    yield node_on(base)


def cheapest(*functions: Callable[[], object]) -> list[float]:
    """Return the least CPU time of each, taken in turns: other work on the machine adds to all."""
    found = [float("inf")] * len(functions)
    for _ in range(ROUNDS):
        for number, function in enumerate(functions):
            start = time.thread_time()
            function()
            found[number] = min(found[number], time.thread_time() - start)
    return found


def test_it_says_what_the_walk_says_and_costs_less_than_twice_as_much(in_memory: Path) -> None:
    size = Size(pfs=16, vfs=64)
    with made(in_memory, size) as node:
        found = inventory(node)
        assert [i.vf.address for i in found] == [
            size.vf(p, v) for p in range(16) for v in range(64)
        ]
        assert {i.state for i in found} == {VFState.FREE}
        for info, (pf, address, walked) in zip(found, walk(node.sysfs.root), strict=True):
            driver, override, netdevs, vendor, device, numa_node, group = walked
            vf = info.vf
            assert (vf.address, vf.pf_address, vf.driver) == (address, pf, driver)
            assert (vf.vendor, vf.device) == (str(vendor)[2:-1], str(device)[2:-1])
            assert (vf.iommu_group, vf.numa_node) == (group, int(numa_node or -1))
            assert (override, vf.driver_override) == ("(null)\n", None)
            assert [(name, "\n", None) for name in vf.netdevs] == netdevs
        mine, bare = cheapest(lambda: inventory(node), lambda: walk(node.sysfs.root))
        assert mine <= 2 * bare, f"{mine / bare:.2f} times a bare walk"


def test_the_cost_grows_with_the_number_of_vfs_alone(in_memory: Path) -> None:
    small, large = in_memory / "small", in_memory / "large"
    with made(small, Size(4, 64)) as few, made(large, Size(16, 128)) as many:
        one, eight = cheapest(lambda: inventory(few), lambda: inventory(many))
    assert eight <= 8 * one * 1.3, f"{eight / one:.1f} times the cost for 8 times the VFs"


def test_pfs_of_it(in_memory: Path) -> None:
    with made(in_memory, Size(3, 300)) as node:
        assert [pf.address for pf in list_pfs(node.sysfs)] == [Size().pf(n) for n in range(3)]
        assert [(p.free_vfs, p.pf.num_vfs, p.pf.ifname) for p in pf_inventory(node)] == [
            (300, 300, f"enp{2 * n + 1}s0") for n in range(3)
        ]


def test_the_command_makes_the_tree_and_hwmgr_lists_it_without_the_client_libraries(
    tmp_path: Path,
) -> None:
    root = tmp_path / "tree"
    maker = [sys.executable, "scripts/make-sysfs", str(root), "--pfs", "2", "--vfs", "5"]
    subprocess.run(maker, check=True)
    code = (
        "import sys; from hwmgr.cli.start import main; status = main(sys.argv[1:]); "
        "heavy = {'typer', 'pyroute2', 'pyudev', 'subprocess', 'yaml'} & set(sys.modules); "
        "sys.exit(f'{status} {heavy}' if status or heavy else 0)"
    )
    words = ["--sysfs", str(root), "--state-dir", str(tmp_path / "none"), "vf", "list"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "HWMGR_CONFIG": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "ADDRESS", *(Size().vf(pf, vf) for pf in range(2) for vf in range(5)),
    ]  # fmt: skip


@pytest.mark.parametrize("words", [["--pfs", "0"], ["--pfs", "128"], ["--vfs", "489"]])
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "tree"), *words])
    assert not (tmp_path / "tree").exists()


def test_a_folder_with_something_in_it_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").touch()
    assert main([str(tmp_path)]) == 1
    assert "not empty" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["mine"]
