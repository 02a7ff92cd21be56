"""Files that writers left when they were killed, as facts for doctor."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.spool import FOLDER as SPOOL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.node import Node
    from hwmgr.sight import Sight

# StateDir.write_bytes(): ``.<name>.<pid>.<nanoseconds>``.
_STORE = re.compile(r"\..+\.(?P<pid>\d+)\.\d+")
# The shims': ``.<container>.<interface>.<nanoseconds since the epoch>.<pid>``.
_SHIM = re.compile(r"\..+\..+\.\d{19}\.(?P<pid>\d+)")
_FOLDERS = ("", "journal", "journal/containers", "journal-torn", "pci", "applied")
# A slow disk may take this long for a small file (jbd2 waits for a full journal).
_YOUNG_SECONDS = 60.0
# By then its number is another process's, or its process is one that we cannot see.
_OLD_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Temporary:
    """A file that a write left when its process was killed; ``age`` in seconds."""

    path: str
    pid: str
    age: float


def temporaries(node: Node, sight: Sight) -> Iterator[Temporary]:
    """Yield the files that no living process is writing any more."""
    state = node.state
    numbered = [name for name in state.list() if name.isascii() and name.isdigit()]
    for folder in (*_FOLDERS, *numbered):
        yield from _in(node, sight, folder, _STORE)
    yield from _in(node, sight, SPOOL, _SHIM)


def _in(node: Node, sight: Sight, folder: str, pattern: re.Pattern[str]) -> Iterator[Temporary]:
    home = os.path.join(node.state.root, folder) if folder else node.state.root
    try:
        names = sorted(os.listdir(home))
    except OSError:
        return
    for name in names:
        found = pattern.fullmatch(name)
        if found is None:
            continue
        try:
            status = os.lstat(f"{home}/{name}")
        except FileNotFoundError:
            continue
        # Of a clock that was set back, a time to come is long ago.
        age = abs(node.clock() - status.st_mtime)
        ended = sight.all_processes and not os.path.exists(f"{node.proc}/{found['pid']}")
        over = age >= (_YOUNG_SECONDS if ended else _OLD_SECONDS)
        if over and stat.S_ISREG(status.st_mode):
            yield Temporary(f"{home}/{name}", found["pid"], age)
