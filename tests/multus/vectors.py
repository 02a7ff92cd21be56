"""Recorded cases of the reference, and the list of those that we answer differently on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "vectors" / "multus"
DEVIATIONS: dict[str, dict[str, str]] = json.loads(
    (FOLDER.parent / "multus_deviations.json").read_text()
)


def cases(name: str, group: str = "") -> list[dict[str, Any]]:
    """Return the cases of one file; those without an id get their position."""
    loaded: Any = json.loads((FOLDER / f"{name}.json").read_text())["cases"]
    return [
        {"id": f"{group or name}-{index}", **case}
        for index, case in enumerate(loaded[group] if group else loaded)
    ]


def params(name: str, group: str = "") -> list[Any]:
    """Return the cases as pytest parameters; a listed deviation must fail, or leave the list."""
    listed = DEVIATIONS.get(f"{name}.{group}" if group else name, {})
    found = cases(name, group)
    unknown = set(listed) - {case["id"] for case in found}
    assert not unknown, f"{name}: no such cases {unknown}"
    return [
        pytest.param(
            case,
            id=case["id"],
            marks=[pytest.mark.xfail(strict=True, raises=AssertionError, reason=listed[case["id"]])]
            if case["id"] in listed
            else [],
        )
        for case in found
    ]
