"""The command ``hwmgr watch``."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from hwmgr.cli import complete as cli_complete
from hwmgr.cli.events import event_line, event_view, instant
from hwmgr.cli.live import LiveScreen, summary
from hwmgr.cli.options import OutputOption, session_of
from hwmgr.cli.output import Output, to_json_line, to_yaml
from hwmgr.pci import full_address
from hwmgr.watch.watching import TICK_SECONDS, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from hwmgr.cli.session import Session
    from hwmgr.watch.deviceevents import DeviceEvent

_LOST = "the kernel dropped events; what differs is told, as source 'look'"

PfOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME|ADDR",
        help="This PF and its VFs only; may be given again.",
        autocompletion=cli_complete.pfs,
    ),
]


def watch(
    context: typer.Context,
    pf: PfOption = None,
    count: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="End after N events.")
    ] = None,
    for_: Annotated[
        float | None,
        typer.Option("--for", metavar="SECONDS", min=0, help="End after that many seconds."),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Show what happens to PFs and VFs: they come, go, are bound, renamed, attached.

    On a terminal the VFs and the latest events; elsewhere, and with json or yaml, a line (a
    document) for each event. Ends by Ctrl-C.
    """
    from hwmgr.pci import pf_named

    session = session_of(context)
    node = session.node()
    names = [full_address(name) or name for name in pf or []]
    chosen = [pf_named(node.sysfs, name).address for name in names] or None
    form = output or session.output
    deadline = None if for_ is None else time.monotonic() + for_
    with _ended_by_signals():
        watcher = Watcher(node, node.udev.monitor(), chosen)
        if form in (Output.JSON, Output.YAML) or not _can_draw(session):
            session.complain(f"watching {summary(watcher.functions)}")
            session.stderr.flush()
            _print_events(session, watcher, _printer(form), count, deadline)
            return
        with LiveScreen(session.stdout, session.screen) as live:
            _draw_events(live, watcher, node.clock, count, deadline)


def _draw_events(
    live: LiveScreen,
    watcher: Watcher,
    clock: Callable[[], float],
    count: int | None,
    deadline: float | None,
) -> None:
    left = count
    notice = ""
    lost = watcher.losses
    with _stopped_between_frames() as stop:
        live.draw(watcher.functions, [], clock())
        for events in _steps(watcher, deadline):
            left = None if left is None else left - len(events)
            if watcher.losses != lost:
                lost = watcher.losses
                notice = f"{instant(clock())[11:19]}  {_LOST}"
            live.draw(watcher.functions, events, clock(), notice)
            if left is not None and left <= 0:
                return
            if stop.wanted:
                stop.now(live)


def _print_events(
    session: Session,
    watcher: Watcher,
    text_of_event: Callable[[DeviceEvent, bool], str],
    count: int | None,
    deadline: float | None,
) -> None:
    ascii_only = not session.screen().unicode
    printed = lost = 0
    for events in _steps(watcher, deadline):
        if watcher.losses != lost:
            lost = watcher.losses
            session.complain(_LOST)
            session.stderr.flush()
        for event in events[: None if count is None else count - printed]:
            session.print(text_of_event(event, ascii_only) + "\n")
            printed += 1
        session.flush()
        if printed == count:
            return
        if _nobody_reads(session.stdout):
            raise BrokenPipeError


def _steps(watcher: Watcher, deadline: float | None) -> Iterator[list[DeviceEvent]]:
    """Yield what happened, at least once a tick, until the deadline (time.monotonic())."""
    while deadline is None or time.monotonic() < deadline:
        remaining = TICK_SECONDS if deadline is None else max(deadline - time.monotonic(), 0)
        yield watcher.step(min(remaining, TICK_SECONDS))


def _printer(form: Output) -> Callable[[DeviceEvent, bool], str]:
    if form is Output.JSON:
        return lambda event, ascii_only: to_json_line(event_view(event), ascii_only=ascii_only)
    if form is Output.YAML:
        return lambda event, ascii_only: "---\n" + to_yaml(event_view(event), ascii_only=ascii_only)
    return lambda event, _ascii_only: event_line(event)


def _nobody_reads(stream: TextIO) -> bool:
    """Tell whether the other end of a pipe is closed: the next event may be hours away."""
    try:
        fd = stream.fileno()
    except OSError:
        return False
    poll = select.poll()
    poll.register(fd, 0)
    return any(what & (select.POLLERR | select.POLLHUP) for _fd, what in poll.poll(0))


def _can_draw(session: Session) -> bool:
    return session.stdout.isatty() and session.environment.get("TERM") not in (None, "", "dumb")


class _Stop:
    """Ctrl-Z: the terminal is given back before the process stops, and taken again after it."""

    def __init__(self) -> None:
        self.wanted = False

    def heard(self, _number: int, _frame: FrameType | None) -> None:
        self.wanted = True

    def now(self, live: LiveScreen) -> None:
        self.wanted = False
        live.__exit__()
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, before)
        live.__enter__()


@contextmanager
def _stopped_between_frames() -> Iterator[_Stop]:
    stop = _Stop()
    before = signal.signal(signal.SIGTSTP, stop.heard)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTSTP, before)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End the block by SIGINT or SIGTERM, without an error: that is how a watch ends.

    The terminal has to be given back, so SIGTERM must not end the process at once.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)
