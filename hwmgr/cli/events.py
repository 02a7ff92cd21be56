"""What ``hwmgr watch`` says of one event: the keys of its JSON, its line for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hwmgr.cli.output import text_of
from hwmgr.cli.text import cut_end, cut_owner, padded, width_of
from hwmgr.cli.views import owner_text, owner_view, vf_view
from hwmgr.vfsettings import NO_MAC
from hwmgr.watch.deviceevents import EventKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwmgr.model import VFSettings
    from hwmgr.watch.deviceevents import Change, DeviceEvent

Json = dict[str, object]

# What a line of its own cannot know: how long the names in the others are.
_PLACE_WIDTH = 14
_SHORTEST_OWNER = 6
# Their owner is what they are about, their state is what they make of it.
_OF_RECORDS = (EventKind.ATTACH, EventKind.DETACH)
_OF_A_VF = ("mac", "vlan", "trust", "spoofchk", "numaNode", "iommuGroup")


def event_view(event: DeviceEvent) -> Json:
    """Return an event under the keys of ``vf list``, with what happened and when before them."""
    change = event.change
    function = change.function
    looked = vf_view(function.info) if function.info else {}
    return {
        "time": instant(event.time),
        "event": str(change.kind),
        "was": change.was,
        "source": str(event.source),
        "address": function.address,
        "pf": function.pf_ifname if function.index is not None else function.ifname,
        "pfAddress": function.pf_address,
        "index": function.index,
        "driver": function.driver,
        "ifname": change.ifname or function.ifname,
        "state": looked.get("state"),
        "owner": owner_view(event.owner) if event.owner else None,
        **{key: looked.get(key) for key in _OF_A_VF},
        "numVfs": function.num_vfs,
    }


def event_line(event: DeviceEvent) -> str:
    """Return an event as one line: time, event, function, what is new, state and owner."""
    return _line(event, instant(event.time), _PLACE_WIDTH, _owner(event))


def brief_lines(events: Sequence[DeviceEvent], width: int, mark: str) -> list[str]:
    """Return events without their date, in ``width`` columns; what is known anyway goes first."""
    place = max((width_of(_place(e.change)) for e in events), default=0)
    lines = []
    for event in events:
        owner, time = _owner(event), instant(event.time)[11:19]
        line = _line(event, time, place, owner)
        if width_of(line) > width and event.change.kind in _OF_RECORDS:
            line = _line(event, time, place, owner, with_state=False)
        too_long = width_of(line) - width
        if too_long > 0 and owner:
            room = max(width_of(owner) - too_long, _SHORTEST_OWNER)
            line = line.replace(owner, cut_owner(owner, room, mark))
        lines.append(cut_end(line, width, mark))
    return lines


def instant(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    when = datetime.fromtimestamp(int(seconds * 1000) / 1000, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(event: DeviceEvent, time: str, place: int, owner: str, *, with_state: bool = True) -> str:
    change = event.change
    info = change.function.info if with_state else None
    known = [str(info.state) if info else "", owner]
    if change.kind in _OF_RECORDS:
        known.pop()
    if change.kind is EventKind.STATE:
        known.pop(0)
    state = ", ".join(text for text in known if text)
    parts = [
        time,
        str(change.kind).ljust(len(EventKind.NETDEV_REMOVE)),
        change.function.address,
        padded(_place(change), place),
        _news(event, owner),
        f"({state})" if state else "",
    ]
    return "  ".join(part for part in parts if part).rstrip()


def _owner(event: DeviceEvent) -> str:
    return text_of(owner_text(event.owner)) if event.owner else ""


def _place(change: Change) -> str:
    function = change.function
    if function.index is None:
        return text_of(function.ifname)
    return f"{text_of(function.pf_ifname)} vf {function.index}"


def _news(event: DeviceEvent, owner: str) -> str:
    change, function = event.change, event.change.function
    match change.kind:
        case EventKind.BIND | EventKind.UNBIND:
            return _now(function.driver or "no driver", change.was)
        case EventKind.NETDEV_ADD | EventKind.NETDEV_REMOVE | EventKind.RENAME:
            return _now(change.ifname or "-", change.was)
        case EventKind.NUMVFS:
            return _now(f"{function.num_vfs} VFs", change.was)
        case kind if kind in _OF_RECORDS:
            return owner or "-"
        case EventKind.STATE:
            return _now(str(function.info.state) if function.info else "-", change.was)
        case EventKind.SETTINGS:
            return _settings(function.info.settings if function.info else None)
        case _:
            return ""


def _now(text: str, was: str | int | None) -> str:
    return text_of(text) if was is None else text_of(f"{text}, was {was}")


def _settings(settings: VFSettings | None) -> str:
    if settings is None:
        return "unknown"
    mac = None if settings.mac == NO_MAC else settings.mac
    pairs = {
        "mac": mac,
        "vlan": settings.vlan or None,
        "rate": settings.max_rate or None,
        "trust": settings.trust,
        "spoofchk": settings.spoofchk,
        "link": settings.link_state,
    }
    return " ".join(f"{k} {text_of(v)}" for k, v in pairs.items() if v is not None) or "none"
