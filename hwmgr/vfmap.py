"""The node at a glance: NUMA nodes, their PFs, a cell for each VF; as values, as text, as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.cli_output import cut, paint, text_of
from hwmgr.model import VFState, describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hwmgr.cli_output import Screen
    from hwmgr.inventory import PFInfo, VFInfo

LETTERS = {
    VFState.ALLOCATED: "A",
    VFState.LEAKED: "L",
    VFState.DIRTY: "D",
    VFState.FOREIGN: "F",
    VFState.BROKEN: "B",
}
DRIVER_LETTERS = {"vfio-pci": "v", "igb_uio": "u", "uio_pci_generic": "g", None: "-"}
_GROUP = 8
_LABEL = 7
_DEFAULT_WIDTH = 80
_NO_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True)
class Cell:
    """One VF. ``reason`` says why it is in its state, ``owner`` who holds it, both for people."""

    address: str
    index: int
    state: VFState
    driver: str | None
    ifname: str | None
    owner: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class MapPF:
    """A PF with its VFs in the order of their index."""

    address: str
    ifname: str | None
    driver: str | None
    total_vfs: int
    link_state: str | None
    eswitch_mode: str | None
    cells: tuple[Cell, ...]

    @property
    def free(self) -> int:
        """How many of its VFs are free."""
        return sum(1 for c in self.cells if c.state is VFState.FREE)


@dataclass(frozen=True, slots=True)
class MapNode:
    """The PFs of one NUMA node; ``numa_node`` is None where the platform does not tell."""

    numa_node: int | None
    pfs: tuple[MapPF, ...]


@dataclass(frozen=True, slots=True)
class VFMap:
    """All PFs of a machine, by NUMA node."""

    nodes: tuple[MapNode, ...]

    @property
    def cells(self) -> list[Cell]:
        """Every VF."""
        return [cell for node in self.nodes for pf in node.pfs for cell in pf.cells]


def build(pfs: Iterable[PFInfo], vfs: Iterable[VFInfo]) -> VFMap:
    """Put an inventory in the order of the map. Records of VFs that are gone have a cell too."""
    cells: dict[str, list[Cell]] = {}
    for vf in vfs:
        cells.setdefault(vf.vf.pf_address, []).append(_cell(vf))
    numa: dict[int | None, list[MapPF]] = {}
    for pf in pfs:
        numa.setdefault(pf.pf.numa_node, []).append(_pf(pf, cells.get(pf.pf.address, [])))
    order = sorted(numa, key=lambda number: (number is None, number or 0))
    return VFMap(tuple(MapNode(number, tuple(numa[number])) for number in order))


def view(vfmap: VFMap) -> dict[str, object]:
    """Return the map as ``-o json`` shows it."""
    return {
        "counts": _counts(vfmap.cells),
        "numaNodes": [
            {"numaNode": node.numa_node, "pfs": [_pf_view(pf) for pf in node.pfs]}
            for node in vfmap.nodes
        ],
    }


def render(vfmap: VFMap, screen: Screen) -> str:
    """Return the map as text that fits the screen and reads without colour."""
    if not vfmap.nodes:
        return "no PF with SR-IOV on this node"
    lines = []
    for node in vfmap.nodes:
        columns = _columns(node.pfs)
        lines.append(heading(node))
        for pf in node.pfs:
            lines.append(cut(_title(pf, columns), screen.width or _NO_LIMIT, screen))
            lines += _rows(pf.cells, screen)
        lines.append("")
    lines += _legend(vfmap.cells, screen)
    return "\n".join(lines)


def heading(node: MapNode) -> str:
    """Name a NUMA node."""
    return "NUMA node unknown" if node.numa_node is None else f"NUMA node {node.numa_node}"


def driver_letter(driver: str | None) -> str:
    """Return the letter of a userspace driver or of none, a blank for a kernel driver."""
    return DRIVER_LETTERS.get(driver, " ")


def facts_of(pf: MapPF) -> str:
    """Say how many VFs a PF has, on which kernel drivers (letters stand for the others)."""
    if not pf.cells:
        return f"no VFs of {pf.total_vfs}"
    drivers = Counter(c.driver for c in pf.cells if c.driver not in DRIVER_LETTERS)
    on = f" on {', '.join(str(name) for name, _ in drivers.most_common())}" if drivers else ""
    return f"{len(pf.cells)} of {pf.total_vfs} VFs{on}, {pf.free} free"


def _cell(info: VFInfo) -> Cell:
    vf = info.vf
    return Cell(
        address=vf.address,
        index=vf.index,
        state=info.state,
        driver=vf.driver,
        ifname=vf.ifname,
        owner=describe(info.record) if info.record else None,
        reason=info.reason,
    )


def _pf(info: PFInfo, cells: list[Cell]) -> MapPF:
    pf = info.pf
    return MapPF(
        address=pf.address,
        ifname=pf.ifname,
        driver=pf.driver,
        total_vfs=pf.total_vfs,
        link_state=info.link_state,
        eswitch_mode=info.eswitch_mode,
        cells=tuple(sorted(cells, key=lambda c: c.index)),
    )


def _pf_view(pf: MapPF) -> dict[str, object]:
    return {
        "address": pf.address,
        "ifname": pf.ifname,
        "driver": pf.driver,
        "totalVfs": pf.total_vfs,
        "freeVfs": pf.free,
        "linkState": pf.link_state,
        "eswitchMode": pf.eswitch_mode,
        "vfs": [
            {
                "address": cell.address,
                "index": cell.index,
                "state": str(cell.state),
                "driver": cell.driver,
                "ifname": cell.ifname,
                "owner": cell.owner,
                "reason": cell.reason or None,
            }
            for cell in pf.cells
        ],
    }


def _counts(cells: Sequence[Cell]) -> dict[str, int]:
    found = Counter(cell.state for cell in cells)
    return {str(state): found[state] for state in VFState}


def _columns(pfs: Sequence[MapPF]) -> tuple[int, int, int, int]:
    def widest(texts: Iterable[str | None]) -> int:
        return max(len(text_of(text)) for text in texts)

    return (
        widest(pf.ifname for pf in pfs),
        widest(pf.address for pf in pfs),
        widest(pf.driver for pf in pfs),
        widest(pf.link_state for pf in pfs),
    )


def _title(pf: MapPF, columns: tuple[int, int, int, int]) -> str:
    values = (pf.ifname, pf.address, pf.driver, pf.link_state)
    parts = [text_of(v).ljust(width) for v, width in zip(values, columns, strict=True)]
    return "  " + "  ".join([*parts, facts_of(pf)])


def _rows(cells: Sequence[Cell], screen: Screen) -> list[str]:
    per_row = _cells_per_row(screen.width or _DEFAULT_WIDTH)
    lines = []
    for start in range(0, len(cells), per_row):
        row = cells[start : start + per_row]
        groups = [
            "".join(_shown(cell, screen) for cell in row[first : first + _GROUP])
            for first in range(0, len(row), _GROUP)
        ]
        label = str(row[0].index).rjust(_LABEL - 2)
        lines.append(f"{label}  {' '.join(groups)}".rstrip())
    return lines


def _cells_per_row(width: int) -> int:
    """Return the largest of 64, 32, 16, 8 cells that fits: each takes two columns."""
    fitting = (n for n in (64, 32, 16) if _LABEL + 2 * n + n // _GROUP - 1 <= width)
    return next(fitting, _GROUP)


def _shown(cell: Cell, screen: Screen) -> str:
    letter, driver = _letter(cell.state, screen), driver_letter(cell.driver)
    if not screen.colour:
        return letter + driver
    return paint(letter, str(cell.state), block=cell.state is not VFState.FREE) + driver


def _letter(state: VFState, screen: Screen) -> str:
    return LETTERS.get(state) or ("·" if screen.unicode else ".")


def _legend(cells: Sequence[Cell], screen: Screen) -> list[str]:
    counts = Counter(cell.state for cell in cells)
    states = []
    for state in VFState:
        if counts[state] or state is VFState.FREE:
            letter = _letter(state, screen)
            if screen.colour:
                letter = paint(letter, str(state), block=state is not VFState.FREE)
            states.append(f"{letter} {counts[state]} {state}")
    used = {cell.driver for cell in cells}
    drivers = [
        f"{letter} {name or 'no driver'}" for name, letter in DRIVER_LETTERS.items() if name in used
    ]
    lines = ["   ".join(states)]
    if drivers:
        lines.append("after the state: " + "   ".join(drivers))
    return lines
