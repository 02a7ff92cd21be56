"""The map of the node: as text at several widths, as JSON, as SVG; and the command."""

from __future__ import annotations

import io
import json
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.cli import vfmap, vfmap_svg, vfmap_text
from hwmgr.cli.app import main
from hwmgr.cli.output import Screen
from hwmgr.cli.session import Session
from hwmgr.cli.vfmap import Cell, MapNode, MapPF, VFMap
from hwmgr.inventory import inventory
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, Kind, PciAddress, VFState
from hwmgr.pfinventory import pf_inventory
from tests.fakes.machine import build
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.machine import Machine

FIXTURES = Path(__file__).parents[3] / "sysfs_fixtures"
STATES = list(VFState)


def cell(index: int, state: VFState = VFState.FREE, driver: str | None = "iavf") -> Cell:
    address = f"0000:3b:{2 + index // 8:02x}.{index % 8}"
    return Cell(address, index, state, driver, None, None, "")


def pf(*cells: Cell, ifname: str | None = "enp59s0f0", address: str = "0000:3b:00.0") -> MapPF:
    return MapPF(address, ifname, "i40e", 64, "up", "legacy", cells)


def mixed() -> VFMap:
    """One VF of every state and driver, then twelve free ones; a PF without VFs; one unplaced."""
    special = [cell(i, state) for i, state in enumerate(STATES)]
    bound = [
        cell(6, VFState.ALLOCATED, "vfio-pci"),
        cell(7, VFState.DIRTY, "igb_uio"),
        cell(8, VFState.FOREIGN, "uio_pci_generic"),
        cell(9, VFState.BROKEN, None),
    ]
    first = pf(*special, *bound, *(cell(i) for i in range(10, 40)))
    second = pf(ifname="enp59s0f1", address="0000:3b:00.1")
    third = pf(cell(0, driver="mlx5_core"), ifname=None, address="10000:01:00.0")
    return VFMap((MapNode(0, (first, second)), MapNode(None, (third,))))


def test_at_80_columns() -> None:
    assert (
        vfmap_text.render(mixed(), Screen(80))
        == """\
NUMA node 0
  enp59s0f0  0000:3b:00.0  i40e  up  40 of 64 VFs on iavf, 31 free
    0  · A L D F B AvDu FgB-· · · · · ·  · · · · · · · ·  · · · · · · · ·
   32  · · · · · · · ·
  enp59s0f1  0000:3b:00.1  i40e  up  no VFs of 64

NUMA node unknown
  -  10000:01:00.0  i40e  up  1 of 64 VFs on mlx5_core, 1 free
    0  ·

· 32 free   A 2 allocated   L 1 leaked   D 2 dirty   F 2 foreign   B 2 broken
after the state: v vfio-pci   u igb_uio   g uio_pci_generic   - no driver"""
    )


def test_in_ascii_on_a_narrow_screen() -> None:
    text = vfmap_text.render(mixed(), Screen(36, unicode=False))
    assert text.isascii()
    assert text.splitlines()[1:7] == [
        "  enp59s0f0  0000:3b:00.0  i40e  ...",
        "    0  . A L D F B AvDu",
        "    8  FgB-. . . . . .",
        "   16  . . . . . . . .",
        "   24  . . . . . . . .",
        "   32  . . . . . . . .",
    ]


def test_at_200_columns_a_pf_of_64_is_one_row() -> None:
    whole = VFMap((MapNode(0, (pf(*(cell(i) for i in range(64))),)),))
    rows = [
        n for n in vfmap_text.render(whole, Screen(200)).splitlines() if re.match(r" +\d+  ·", n)
    ]
    assert len(rows) == 1
    assert rows[0].count("·") == 64


@pytest.mark.parametrize("width", [80, 120, 160, 200])
def test_a_thousand_vfs_fit(width: int) -> None:
    pfs = tuple(pf(*(cell(i) for i in range(64)), address=f"0000:{n:02x}:00.0") for n in range(16))
    text = vfmap_text.render(VFMap((MapNode(0, pfs[:8]), MapNode(1, pfs[8:]))), Screen(width))
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 16 * 3 + 6


