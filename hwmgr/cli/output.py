"""Rendering for the command line: tables that fit the terminal, JSON, YAML. Text only, no I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from hwmgr.cli.text import cut_end, padded, width_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_GAP = "  "
_SHORTEST = 16
_RESET = "\x1b[0m"
_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
_COLOURS = {
    "free": "\x1b[32m",
    "allocated": "\x1b[36m",
    "leaked": "\x1b[31m",
    "dirty": "\x1b[33m",
    "foreign": "\x1b[35m",
    "broken": "\x1b[31m",
    "error": "\x1b[31m",
    "warning": "\x1b[33m",
}


class Output(StrEnum):
    """Forms of output; ``json`` is the one that scripts may rely on."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, the key of the value, and what may happen to it when space is short.

    Columns with a higher ``rank`` are left out first, 0 never. ``wide`` ones need ``-o wide``.
    ``shrink`` lets the text be shortened, ``shorten`` does it (text, columns, mark); columns are
    left out before it gets shorter than ``least``.
    """

    title: str
    key: str
    rank: int = 0
    wide: bool = False
    shrink: bool = False
    shorten: Callable[[str, int, str], str] = cut_end
    least: int = _SHORTEST


@dataclass(frozen=True, slots=True)
class Screen:
    """What the output goes to; ``width`` in columns, None for no limit.

    ``unicode`` tells whether it can show more than ASCII.
    """

    width: int | None = None
    colour: bool = False
    unicode: bool = True

    @property
    def mark(self) -> str:
        """What stands where a text has been shortened."""
        return "…" if self.unicode else "..."


def render(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[Column],
    output: Output,
    screen: Screen,
    data: object | None = None,
) -> str:
    """Return rows as text; ``data`` is what JSON and YAML show instead of the rows."""
    if output is Output.JSON:
        return to_json(rows if data is None else data, ascii_only=not screen.unicode)
    if output is Output.YAML:
        return to_yaml(rows if data is None else data, ascii_only=not screen.unicode)
    shown = [c for c in columns if output is Output.WIDE or not c.wide]
    return table(rows, shown, screen)


def to_json(data: object, *, ascii_only: bool = False) -> str:
    """Return data as indented JSON."""
    return _harmless(json.dumps(data, indent=2, ensure_ascii=ascii_only))


def to_json_line(data: object, *, ascii_only: bool = False) -> str:
    """Return data as JSON in one line."""
    return _harmless(json.dumps(data, ensure_ascii=ascii_only))


def to_yaml(data: object, *, ascii_only: bool = False) -> str:
    """Return data as YAML, keys in their order."""
    import yaml

    plain = json.loads(json.dumps(data))
    text: str = yaml.safe_dump(
        plain, sort_keys=False, allow_unicode=not ascii_only, default_flow_style=False
    )
    return text.rstrip("\n")


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[Column], screen: Screen) -> str:
    """Return a table without lines, cut to the screen: first columns go, then texts are cut."""
    shown = list(columns)
    cells = {c.key: [text_of(row.get(c.key)) for row in rows] for c in columns}
    widths = {c.key: max([len(c.title), *map(width_of, cells[c.key])]) for c in columns}
    if screen.width is not None:
        _fit(shown, widths, screen.width)
    lines = [_line([c.title.ljust(widths[c.key]) for c in shown])]
    for number in range(len(rows)):
        parts = []
        for column in shown:
            width = widths[column.key]
            text = padded(column.shorten(cells[column.key][number], width, screen.mark), width)
            parts.append(_coloured(text) if screen.colour else text)
        lines.append(_line(parts))
    return "\n".join(lines)


def details(value: Mapping[str, object], indent: str = "") -> str:
    """Return one object as ``key: value`` lines, nested ones indented."""
    lines = []
    width = max((len(key) for key in value), default=0) + 1
    for key, item in value.items():
        if isinstance(item, dict) and len(item) != 1 and _says_nothing(item):
            lines.append(f"{indent}{f'{key}:'.ljust(width)} -")
        elif isinstance(item, dict):
            lines += [f"{indent}{key}:", details(item, indent + "  ")]
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            for one in item:
                lines += [f"{indent}{key}:", details(one, indent + "  ")]
        else:
            label = f"{key}:".ljust(width)
            lines.append(f"{indent}{label} {text_of(item)}".rstrip())
    return "\n".join(lines)


def text_of(value: object) -> str:
    """Return a value as a table shows it: ``-`` for what is not, one line for every text."""
    if value is None or value in ("", [], ()):
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ",".join(text_of(item) for item in value)
    text = str(value)
    # What a file says is shown, not obeyed: no control characters reach the terminal.
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def cut(text: str, width: int, screen: Screen) -> str:
    """Return the text in ``width`` columns, with a mark where something is missing."""
    return cut_end(text, width, screen.mark)


def paint(text: str, name: str, *, block: bool = False) -> str:
    """Return the text in the colour of a state or severity; as a ``block`` it stands out more."""
    colour = _COLOURS.get(name)
    if colour is None:
        return text
    return f"{colour.replace('[', '[7;') if block else colour}{text}{_RESET}"


def _harmless(text: str) -> str:
    """Escape what JSON need not and a terminal obeys all the same: DEL, and C1 (ECMA-48, 5.3)."""
    return text if text.isascii() and "\x7f" not in text else text.translate(_CONTROLS)


def _fit(columns: list[Column], widths: dict[str, int], limit: int) -> None:
    def total() -> int:
        return sum(widths[c.key] for c in columns) + len(_GAP) * (len(columns) - 1)

    def squeeze(least: Callable[[Column], int]) -> None:
        # The longest text gives way first, so that what is cut shares the room.
        shrinking = [c for c in columns if c.shrink]
        while total() > limit:
            widest = max(shrinking, key=lambda c: widths[c.key] - least(c), default=None)
            if widest is None or widths[widest.key] <= least(widest):
                return
            widths[widest.key] -= 1

    full = dict(widths)
    squeeze(_legible)
    while total() > limit:
        droppable = [c for c in columns if c.rank]
        if not droppable:
            squeeze(_shortest)
            return
        columns.remove(max(droppable, key=lambda c: c.rank))
        widths.update(full)
        squeeze(_legible)


def _says_nothing(value: Mapping[str, object]) -> bool:
    return all(item is None for item in value.values())


def _legible(column: Column) -> int:
    return max(column.least, len(column.title))


def _shortest(column: Column) -> int:
    return max(_SHORTEST, len(column.title))


def _coloured(text: str) -> str:
    return paint(text, text.rstrip())


def _line(parts: list[str]) -> str:
    return _GAP.join(parts).rstrip()
