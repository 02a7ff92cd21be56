"""The map as text for a terminal, which reads without colour too."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hwmgr.cli.output import cut, paint, text_of
from hwmgr.cli.text import padded, width_of
from hwmgr.cli.vfmap import DRIVER_LETTERS, LETTERS, driver_letter, facts_of, heading
from hwmgr.model import VFState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hwmgr.cli.output import Screen
    from hwmgr.cli.vfmap import Cell, MapPF, VFMap

_GROUP = 8
_LABEL = 7
_DEFAULT_WIDTH = 80
_NO_LIMIT = 1 << 16


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


def _columns(pfs: Sequence[MapPF]) -> tuple[int, int, int, int]:
    def widest(texts: Iterable[str | None]) -> int:
        return max(width_of(text_of(text)) for text in texts)

    return (
        widest(pf.ifname for pf in pfs),
        widest(pf.address for pf in pfs),
        widest(pf.driver for pf in pfs),
        widest(pf.link_state for pf in pfs),
    )


def _title(pf: MapPF, columns: tuple[int, int, int, int]) -> str:
    values = (pf.ifname, pf.address, pf.driver, pf.link_state)
    parts = [padded(text_of(v), width) for v, width in zip(values, columns, strict=True)]
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
            states.append((letter, f" {counts[state]} {state}"))
    used = {driver_letter(cell.driver) for cell in cells}
    drivers = [
        (letter, f" {name or 'no driver'}")
        for name, letter in DRIVER_LETTERS.items()
        if letter in used
    ]
    return _flowing("", states, screen) + (
        _flowing("after the state: ", drivers, screen) if drivers else []
    )


def _flowing(title: str, items: Sequence[tuple[str, str]], screen: Screen) -> list[str]:
    """Return a letter and its meaning after the other, in as many lines as it takes."""
    lines, room = [title], (screen.width or _NO_LIMIT) - len(title)
    for number, (letter, meaning) in enumerate(items):
        gap = 3 if number and lines[-1] else 0
        # The letter may be painted: it takes one column.
        needed = gap + 1 + len(meaning)
        if needed > room and lines[-1] not in ("", title):
            lines.append("")
            gap, needed, room = 0, needed - gap, screen.width or _NO_LIMIT
        lines[-1] += " " * gap + letter + meaning
        room -= needed
    return lines