@pytest.mark.parametrize("width", range(36, 81, 4))
def test_the_legend_keeps_to_the_screen(width: int) -> None:
    many = tuple(cell(n, state) for n, state in enumerate(STATES * 200))
    drivers = [cell(0, driver=d) for d in ("vfio-pci", "igb_uio", "uio_pci_generic", None)]
    shown = VFMap((MapNode(0, (pf(*many, *drivers),)),))
    for screen in (Screen(width), Screen(width, colour=True)):
        lines = re.sub(r"\x1b\[[\d;]*m", "", vfmap_text.render(shown, screen)).splitlines()
        legend = lines[lines.index("") + 1 :]
        assert max(map(len, lines)) <= width
        assert " ".join(" ".join(legend).split()) == (
            "· 204 free A 200 allocated L 200 leaked D 200 dirty F 200 foreign B 200 broken "
            "after the state: v vfio-pci u igb_uio g uio_pci_generic - no driver"
        )


def test_switchdev_mode_is_said() -> None:
    one = MapPF("0000:5e:00.0", "enp94s0f0np0", "mlx5_core", 8, "up", "switchdev", (cell(0),))
    none = MapPF("0000:5e:00.1", "网卡", "mlx5_core", 8, "up", "switchdev", ())
    text = vfmap_text.render(VFMap((MapNode(0, (one, none)),)), Screen(100))
    assert text.splitlines()[1:4] == [
        "  enp94s0f0np0  0000:5e:00.0  mlx5_core  up  1 of 8 VFs on iavf, 1 free, switchdev",
        "    0  ·",
        "  网卡          0000:5e:00.1  mlx5_core  up  no VFs of 8, switchdev",
    ]


def test_a_pf_that_is_gone_has_the_records_of_its_vfs(two_nodes: Machine) -> None:
    """Nothing that `vf list` shows is missing on the map."""
    attach(two_nodes, "0000:02:10.0")
    two_nodes.sim.write("bus/pci/devices/0000:02:00.0/sriov_numvfs", "0")
    two_nodes.sim.tree.remove_function("0000:02:00.0")
    vfs = inventory(two_nodes.node)
    found = vfmap.build(pf_inventory(two_nodes.node, vfs), vfs)
    assert len(found.cells) == len(vfs) == 8
    text = vfmap_text.render(found, Screen(80))
    assert "  eth2  0000:02:00.0  -  -  no such PF, records of 1 VFs\n    0  B-" in text
    ET.fromstring(vfmap_svg.render(found, "t", "s"))


def attach(machine: Machine, address: str) -> None:
    request = AttachRequest(
        "feedbeef" * 8, "net1", machine.namespace().path, Kind.VF, PciAddress(address)
    )
    Manager(machine.node).attach(request)


def test_colour_only_adds() -> None:
    plain = vfmap_text.render(mixed(), Screen(80))
    coloured = vfmap_text.render(mixed(), Screen(80, colour=True))
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    assert "\x1b[7;31mL" in coloured
    assert "\x1b[32m·" in coloured


def test_a_node_without_pfs() -> None:
    assert vfmap_text.render(VFMap(()), Screen(80)) == "no PF with SR-IOV on this node"
    assert "no PF with SR-IOV" in vfmap_svg.render(VFMap(()), "t", "s")


def test_svg_has_a_titled_tile_for_each_vf() -> None:
    root = ET.fromstring(vfmap_svg.render(mixed(), "VFs of node-7", "2026-01-01T00:00:00Z"))
    ns = "{http://www.w3.org/2000/svg}"
    tiles = root.findall(f"{ns}g")
    assert len(tiles) == 41
    titles = [tile.findtext(f"{ns}title") or "" for tile in tiles]
    assert titles[1] == "0000:3b:02.1, VF 1: allocated\ndriver iavf, netdev -"
    boxes = [(t[1].get("x"), t[1].get("y")) for t in tiles]
    assert len(set(boxes)) == len(boxes)
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    for box in root.iter(f"{ns}rect"):
        right = float(box.get("x", "0")) + float(box.get("width", "0"))
        below = float(box.get("y", "0")) + float(box.get("height", "0"))
        assert right <= width
        assert below <= height


