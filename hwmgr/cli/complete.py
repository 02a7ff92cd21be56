"""Shell completion: what is there on this node, also in bash, which splits words at colons."""

from __future__ import annotations

import contextlib
import io
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer  # noqa: TC002 - typer reads annotations at run time

from hwmgr.errors import HwmgrError
from hwmgr.pci import list_pfs, list_vfs
from hwmgr.savedstate import all_entries
from hwmgr.store import StateDir
from hwmgr.sysfs import Sysfs

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

_MODE = "_HWMGR_COMPLETE"


def pfs(context: typer.Context, incomplete: str) -> list[str]:
    """Return names and addresses of PFs."""
    with contextlib.suppress(HwmgrError):
        found = list_pfs(_sysfs(context))
        words = [pf.ifname for pf in found if pf.ifname] + [pf.address for pf in found]
        return [w for w in words if w.startswith(incomplete)]
    return []


def vfs(context: typer.Context, incomplete: str) -> list[str]:
    """Return addresses of VFs."""
    with contextlib.suppress(HwmgrError):
        sysfs = _sysfs(context)
        words = [vf.address for pf in list_pfs(sysfs) for vf in list_vfs(sysfs, pf.address)]
        return [w for w in words if w.startswith(incomplete)]
    return []


def drivers(context: typer.Context, incomplete: str) -> list[str]:
    """Return names of PCI drivers that are loaded."""
    with contextlib.suppress(HwmgrError):
        names = sorted(_sysfs(context).names("bus/pci/drivers"))
        return [n for n in names if n.startswith(incomplete)]
    return []


def state_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Return ids of saved state."""
    folder = context.find_root().params.get("state_dir") or "/var/lib/cni/sriov"
    with contextlib.suppress(HwmgrError):
        return [e.id for e in all_entries(StateDir(folder)) if e.id.startswith(incomplete)]
    return []


def _sysfs(context: typer.Context) -> Sysfs:
    return Sysfs(context.find_root().params.get("sysfs") or "/sys")


@contextmanager
def words_with_colons(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Let bash complete words with colons in them, which it takes for several words.

    The pieces are put together for the block, and what it prints is cut to the last piece, which is
    the one that bash replaces (COMP_WORDBREAKS in bash(1)).
    """
    words = environment.get("COMP_WORDS", "").split()
    if environment.get(_MODE) != "complete_bash" or ":" not in " ".join(words):
        yield
        return
    joined, current, head = _join(words, int(environment.get("COMP_CWORD", "0")))
    environment["COMP_WORDS"] = " ".join(joined)
    environment["COMP_CWORD"] = str(current)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            sys.stdout.write(line.removeprefix(head) + "\n")


def _join(words: list[str], current: int) -> tuple[list[str], int, str]:
    """Return the words put together, the index of the current one, and its part up to a colon."""
    joined: list[str] = []
    position = 0
    glue = False
    for number, word in enumerate([*words, ""] if current >= len(words) else words):
        if glue or (word == ":" and joined):
            joined[-1] += word
        else:
            joined.append(word)
        glue = word == ":"
        if number == current:
            position = len(joined) - 1
    return joined, position, joined[position].rpartition(":")[0] + ":"
