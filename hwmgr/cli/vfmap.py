"""The node at a glance: NUMA nodes, their PFs, a cell for each VF; as values and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.model import VFState, describe, is_vfio

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hwmgr.inventory import VFInfo
    from hwmgr.pfinventory import PFInfo

LETTERS = {
    VFState.ALLOCATED: "A",
    VFState.LEAKED: "L",
    VFState.DIRTY: "D",
    VFState.FOREIGN: "F",
    VFState.BROKEN: "B",
}
DRIVER_LETTERS = {"vfio-pci": "v", "igb_uio": "u", "uio_pci_generic": "g", None: "-"}


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
    """Put an inventory in the order of the map.

    Records of VFs that are gone have a cell too, and a PF that is gone a line for them.
    """
    cells: dict[str, list[Cell]] = {}
    names: dict[str, str | None] = {}
    for vf in vfs:
        cells.setdefault(vf.vf.pf_address, []).append(_cell(vf))
        names[vf.vf.pf_address] = vf.pf_ifname
    numa: dict[int | None, list[MapPF]] = {}
    for pf in pfs:
        numa.setdefault(pf.pf.numa_node, []).append(_pf(pf, cells.pop(pf.pf.address, [])))
    for address, left in sorted(cells.items()):
        gone = MapPF(address, names[address], None, 0, None, None, _by_index(left))
        numa.setdefault(None, []).append(gone)
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


def heading(node: MapNode) -> str:
    """Name a NUMA node."""
    return "NUMA node unknown" if node.numa_node is None else f"NUMA node {node.numa_node}"


def driver_letter(driver: str | None) -> str:
    """Return the letter of a userspace driver or of none, a blank for a kernel driver."""
    return "v" if is_vfio(driver) else DRIVER_LETTERS.get(driver, " ")


def facts_of(pf: MapPF) -> str:
    """Say how many VFs a PF has, on which kernel drivers (letters stand for the others)."""
    if not pf.total_vfs:
        return f"no such PF, records of {len(pf.cells)} VFs"
    mode = ", switchdev" if pf.eswitch_mode == "switchdev" else ""
    if not pf.cells:
        return f"no VFs of {pf.total_vfs}{mode}"
    drivers = Counter(c.driver for c in pf.cells if c.driver not in DRIVER_LETTERS)
    on = f" on {', '.join(str(name) for name, _ in drivers.most_common())}" if drivers else ""
    return f"{len(pf.cells)} of {pf.total_vfs} VFs{on}, {pf.free} free{mode}"


def _by_index(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    return tuple(sorted(cells, key=lambda c: c.index))


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
        cells=_by_index(cells),
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