def test_svg_stands_alone_and_takes_any_text() -> None:
    odd = Cell("0000:3b:02.0", 0, VFState.ALLOCATED, "x<y", "a&b", "pod <evil>\x00\x1b", "</svg>")
    text = vfmap_svg.render(VFMap((MapNode(0, (pf(odd, ifname="<i>"),)),)), "a & b", "'\"")
    root = ET.fromstring(text)
    assert "pod <evil>??" in "".join(root.itertext())
    assert "</svg>" in "".join(root.itertext())
    assert "prefers-color-scheme: dark" in text
    links = re.findall(r"(?:href|src|url\(|@import|https?:)[^\s]*", text)
    assert links == ['http://www.w3.org/2000/svg"'] or links == ["http:"]


@pytest.fixture
def two_nodes(in_memory: Path) -> Iterator[Machine]:
    """Two cards on two NUMA nodes."""
    machine = build(
        str(in_memory),
        Nic(vfs=7, numa_node=1),
        Nic(address="0000:02:00.0", ifname="eth2", vfs=2, numa_node=0),
    )
    yield machine
    machine.close()


def run(machine: Machine, *words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    status = main(["vf", "map", *words], Session(lambda _s, _d, _log: machine.node, {}, out, err))
    return status, out.getvalue(), err.getvalue()


def test_the_command(two_nodes: Machine) -> None:
    assert run(two_nodes) == (0, """\
NUMA node 0
  eth2  0000:02:00.0  igb  up  2 of 7 VFs on igbvf, 2 free
    0  · ·

NUMA node 1
  eth1  0000:01:00.0  igb  up  7 of 7 VFs on igbvf, 7 free
    0  · · · · · · ·

· 9 free
""", "")  # fmt: skip


def test_its_json(two_nodes: Machine) -> None:
    found: Any = json.loads(run(two_nodes, "-o", "json")[1])
    assert found["counts"]["free"] == 9
    assert [n["numaNode"] for n in found["numaNodes"]] == [0, 1]
    (card,) = found["numaNodes"][1]["pfs"]
    assert list(card) == [
        "address", "ifname", "driver", "totalVfs", "freeVfs", "linkState", "eswitchMode", "vfs",
    ]  # fmt: skip
    assert list(card["vfs"][0]) == [
        "address", "index", "state", "driver", "ifname", "owner", "reason",
    ]  # fmt: skip


def test_its_svg(two_nodes: Machine, tmp_path: Path) -> None:
    report = tmp_path / "node.svg"
    status, out, err = run(two_nodes, "--svg", str(report))
    assert (status, err) == (0, "")
    assert "NUMA node 0" in out
    assert os.uname().nodename in report.read_text(encoding="utf-8")
    ET.fromstring(report.read_text(encoding="utf-8"))
    status, out, err = run(two_nodes, "--svg", str(tmp_path / "none" / "node.svg"))
    assert (status, err.count("\n")) == (1, 1)
    assert "cannot write" in err


@pytest.mark.parametrize("fixture", sorted(p.parent.name for p in FIXTURES.glob("*/sys")))
def test_every_fixture_has_a_map(two_nodes: Machine, fixture: str) -> None:
    from hwmgr.sysfs import Sysfs
    from tests.fakes.machine import replace_node

    node = replace_node(two_nodes.node, sysfs=Sysfs(str(FIXTURES / fixture / "sys")))
    vfs = inventory(node)
    found = vfmap.build(pf_inventory(node, vfs), vfs)
    assert len(found.cells) == len(vfs)
    assert max(map(len, vfmap_text.render(found, Screen(80)).splitlines())) <= 80
    ET.fromstring(vfmap_svg.render(found, "t", "s"))
