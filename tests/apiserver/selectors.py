"""Label and field selectors, as lists and watches take them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Json = dict[str, Any]
    Test = Callable[[Json], bool]

_SETS = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^)]*)\)$")
_EQUALS = re.compile(r"^([^=!\s]+)\s*(==|=|!=)\s*([^=!\s]*)$")


class SelectorError(ValueError):
    """The selector cannot be read, or this kind has no such field."""


def labels(text: str) -> Test:
    """Return the test that a label selector is."""
    tests = [_label_test(part.strip()) for part in re.split(r",(?![^(]*\))", text) if part.strip()]
    return lambda obj: all(test(obj["metadata"].get("labels") or {}) for test in tests)


def fields(text: str, allowed: frozenset[str]) -> Test:
    """Return the test that a field selector is. Raises SelectorError for a field not allowed."""
    tests = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        match = _EQUALS.match(part)
        if match is None:
            raise SelectorError(f"invalid field selector {part!r}")
        if match[1] not in allowed:
            raise SelectorError(f"field label not supported: {match[1]}")
        tests.append((match[1].split("."), match[2] != "!=", match[3]))
    return lambda obj: all((_at(obj, path) == value) is wanted for path, wanted, value in tests)


def _label_test(part: str) -> Test:
    match = _SETS.match(part)
    if match is not None:
        key, wanted = match[1], match[2] == "in"
        values = {value.strip() for value in match[3].split(",")}
        return lambda found: (found.get(key) in values) is wanted
    match = _EQUALS.match(part)
    if match is not None:
        key, equal, value = match[1], match[2] != "!=", match[3]
        return lambda found: (found.get(key) == value) is equal
    if part.startswith("!"):
        return lambda found: part[1:].strip() not in found
    if not re.match(r"^[A-Za-z0-9._/-]+$", part):
        raise SelectorError(f"invalid label selector {part!r}")
    return lambda found: part in found


def _at(obj: Any, path: list[str]) -> str:
    for part in path:
        obj = obj.get(part) if isinstance(obj, dict) else None
    return "" if obj is None else str(obj)
