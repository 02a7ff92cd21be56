"""What our command lines share: where results go, and how a run ends."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, TextIO

from hwmgr.cli import shells
from hwmgr.cli.output import Column, Output, Screen, details, render, text_of
from hwmgr.cli.streams import OutputError, discard, writing
from hwmgr.errors import HwmgrError, reasons_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

    import typer


class Terminal:
    """The streams of one run of ``program``; ``output`` is the form where a command names none."""

    __slots__ = ()

    program: str
    environment: Mapping[str, str]
    stdout: TextIO
    stderr: TextIO
    output: Output

    def show(
        self,
        rows: Sequence[Mapping[str, object]],
        columns: Sequence[Column],
        output: Output | None,
        data: object | None = None,
    ) -> None:
        """Print rows; ``data`` is what JSON and YAML show instead."""
        self.show_text(lambda s: render(rows, columns, output or self.output, s, data))

    def show_text(self, rendered: Callable[[Screen], str]) -> None:
        """Print what a function makes for this screen, before what standard error says next."""
        self.print(rendered(self.screen()) + "\n")
        self.flush()

    def show_one(self, value: Mapping[str, object], output: Output | None) -> None:
        """Print one object, as lines of ``key: value`` for people."""
        form = output or self.output
        if form in (Output.JSON, Output.YAML):
            self.show([], [], form, data=value)
        else:
            self.print(details(value) + "\n")

    def print(self, text: str) -> None:
        """Print text as it is. Raises OutputError; BrokenPipeError when nobody reads any more."""
        with writing():
            self.stdout.write(text)

    def flush(self) -> None:
        """Have everything printed reach its reader; raises as print() does."""
        with writing():
            self.stdout.flush()

    @contextmanager
    def printing_for_others(self) -> Iterator[None]:
        """Print what the block prints by way of sys.stdout, as typer does with its help."""
        if sys.stdout is not self.stdout:
            yield
            return
        printed = io.StringIO()
        try:
            with redirect_stdout(printed):
                yield
        finally:
            if text := printed.getvalue():
                self.print(text)

    def complain(self, text: str) -> None:
        """Print one line on standard error; where that is full or gone, nobody can be told."""
        try:
            self.stderr.write(f"{self.program}: {text_of(' '.join(text.split()))}\n")
            self.stderr.flush()
        except OSError:
            discard(self.stderr)

    def screen(self) -> Screen:
        """Say what standard output is."""
        unicode = _can_show(self.stdout, "…·─")
        if not self.stdout.isatty():
            return Screen(unicode=unicode)
        from shutil import get_terminal_size

        plain = bool(self.environment.get("NO_COLOR")) or self.environment.get("TERM") == "dumb"
        return Screen(get_terminal_size().columns, colour=not plain, unicode=unicode)


def run_command(app: typer.Typer, words: list[str], terminal: Terminal) -> int:
    """Run a command line; returns its exit status: 0 done, 1 it failed or found, 2 usage.

    The terminal is the command's context object. Errors become one line.
    """
    import typer

    with shells.taken_by_name(words, os.environ):
        command = typer.main.get_command(app)

    def run() -> int:
        try:
            with terminal.printing_for_others():
                status = command.main(
                    words, prog_name=terminal.program, standalone_mode=False, obj=terminal
                )
        except typer.Abort:
            return 1
        except SystemExit as end:  # completion ends so
            status = end.code or 0
        return status if isinstance(status, int) else 0

    return guarded(terminal, run)


def guarded(terminal: Terminal, action: Callable[[], int]) -> int:
    """Run what a command does; return its exit status, 1 or 2 where it raised.

    An error becomes one line, each fault of a file one of its own. Without a standard output
    nothing is done: its result would be for nobody.
    """
    if terminal.stdout.closed:
        closed = OutputError("it is closed, so nothing was done; without it: >/dev/null")
        terminal.complain(closed.message)
        return 1
    try:
        status = _status_of(terminal, action)
        terminal.flush()
    except OutputError as error:
        terminal.complain(error.message)
    except BrokenPipeError:
        pass  # the reader has seen enough
    else:
        return status
    discard(terminal.stdout)
    return 1


def _status_of(terminal: Terminal, action: Callable[[], int]) -> int:
    try:
        return action()
    except (OutputError, BrokenPipeError):
        raise
    except HwmgrError as error:
        for line in reasons_of(error):
            terminal.complain(line)
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: one line, no traceback
        explain = getattr(error, "format_message", None)
        if explain is None:
            terminal.complain(f"internal error: {type(error).__name__}: {error}")
            return 1
        hint = getattr(getattr(error, "ctx", None), "command_path", None) or terminal.program
        # pydantic's words, by way of typer.
        text = explain().replace("Value error, ", "")
        stop = "" if text.endswith((".", "?", "!")) else "."
        terminal.complain(f"{text}{stop} See '{hint} --help'.")
        return 2


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Have SIGTERM interrupt the block as Ctrl-C does, so that what was done can be told."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _can_show(stream: TextIO, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeError:
        return False
    return True
