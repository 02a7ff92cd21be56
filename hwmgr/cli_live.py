"""The live screen of ``hwmgr watch``: the VFs as they are, and what happened last."""

from __future__ import annotations

import shutil
from collections import Counter, deque
from typing import TYPE_CHECKING, TextIO

from hwmgr.cli_events import event_line, instant
from hwmgr.cli_output import Column, cut, table
from hwmgr.cli_views import owner_text
from hwmgr.model import VFState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from hwmgr.cli_output import Screen
    from hwmgr.deviceevents import DeviceEvent, Function

COLUMNS = (
    Column(" ", "mark"),
    Column("ADDRESS", "address"),
    Column("PF", "pf", rank=1),
    Column("VF", "index", rank=2),
    Column("STATE", "state"),
    Column("DRIVER", "driver", rank=3),
    Column("IFNAME", "ifname", rank=4),
    Column("OWNER", "owner", shrink=True),
    Column("MAC", "mac", rank=5),
    Column("VLAN", "vlan", rank=6),
)
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


def frame(
    functions: Sequence[Function],
    events: Sequence[DeviceEvent],
    now: float,
    screen: Screen,
    height: int,
) -> list[str]:
    """Return the screen as at most ``height`` lines; ``now`` in seconds since the epoch.

    Where not all VFs have room, those that are free and have not changed of late go first.
    """
    vfs = [f for f in functions if f.index is not None]
    fresh = {e.change.function.address for e in events if now - e.time < _FRESH_SECONDS}
    width = screen.width or 80
    shown_events = events[-max(3, height // 3) :] if events else []
    room = max(height - _FURNITURE - max(len(shown_events), 1), 1)
    shown = _chosen(vfs, fresh, room)
    lines = [_heading(functions, vfs, now, width), ""]
    lines += table([_row(f, fresh) for f in shown], COLUMNS, screen).splitlines()
    hidden = len(vfs) - len(shown)
    lines.append(f"  and {hidden} more" if hidden else "")
    lines += ["", "LAST EVENTS"]
    lines += [cut(_line(e), width, screen) for e in shown_events] or ["none so far"]
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
    return left[:width]


def _line(event: DeviceEvent) -> str:
    """Return an event without its date and milliseconds."""
    line = event_line(event)
    return line[11:19] + line[24:]


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
    settings = info.settings if info else None
    return {
        "mark": "*" if function.address in fresh else " ",
        "address": function.address,
        "pf": function.pf_ifname,
        "index": function.index,
        "state": str(info.state) if info else None,
        "driver": function.driver,
        "ifname": function.ifname,
        "owner": owner_text(function.owner) if function.owner else None,
        "mac": settings.mac if settings else None,
        "vlan": (settings.vlan or None) if settings else None,
    }


class LiveScreen:
    """Draws frames in place on a terminal, whatever its size becomes; gives it back at the end."""

    def __init__(self, stream: TextIO, screen: Callable[[], Screen]) -> None:
        self._stream = stream
        self._screen = screen
        self._events: deque[DeviceEvent] = deque(maxlen=_EVENTS_KEPT)
        self._drawn: list[str] = []

    def __enter__(self) -> LiveScreen:
        self._stream.write(_ENTER)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stream.write(_LEAVE)
        self._stream.flush()

    def draw(self, functions: Sequence[Function], new: Iterable[DeviceEvent], now: float) -> None:
        """Show the functions and the latest events; writes nothing when nothing has changed."""
        self._events.extend(new)
        # The last line stays free: writing to its end would scroll some terminals.
        height = max(shutil.get_terminal_size().lines - 1, 4)
        lines = frame(functions, list(self._events), now, self._screen(), height)
        if lines == self._drawn:
            return
        self._drawn = lines
        ended = "".join(f"{line}{_END_OF_LINE}\r\n" for line in lines)
        self._stream.write(f"{_HOME}{ended}{_BELOW}")
        self._stream.flush()
