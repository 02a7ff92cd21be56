"""What our command lines share: where results go, and how a run ends."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, TextIO

import typer

from hwmgr.cli_output import Column, Output, Screen, details, render
from hwmgr.errors import HwmgrError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


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
        text = render(rows, columns, output or self.output, self._screen(), data)
        self.stdout.write(text + "\n")

    def show_text(self, rendered: Callable[[Screen], str]) -> None:
        """Print what a function makes for this screen."""
        self.stdout.write(rendered(self._screen()) + "\n")

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

    def _screen(self) -> Screen:
        if not self.stdout.isatty():
            return Screen()
        plain = bool(self.environment.get("NO_COLOR")) or self.environment.get("TERM") == "dumb"
        return Screen(shutil.get_terminal_size().columns, colour=not plain)


def run_command(app: typer.Typer, words: list[str], terminal: Terminal) -> int:
    """Run a command line; returns its exit status: 0 done, 1 it failed or found, 2 usage.

    The terminal is the command's context object. Errors become one line.
    """
    command = typer.main.get_command(app)
    try:
        status = command.main(
            words, prog_name=terminal.program, standalone_mode=False, obj=terminal
        )
        terminal.stdout.flush()
    except HwmgrError as error:
        terminal.complain("; ".join([error.message, *getattr(error, "__notes__", ())]))
        return 1
    except BrokenPipeError:
        # The reader has seen enough; without this the interpreter would complain on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except typer.Abort:
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: one line, no traceback
        explain = getattr(error, "format_message", None)
        if explain is None:
            terminal.complain(f"internal error: {type(error).__name__}: {error}")
            return 1
        hint = getattr(getattr(error, "ctx", None), "command_path", None) or terminal.program
        terminal.complain(f"{explain()} See '{hint} --help'.")
        return 2
    return status if isinstance(status, int) else 0
