"""What our command lines share: where results go, and how a run ends."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from hwmgr.cli.output import Column, Output, Screen, details, render
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
        text = render(rows, columns, output or self.output, self.screen(), data)
        self.stdout.write(text + "\n")

    def show_text(self, rendered: Callable[[Screen], str]) -> None:
        """Print what a function makes for this screen."""
        self.stdout.write(rendered(self.screen()) + "\n")

    def show_one(self, value: Mapping[str, object], output: Output | None) -> None:
        """Print one object, as lines of ``key: value`` for people."""
        form = output or self.output
        if form in (Output.JSON, Output.YAML):
            self.show([], [], form, data=value)
        else:
            self.stdout.write(details(value) + "\n")

    def complain(self, text: str) -> None:
        """Print one line on standard error."""
        self.stderr.write(f"{self.program}: {' '.join(text.split())}\n")

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

    command = typer.main.get_command(app)

    def run() -> int:
        try:
            status = command.main(
                words, prog_name=terminal.program, standalone_mode=False, obj=terminal
            )
        except typer.Abort:
            return 1
        return status if isinstance(status, int) else 0

    return guarded(terminal, run)


def guarded(terminal: Terminal, action: Callable[[], int]) -> int:
    """Run what a command does; return its exit status, 1 or 2 where it raised.

    An error becomes one line, each fault of a file one of its own.
    """
    try:
        status = action()
        terminal.stdout.flush()
    except HwmgrError as error:
        for line in reasons_of(error):
            terminal.complain(line)
        return 1
    except BrokenPipeError:
        # The reader has seen enough; without this the interpreter would complain on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
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
    return status


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
