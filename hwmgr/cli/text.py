"""Text on a terminal: how many columns it takes, and what is left of it where there are fewer."""

from __future__ import annotations


def width_of(text: str) -> int:
    """Return how many columns a terminal needs: two for a wide character, none for an accent."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def padded(text: str, width: int) -> str:
    """Return the text with blanks up to ``width`` columns."""
    return text + " " * (width - width_of(text))


def cut_end(text: str, width: int, mark: str) -> str:
    """Return the text in ``width`` columns, ``mark`` in place of its end where it is too long."""
    if width_of(text) <= width:
        return text
    return _beginning(text, width - len(mark)) + mark[: max(width, 0)]


def cut_middle(text: str, width: int, mark: str) -> str:
    """Return the text in ``width`` columns with both of its ends, where it is too long."""
    if width_of(text) <= width:
        return text
    room = width - len(mark)
    if room < 2:
        return cut_end(text, width, mark)
    end = _beginning(text[::-1], room // 2)[::-1]
    return _beginning(text, room - width_of(end)) + mark + end


def cut_owner(text: str, width: int, mark: str) -> str:
    """Return ``namespace/pod interface`` in ``width`` columns; the pod's name is given up last.

    First the namespace is shortened, then it and the interface go, then the middle of the name,
    since pods of one deployment differ in its end. Any other text loses its end.
    """
    if width_of(text) <= width:
        return text
    who, _, ifname = text.partition(" ")
    namespace, slash, pod = who.rpartition("/")
    if not slash:
        return cut_end(text, width, mark)
    rest = f"/{pod} {ifname}"
    room = width - width_of(rest)
    return (
        cut_end(namespace, room, mark) + rest if room >= len(mark) else cut_middle(pod, width, mark)
    )


def _beginning(text: str, width: int) -> str:
    """Return as much of the text as ``width`` columns hold."""
    if text.isascii():
        return text[: max(width, 0)]
    found = ""
    for character in text:
        width -= width_of(character)
        if width < 0:
            break
        found += character
    return found
