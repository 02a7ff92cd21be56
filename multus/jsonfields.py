"""Read members of JSON objects by the rules of Go's decoder, which every CNI peer is used to.

Names match without regard to case, the later of two spellings wins, null is the same as absent,
and a value of the wrong type is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

Json = dict[str, object]

# What is read is written again, and inside of more: both must stay far from the parser's own limit.
_DEEPEST = 100


class FieldError(ValueError):
    """A member has the wrong type or the text is not what it must be."""


class Fields:
    """The members of one JSON object, asked for by name and type."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise FieldError(f"{where} must be a JSON object")
        self.where = where
        self._members = {name.lower(): member for name, member in value.items()}

    def present(self, name: str) -> bool:
        """Tell whether the member is there and not null."""
        return self._members.get(name.lower()) is not None

    def value(self, name: str) -> object:
        """Return the member as it is, None when absent."""
        member: object = self._members.get(name.lower())
        return member

    def text(self, name: str, default: str = "") -> str:
        """Return a string member."""
        member = self.value(name)
        if member is None:
            return default
        if not isinstance(member, str):
            self._wrong(name, "a string")
        return member

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a boolean member."""
        member = self.value(name)
        if member is None:
            return default
        if not isinstance(member, bool):
            self._wrong(name, "true or false")
        return member

    def number(self, name: str) -> int | None:
        """Return a whole number, None when absent."""
        member = self.value(name)
        if member is None:
            return None
        if isinstance(member, bool) or not isinstance(member, int):
            self._wrong(name, "a whole number")
        return member

    def mapping(self, name: str) -> Json | None:
        """Return an object member, None when absent."""
        member = self.value(name)
        if member is None:
            return None
        if not isinstance(member, dict):
            self._wrong(name, "an object")
        return member

    def items(self, name: str) -> list[object] | None:
        """Return a list member, None when absent."""
        member = self.value(name)
        if member is None:
            return None
        if not isinstance(member, list):
            self._wrong(name, "a list")
        return member

    def texts(self, name: str) -> list[str] | None:
        """Return a list of strings, None when absent."""
        items = self.items(name)
        if items is None:
            return None
        if not all(isinstance(item, str) for item in items):
            self._wrong(name, "a list of strings")
        return [str(item) for item in items]

    def objects(self, name: str) -> list[Json] | None:
        """Return a list of objects, None when absent."""
        items = self.items(name)
        if items is None:
            return None
        objects = [item for item in items if isinstance(item, dict)]
        if len(objects) != len(items):
            self._wrong(name, "a list of objects")
        return objects

    def _wrong(self, name: str, kind: str) -> NoReturn:
        raise FieldError(f"{name!r} in {self.where} must be {kind}")


def decode(data: bytes | str, where: str, each: Callable[[Json], object] | None = None) -> object:
    """Decode JSON strictly: UTF-8, no NaN, no depth that the parser cannot follow.

    ``each`` replaces every object, inner ones first: what it drops is gone before the rest is read.
    """
    import json

    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value: object = json.loads(text, parse_constant=_no_constant, object_hook=each)
    except (ValueError, RecursionError) as error:
        raise FieldError(f"{where} is not valid JSON: {error}") from error
    if text.count("[") + text.count("{") > _DEEPEST and _too_deep(value):
        raise FieldError(f"{where} is nested more than {_DEEPEST} deep")
    return value


def _too_deep(value: object) -> bool:
    level = [value]
    for _ in range(_DEEPEST + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return False
        level = inner
    return True


def encode(value: object) -> bytes:
    """Encode compactly, in the order of the members."""
    import json

    return json.dumps(value, separators=(",", ":")).encode()


def _no_constant(name: str) -> NoReturn:
    raise FieldError(f"{name} is not JSON")
