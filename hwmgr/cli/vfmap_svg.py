"""The map as one SVG file that needs nothing else: for a report, in light and in dark."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from hwmgr.cli.output import text_of
from hwmgr.cli.vfmap import DRIVER_LETTERS, LETTERS, driver_letter, facts_of, heading
from hwmgr.model import VFState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwmgr.cli.vfmap import Cell, MapPF, VFMap

# Lengths in pixels.
_MARGIN = 24
_TILE = 22
_PITCH = 26
_PER_ROW = 32
_GROUP = 8
_GROUP_GAP = 6
_LABEL = 40
_WIDTH = 2 * _MARGIN + _LABEL + _PER_ROW * _PITCH + (_PER_ROW // _GROUP - 1) * _GROUP_GAP + 12
_STYLE = """
svg { color-scheme: light dark; }
.page { fill: #ffffff; } .card { fill: #f6f7f9; stroke: #d9dde3; }
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1d232b; }
.title { font-size: 20px; font-weight: 600; } .numa { font-size: 15px; font-weight: 600; }
.name { font-weight: 600; } .quiet { fill: #5a6472; }
.label { font-size: 11px; fill: #5a6472; text-anchor: end; }
.letter { font-size: 12px; font-weight: 700; text-anchor: middle; pointer-events: none; }
.driver { font-size: 9px; font-weight: 700; text-anchor: end; pointer-events: none; }
.free { fill: #e3f4e6; stroke: #7fbf8b; } .allocated { fill: #2f6fd0; stroke: #1f56a8; }
.leaked { fill: #c93434; stroke: #9c2020; } .dirty { fill: #f2b632; stroke: #b98408; }
.foreign { fill: #8a4fc4; stroke: #67349a; } .broken { fill: #1d232b; stroke: #c93434; }
.on-allocated, .on-leaked, .on-foreign, .on-broken { fill: #ffffff; }
.on-free { fill: #2d6b3a; } .on-dirty { fill: #1d232b; }
@media (prefers-color-scheme: dark) {
.page { fill: #14181d; } .card { fill: #1c2229; stroke: #323b46; }
text { fill: #e4e8ee; } .quiet, .label { fill: #9aa5b3; }
.free { fill: #1d3324; stroke: #3f7d4f; } .on-free { fill: #8fd3a0; }
.allocated { fill: #3d7fe0; } .leaked { fill: #d64545; } .foreign { fill: #9a63d1; }
.broken { fill: #000000; }
.on-dirty { fill: #14181d; }
.on-allocated, .on-leaked, .on-foreign, .on-broken { fill: #ffffff; }
}
"""


def render(vfmap: VFMap, title: str, subtitle: str) -> str:
    """Return the map as an SVG document; every text is escaped."""
    parts: list[str] = []
    y = _MARGIN + 18
    parts.append(_text(_MARGIN, y, title, "title"))
    y += 22
    parts.append(_text(_MARGIN, y, subtitle, "quiet"))
    y += 16
    parts += _legend(vfmap.cells, y)
    y += 54
    if not vfmap.nodes:
        parts.append(_text(_MARGIN, y, "no PF with SR-IOV on this node", "quiet"))
        y += 20
    for node in vfmap.nodes:
        y += 12
        parts.append(_text(_MARGIN, y, heading(node), "numa"))
        y += 12
        for pf in node.pfs:
            height = _card_height(pf)
            parts += _card(pf, y, height)
            y += height + 10
        y += 8
    height = y + _MARGIN - 10
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}" role="img">',
            f"<title>{_safe(title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _card_height(pf: MapPF) -> int:
    rows = -(-len(pf.cells) // _PER_ROW)
    return 34 + rows * _PITCH + (8 if rows else 0)


def _card(pf: MapPF, y: int, height: int) -> Iterable[str]:
    width = _WIDTH - 2 * _MARGIN
    yield f'<rect class="card" x="{_MARGIN}" y="{y}" width="{width}" height="{height}" rx="8"/>'
    facts = [pf.address, text_of(pf.driver), f"link {text_of(pf.link_state)}", facts_of(pf)]
    yield (
        f'<text x="{_MARGIN + 12}" y="{y + 22}"><tspan class="name">{_safe(text_of(pf.ifname))}'
        f'</tspan><tspan class="quiet" dx="10">{_safe("  ·  ".join(facts))}</tspan></text>'
    )
    for number, cell in enumerate(pf.cells):
        row, column = divmod(number, _PER_ROW)
        top = y + 34 + row * _PITCH
        if column == 0:
            yield _text(_MARGIN + _LABEL - 6, top + 15, str(cell.index), "label")
        left = _MARGIN + _LABEL + column * _PITCH + column // _GROUP * _GROUP_GAP
        yield from _tile(cell, left, top)


def _tile(cell: Cell, x: int, y: int) -> Iterable[str]:
    yield f"<g><title>{_safe(_tooltip(cell), keep_lines=True)}</title>"
    yield _square(x, y, str(cell.state))
    letter = LETTERS.get(cell.state)
    driver = driver_letter(cell.driver).strip()
    ink = f"on-{cell.state}"
    if letter:
        middle = x + _TILE // 2 - (3 if driver else 0)
        yield _text(middle, y + 15, letter, f"letter {ink}")
    if driver:
        yield _text(x + _TILE - 3, y + _TILE - 4, driver, f"driver {ink}")
    yield "</g>"


def _tooltip(cell: Cell) -> str:
    lines = [
        f"{cell.address}, VF {cell.index}: {cell.state}",
        cell.reason,
        f"driver {text_of(cell.driver)}, netdev {text_of(cell.ifname)}",
    ]
    if cell.owner and cell.owner not in cell.reason:
        lines.append(f"owner {cell.owner}")
    return "\n".join(text_of(line) for line in lines if line)


def _legend(cells: list[Cell], y: int) -> Iterable[str]:
    counts = Counter(cell.state for cell in cells)
    x = _MARGIN
    for state in VFState:
        yield _square(x, y, str(state))
        if state in LETTERS:
            yield _text(x + _TILE // 2, y + 15, LETTERS[state], f"letter on-{state}")
        yield _text(x + _TILE + 7, y + 15, f"{counts[state]} {state}", "")
        x += _TILE + 7 + 8 * len(f"{counts[state]} {state}") + 16
    used = {driver_letter(cell.driver) for cell in cells}
    letters = [f"{v} {k or 'no driver'}" for k, v in DRIVER_LETTERS.items() if v in used]
    if letters:
        text = "small letter: " + ", ".join(letters) + "; none: a kernel driver"
        yield _text(_MARGIN, y + 40, text, "quiet")


def _square(x: int, y: int, state: str) -> str:
    return f'<rect class="{state}" x="{x}" y="{y}" width="{_TILE}" height="{_TILE}" rx="4"/>'


def _text(x: int, y: int, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x}" y="{y}">{_safe(text)}</text>'


def _safe(text: str, *, keep_lines: bool = False) -> str:
    """Escape a text; what XML cannot hold (control characters) becomes ``?``."""
    lines = text.split("\n") if keep_lines else [text]
    return escape("\n".join(text_of(line) for line in lines))
