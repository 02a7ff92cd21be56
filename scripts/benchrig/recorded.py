"""Figures of the Go programs, for where their binaries are not at hand: recorded elsewhere.

Whole-process medians in milliseconds on two shared cores, multus-cni of August 2026 (after v4.3.0);
what they compare with in this run is the ratio beside the same base, not the milliseconds.
"""

from __future__ import annotations

from benchrig.figures import Row

TRUE, PYTHON = 1.0, 12.0
DIRECT_ADD, DIRECT_DEL = 15.8, 24.3


def forwarding() -> list[Row]:
    """What starting a shim costs."""
    return [_row("Go multus-shim, VERSION", 13.4, TRUE, "/bin/true")]


def attaching() -> list[Row]:
    """ADD and DEL of bridge + host-local; the own part is the ADD less the plugins themselves."""
    return [
        _row("Go multus thin, ADD, no API server", 34.4, DIRECT_ADD, "bridge"),
        _row("  its own part", 18.6, DIRECT_ADD, "bridge"),
        _row("Go multus thin, ADD, API server", 52.9, DIRECT_ADD, "bridge"),
        _row("  its own part", 37.1, DIRECT_ADD, "bridge"),
        _row("Go multus-shim + daemon, ADD, API server", 37.7, DIRECT_ADD, "bridge"),
        _row("  its own part", 21.9, DIRECT_ADD, "bridge"),
        _row("Go multus-shim + daemon, DEL, API server", 44.1, DIRECT_DEL, "bridge"),
    ]


def _row(name: str, value: float, base: float, to: str) -> Row:
    return Row(name, value, "ms", ratio=value / base, to=to, recorded=True)
