"""What ``hwmgr watch`` says of one event: the keys of its JSON, its line for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hwmgr.cli_output import text_of
from hwmgr.cli_views import owner_text, owner_view, vf_view
from hwmgr.deviceevents import EventKind
from hwmgr.vfsettings import NO_MAC

if TYPE_CHECKING:
    from hwmgr.deviceevents import Change, DeviceEvent
    from hwmgr.model import VFSettings

Json = dict[str, object]

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
    change = event.change
    info = change.function.info
    known = [str(info.state) if info else "", owner_text(event.owner) if event.owner else ""]
    if change.kind in (EventKind.ATTACH, EventKind.DETACH):
        known.pop()
    if change.kind is EventKind.STATE:
        known.pop(0)
    state = ", ".join(text for text in known if text)
    parts = [
        instant(event.time),
        str(change.kind).ljust(len(EventKind.NETDEV_REMOVE)),
        change.function.address,
        _place(change).ljust(14),
        _news(event),
        f"({state})" if state else "",
    ]
    return text_of("  ".join(part for part in parts if part).rstrip())


def instant(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    when = datetime.fromtimestamp(int(seconds * 1000) / 1000, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _place(change: Change) -> str:
    function = change.function
    if function.index is None:
        return function.ifname or "-"
    return f"{function.pf_ifname or '-'} vf {function.index}"


def _news(event: DeviceEvent) -> str:
    change, function = event.change, event.change.function
    match change.kind:
        case EventKind.BIND | EventKind.UNBIND:
            return _now(function.driver or "no driver", change.was)
        case EventKind.NETDEV_ADD | EventKind.NETDEV_REMOVE | EventKind.RENAME:
            return _now(change.ifname or "-", change.was)
        case EventKind.NUMVFS:
            return _now(f"{function.num_vfs} VFs", change.was)
        case EventKind.ATTACH | EventKind.DETACH:
            return owner_text(event.owner) if event.owner else "-"
        case EventKind.STATE:
            return _now(str(function.info.state) if function.info else "-", change.was)
        case EventKind.SETTINGS:
            return _settings(function.info.settings if function.info else None)
        case _:
            return ""


def _now(text: str, was: str | int | None) -> str:
    return text if was is None else f"{text}, was {was}"


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
