"""Findings for people: a block of lines for each, wrapped to the terminal. Text only, no I/O."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from hwmgr.cli.output import paint, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hwmgr.cli.output import Screen
    from hwmgr.doctor.findings import Finding

_INDENT = "  "
_LABEL = 10
_NARROWEST = 40


def report(found: Sequence[Finding], screen: Screen) -> str:
    """Return findings as blocks of severity, subject and id, what is wrong, why, what to do."""
    return "\n\n".join("\n".join(_block(finding, screen)) for finding in found)


def _block(finding: Finding, screen: Screen) -> Iterator[str]:
    severity = str(finding.severity).upper().ljust(8)
    if screen.colour:
        severity = paint(severity, str(finding.severity))
    yield f"{severity} {text_of(finding.subject)}  [{finding.id}]"
    width = None if screen.width is None else max(screen.width, _NARROWEST)
    yield from _wrapped("", finding.finding, width, 0)
    label = "evidence:"
    for evidence in finding.evidence:
        text = f"{text_of(evidence.fact)} ({text_of(evidence.source)})"
        yield from _wrapped(label, text, width, _LABEL)
        label = ""
    yield from _wrapped("repair:", finding.repair, width, _LABEL)


def _wrapped(label: str, text: str, width: int | None, hang: int) -> Iterator[str]:
    first = _INDENT + label.ljust(hang)
    text = text_of(text)
    if width is None:
        yield first + text
        return
    yield from textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=_INDENT + " " * hang,
        break_on_hyphens=False,
    )
