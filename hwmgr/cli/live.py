"""The live screen of ``hwmgr watch``: the VFs as they are, and what happened last."""

from __future__ import annotations

import re
import shutil
from collections import Counter, deque
from typing import TYPE_CHECKING, TextIO

from hwmgr.cli.columns import LIVE_COLUMNS
from hwmgr.cli.events import brief_lines, instant
from hwmgr.cli.output import cut, table
from hwmgr.cli.text import width_of
from hwmgr.cli.views import owner_text, vf_row
from hwmgr.model import VFState

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from hwmgr.cli.output import Screen
    from hwmgr.watch.deviceevents import DeviceEvent, Function

_FRESH_SECONDS = 10.0
_EVENTS_KEPT = 64
# Lines beside rows and events: counts, empty, titles, how many more; empty, title of the events.
_FURNITURE = 6
# Control sequences of ECMA-48 and xterm.
_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_END_OF_LINE = "\x1b[K"
_BELOW = "\x1b[J"
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def frame(
    functions: Sequence[Function],
    events: Sequence[DeviceEvent],
    now: float,
    screen: Screen,
    height: int,
    notice: str = "",
) -> list[str]:
    """Return the screen as at most ``height`` lines; ``now`` in seconds since the epoch.

    ``notice`` is what has to be said besides, below the counts.
    Where not all VFs have room, those that are free and have not changed of late go first.
    """
    vfs = [f for f in functions if f.index is not None]
    fresh = {e.change.function.address for e in events if now - e.time < _FRESH_SECONDS}
    width = screen.width or 80
    shown_events = events[-max(3, height // 3) :] if events else []
    room = max(height - _FURNITURE - max(len(shown_events), 1), 1)
    shown = _chosen(vfs, fresh, room)
    lines = [cut(_heading(functions, vfs, now, width), width, screen), cut(notice, width, screen)]
    lines += table([_row(f, fresh) for f in shown], LIVE_COLUMNS, screen).splitlines()
    hidden = len(vfs) - len(shown)
    lines.append(f"  and {hidden} more" if hidden else "")
    lines += ["", "LAST EVENTS"]
    lines += brief_lines(shown_events, width, screen.mark) or ["none so far"]
    return lines[:height]


def summary(functions: Sequence[Function]) -> str:
    """Say how many PFs and VFs there are."""
    pfs = sum(1 for f in functions if f.index is None)
    vfs = len(functions) - pfs
    return f"{pfs} PF{'' if pfs == 1 else 's'}, {vfs} VF{'' if vfs == 1 else 's'}"


def _heading(functions: Sequence[Function], vfs: Sequence[Function], now: float, width: int) -> str:
    counts = Counter(f.info.state for f in vfs if f.info)
    states = ", ".join(f"{counts[state]} {state}" for state in VFState if counts[state])
    left = summary(functions) + (f": {states}" if states else "")
    for right in (f"{instant(now)[11:19]} UTC, Ctrl-C ends", "Ctrl-C ends"):
        if len(left) + 2 + len(right) <= width:
            return left + right.rjust(width - len(left))
    return left


def _chosen(vfs: Sequence[Function], fresh: AbstractSet[str], room: int) -> list[Function]:
    if len(vfs) <= room:
        return list(vfs)
    by_interest = sorted(vfs, key=lambda f: (f.address not in fresh, _is_free(f)))
    chosen = {f.address for f in by_interest[:room]}
    return [f for f in vfs if f.address in chosen]


def _is_free(function: Function) -> bool:
    return function.info is not None and function.info.state is VFState.FREE


def _row(function: Function, fresh: AbstractSet[str]) -> dict[str, object]:
    info = function.info
    return {
        **(vf_row(info) if info else {}),
        "mark": "*" if function.address in fresh else " ",
        "address": function.address,
        "pf": function.pf_ifname,
        "index": function.index,
        "driver": function.driver,
        "ifname": function.netdevs,
        "owner": owner_text(function.owner) if function.owner else None,
    }


class LiveScreen:
    """Draws frames in place on a terminal, whatever its size becomes; gives it back at the end."""

    def __init__(self, stream: TextIO, screen: Callable[[], Screen]) -> None:
        self._stream = stream
        self._screen = screen
        self._events: deque[DeviceEvent] = deque(maxlen=_EVENTS_KEPT)
        self._drawn: tuple[list[str], os.terminal_size] | None = None

    def __enter__(self) -> LiveScreen:
        self._stream.write(_ENTER)
        self._drawn = None
        return self

    def __exit__(self, *_error: object) -> None:
        self._stream.write(_LEAVE)
        self._stream.flush()

    def draw(
        self,
        functions: Sequence[Function],
        new: Iterable[DeviceEvent],
        now: float,
        notice: str = "",
    ) -> None:
        """Show the functions and the latest events; writes nothing when nothing has changed."""
        self._events.extend(new)
        size, screen = shutil.get_terminal_size(), self._screen()
        # The last line stays free: writing to its end would scroll some terminals.
        height = max(size.lines - 1, 4)
        lines = frame(functions, list(self._events), now, screen, height, notice)
        if (lines, size) == self._drawn:
            return
        self._drawn = lines, size
        text = "".join(f"{_ended(line, size.columns)}\r\n" for line in lines)
        self._stream.write(f"{_HOME}{text}{_BELOW}")
        self._stream.flush()


def _ended(line: str, columns: int) -> str:
    """Return a line with what clears the rest of it.

    After a character in the last column the cursor is still on it (xterm, the Linux console), so
    clearing to the end would take that character away.
    """
    return line if width_of(_COLOUR.sub("", line)) >= columns else line + _END_OF_LINE
