"""Rendering for the command line: tables that fit the terminal, JSON, YAML. Text only, no I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_GAP = "  "
_SHORTEST = 16
_RESET = "\x1b[0m"
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
    ``shrink`` lets the text be shortened.
    """

    title: str
    key: str
    rank: int = 0
    wide: bool = False
    shrink: bool = False


@dataclass(frozen=True, slots=True)
class Screen:
    """What the output goes to; ``width`` in characters, None for no limit."""

    width: int | None = None
    colour: bool = False


def render(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[Column],
    output: Output,
    screen: Screen,
    data: object | None = None,
) -> str:
    """Return rows as text; ``data`` is what JSON and YAML show instead of the rows."""
    if output is Output.JSON:
        return to_json(rows if data is None else data)
    if output is Output.YAML:
        return to_yaml(rows if data is None else data)
    shown = [c for c in columns if output is Output.WIDE or not c.wide]
    return table(rows, shown, screen)


def to_json(data: object) -> str:
    """Return data as indented JSON."""
    return json.dumps(data, indent=2, ensure_ascii=False)


def to_yaml(data: object) -> str:
    """Return data as YAML, keys in their order."""
    import yaml

    plain = json.loads(json.dumps(data))
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return text.rstrip("\n")


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[Column], screen: Screen) -> str:
    """Return a table without lines, cut to the screen: first columns go, then texts are cut."""
    shown = list(columns)
    cells = {c.key: [text_of(row.get(c.key)) for row in rows] for c in columns}
    widths = {c.key: max([len(c.title), *map(len, cells[c.key])]) for c in columns}
    if screen.width is not None:
        _fit(shown, widths, screen.width)
    lines = [_line([c.title.ljust(widths[c.key]) for c in shown])]
    for number in range(len(rows)):
        parts = []
        for column in shown:
            width = widths[column.key]
            text = _cut(cells[column.key][number], width).ljust(width)
            parts.append(coloured(text, text.rstrip()) if screen.colour else text)
        lines.append(_line(parts))
    return "\n".join(lines)


def details(value: Mapping[str, object], indent: str = "") -> str:
    """Return one object as ``key: value`` lines, nested ones indented."""
    lines = []
    width = max((len(key) for key in value), default=0) + 1
    for key, item in value.items():
        if isinstance(item, dict) and item:
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
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ",".join(text_of(item) for item in value)
    text = str(value)
    # What a file says is shown, not obeyed: no control characters reach the terminal.
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _fit(columns: list[Column], widths: dict[str, int], limit: int) -> None:
    def total() -> int:
        return sum(widths[c.key] for c in columns) + len(_GAP) * (len(columns) - 1)

    def squeeze() -> None:
        for column in sorted(columns, key=lambda c: -widths[c.key]):
            if column.shrink and total() > limit:
                floor = max(_SHORTEST, len(column.title))
                widths[column.key] = max(floor, widths[column.key] - (total() - limit))

    full = dict(widths)
    squeeze()
    while total() > limit:
        droppable = [c for c in columns if c.rank]
        if not droppable:
            return
        columns.remove(max(droppable, key=lambda c: c.rank))
        widths.update(full)
        squeeze()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def coloured(text: str, word: str) -> str:
    """Return a text in the colour that a word has (a state, a severity); others have none."""
    colour = _COLOURS.get(word)
    return f"{colour}{text}{_RESET}" if colour else text


def _line(parts: list[str]) -> str:
    return _GAP.join(parts).rstrip()
