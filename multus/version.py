"""CNI versions: those we speak, and how they compare."""

from __future__ import annotations

SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
CURRENT = SUPPORTED[-1]
OLDEST = SUPPORTED[0]

# Specification 1.1.0, section 2: the first version that knows the verb.
FIRST_WITH = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
# Without any version a delegate gets the one that most plugins of the 2018 systems speak.
FALLBACK = "0.3.1"


def parse(version: str) -> tuple[int, int, int] | None:
    """Return major, minor, micro; missing parts are 0, "" is 0.1.0, anything else is None."""
    if not version:
        return (0, 1, 0)
    parts = version.split(".")
    if len(parts) > 3 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    if any(len(part) > 9 for part in parts):
        return None
    numbers = [int(part) for part in parts] + [0, 0]
    return (numbers[0], numbers[1], numbers[2])


def at_least(version: str, minimum: str) -> bool:
    """Tell whether a version is the minimum or later; a malformed one never is."""
    left, right = parse(version), parse(minimum)
    return left is not None and right is not None and left >= right


def knows(version: str, verb: str) -> bool:
    """Tell whether a plugin of that version can be asked for the verb."""
    return at_least(version, FIRST_WITH.get(verb, OLDEST))
