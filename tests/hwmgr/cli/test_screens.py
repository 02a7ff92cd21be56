"""What people see of lists at 80 and at 200 columns, with names as long as they come."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwmgr.cli import columns as cli_columns
from hwmgr.cli import views as cli_views
from hwmgr.cli.output import Output, Screen, render, text_of
from hwmgr.driver import bind
from hwmgr.inventory import inventory
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, Kind, PciAddress
from hwmgr.pfinventory import pf_inventory
from tests.fakes.machine import build
from tests.fakes.nodes import node_on
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.machine import Machine

FIXTURES = Path(__file__).parents[3] / "sysfs_fixtures"
LONG = Nic(
    address="10000:10:00.0",
    ifname="enp16s0f0np0",
    driver="i40e",
    vf_driver="iavf",
    device="1572",
    vf_device="154c",
    total=64,
    vfs=3,
    offset=16,
    stride=1,
    numa_node=0,
)


@pytest.fixture
def node(in_memory: Path) -> Iterator[Machine]:
    machine = build(str(in_memory), LONG)
    request = AttachRequest(
        container_id="feedbeef" * 8,
        ifname="net1",
        netns_path=machine.namespace().path,
        kind=Kind.VF,
        device=PciAddress(LONG.vf(0)),
        pod_namespace="telco-user-plane",
        pod_name="user-plane-function-worker-7d9c5b6f4d-x2x4z",
    )
    Manager(machine.node).attach(request)
    bind(machine.sim, LONG.vf(1), "uio_pci_generic")
    yield machine
    machine.close()


def vf_list(machine: Machine, width: int | None, output: Output = Output.TABLE) -> str:
    rows = [cli_views.vf_row(i) for i in inventory(machine.node)]
    return render(rows, cli_columns.VF_COLUMNS, output, Screen(width))


def test_vf_list_at_80(node: Machine) -> None:
    assert (
        vf_list(node, 80)
        == """\
ADDRESS        PF            VF  STATE      OWNER
10000:10:02.0  enp16s0f0np0  0   allocated  user-plane-functio…-7d9c5b6f4d-x2x4z
10000:10:02.1  enp16s0f0np0  1   dirty      -
10000:10:02.2  enp16s0f0np0  2   free       -"""
    )


def test_vf_list_at_120(node: Machine) -> None:
    """What is least asked for goes before the pod's name does: the VLAN is not shown."""
    lines = vf_list(node, 120).splitlines()
    assert lines[0].split() == [
        "ADDRESS", "PF", "VF", "STATE", "DRIVER", "IFNAME", "OWNER", "MAC",
    ]  # fmt: skip
    assert lines[1].endswith("  user-plane-f…b6f4d-x2x4z  02:5a:00:00:00:00")


def test_vf_list_at_200(node: Machine) -> None:
    gap, owner = " " * 66, "telco-user-plane/user-plane-function-worker-7d9c5b6f4d-x2x4z net1"
    lines = vf_list(node, 200).splitlines()
    assert lines == [
        "ADDRESS        PF            VF  STATE      DRIVER           IFNAME          "
        f"{'OWNER'.ljust(66)} MAC                VLAN",
        "10000:10:02.0  enp16s0f0np0  0   allocated  iavf             -               "
        f"{owner}  02:5a:00:00:00:00  -",
        "10000:10:02.1  enp16s0f0np0  1   dirty      uio_pci_generic  -               "
        f"-{gap}02:5a:00:00:00:01  -",
        "10000:10:02.2  enp16s0f0np0  2   free       iavf             enp16s0f0np0v2  "
        f"-{gap}02:5a:00:00:00:02  -",
    ]


def test_vf_list_wide_at_200(node: Machine) -> None:
    text = vf_list(node, 200, Output.WIDE)
    assert max(map(len, text.splitlines())) <= 200
    assert "  user-plane-fu…5b6f4d-x2x4z  " in text
    assert "  held by pod telco" in text
    assert "  left over: driver" in text


def test_vf_list_piped_is_whole(node: Machine) -> None:
    text = vf_list(node, None, Output.WIDE)
    assert "telco-user-plane/user-plane-function-worker-7d9c5b6f4d-x2x4z net1" in text
    assert "left over: driver uio_pci_generic" in text


def test_pf_list_at_80(node: Machine) -> None:
    rows = [cli_views.pf_row(i) for i in pf_inventory(node.node)]
    assert (
        render(rows, cli_columns.PF_COLUMNS, Output.TABLE, Screen(80))
        == """\
ADDRESS        IFNAME        DRIVER  VFS  FREE  TOTAL  LINK  MODE    NUMA
10000:10:00.0  enp16s0f0np0  i40e    3    1     64     up    legacy  0"""
    )


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("form", [Output.TABLE, Output.WIDE])
@pytest.mark.parametrize("name", sorted(p.parent.name for p in FIXTURES.glob("*/sys")))
def test_the_lists_of_every_node_are_aligned(name: str, form: Output, width: int) -> None:
    """Each value begins below its title, and nothing is wider than the screen."""
    node = node_on(FIXTURES / name)
    pfs = [cli_views.pf_row(i) for i in pf_inventory(node)]
    vfs = [cli_views.vf_row(i) for i in inventory(node)]
    for rows, columns in ((pfs, cli_columns.PF_COLUMNS), (vfs, cli_columns.VF_COLUMNS)):
        head, *lines = render(rows, columns, form, Screen(width)).splitlines()
        assert len(lines) == len(rows)
        assert max(map(len, [head, *lines])) <= width
        shown = [c for c in columns if re.search(rf"(^|  ){c.title}(  |$)", head)]
        begins = [head.index(c.title) for c in shown]
        assert begins == sorted(begins)
        assert [c.title for c in shown[:1]] == ["ADDRESS"]
        for line, row in zip(lines, rows, strict=True):
            for begin, end, column in zip(begins, [*begins[1:], None], shown, strict=True):
                cell = line[begin:end].rstrip()
                text = text_of(row[column.key])
                assert cell == text or (column.shrink and cell.rstrip("…") in text)
