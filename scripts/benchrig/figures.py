"""Figures and how they are shown: medians, ratios, a table for people and JSON for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what was measured, its value and spread, and its ratio to something beside it.

    ``limit`` is what the ratio (or, without one, the value) must not exceed; with ``least`` it is
    what it must reach. ``recorded`` marks a figure of another machine and day.
    """

    name: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    to: str = ""
    limit: float | None = None
    least: bool = False
    recorded: bool = False
    note: str = ""

    def met(self) -> bool | None:
        """Tell whether the limit is kept, None without one."""
        seen = self.value if self.ratio is None else self.ratio
        if self.limit is None or seen is None:
            return None
        return seen >= self.limit if self.least else seen <= self.limit


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the benchmark; ``series`` are what its plot is made of."""

    key: str
    title: str
    rows: tuple[Row, ...]
    series: dict[str, list[list[float]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return it as JSON data."""
        rows = [{**asdict(row), "met": row.met()} for row in self.rows]
        return {"part": self.key, "title": self.title, "rows": rows, "series": self.series}


def row_of(
    name: str,
    taken: Sequence[float],
    *,
    beside: Sequence[float] = (),
    to: str = "",
    limit: float | None = None,
    unit: str = "ms",
    note: str = "",
) -> Row:
    """Return the row of repeated measurements; ``beside`` was measured in turn with them."""
    return Row(
        name=name,
        value=median(taken),
        unit=unit,
        low=min(taken),
        high=max(taken),
        ratio=ratio_of(taken, beside) if beside else None,
        to=to,
        limit=limit,
        note=note,
    )


def ratio_of(taken: Sequence[float], beside: Sequence[float]) -> float:
    """Return the median of the ratios pair by pair: both halves of a pair saw the same moment."""
    return median(a / b for a, b in zip(taken, beside, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` (0 to 1) of the values are."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def table(parts: Sequence[Part]) -> str:
    """Return all parts as text for 100 columns and more."""
    lines = []
    for part in parts:
        lines += ["", f"({part.key}) {part.title}", ""]
        lines.append(f"  {'':46} {'median':>10} {'min':>9} {'max':>9}  {'ratio':>6}")
        lines += [_line(row) for row in part.rows]
    return "\n".join(lines)


def _line(row: Row) -> str:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    beside = f"x {row.to}" if row.to else ""
    limit = ""
    if row.limit is not None:
        sign = ">=" if row.least else "<="
        limit = f"{sign} {row.limit:g} {'met' if row.met() else 'MISSED'}"
    kind = "recorded" if row.recorded else ""
    words = "  ".join(word for word in (beside, limit, kind, row.note) if word)
    return (
        f"  {row.name[:46]:46} {_number(row.value):>10} {_number(row.low):>9} "
        f"{_number(row.high):>9}  {ratio:>6}  {row.unit}  {words}"
    ).rstrip()


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"
