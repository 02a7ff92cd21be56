"""Which shell ``--show-completion`` and ``--install-completion`` are for, where one is named."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping, Sequence

_OPTIONS = ("--install-completion", "--show-completion")
# typer makes flags of them and looks for the shell that started us, unless this variable is set;
# then they take the shell's name (typer/completion.py).
_NAMED = "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"


@contextmanager
def taken_by_name(words: Sequence[str], environment: MutableMapping[str, str]) -> Iterator[None]:
    """Have typer, in the block, make options that take the shell's name if the words have one."""
    if not _names_one(words):
        yield
        return
    environment[_NAMED] = "1"
    try:
        yield
    finally:
        del environment[_NAMED]


def _names_one(words: Sequence[str]) -> bool:
    followed = zip(words, [*words[1:], "-"], strict=False)
    joined = tuple(f"{option}=" for option in _OPTIONS)
    return any(
        word.startswith(joined) or (word in _OPTIONS and not after.startswith("-"))
        for word, after in followed
    )
