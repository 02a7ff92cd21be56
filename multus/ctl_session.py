"""One run of ``multusctl``: its streams and options, and how results are written."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from hwmgr.cli_output import Column, Output, Screen, details, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OutputOption = Annotated[
    Output | None,
    typer.Option("--output", "-o", help="Form of the output; json is the stable one."),
]


@dataclass(frozen=True, slots=True)
class CtlSession:
    """What a command works with."""

    environment: Mapping[str, str]
    stdout: TextIO
    stderr: TextIO
    state_dir: str = "/var/lib/cni/sriov"
    output: Output = Output.TABLE

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

    def show_one(self, value: Mapping[str, object], output: Output | None) -> None:
        """Print one object, as lines of ``key: value`` for people."""
        form = output or self.output
        if form in (Output.JSON, Output.YAML):
            self.show([], [], form, data=value)
        else:
            self.stdout.write(details(value) + "\n")

    def complain(self, text: str) -> None:
        """Print one line on standard error."""
        self.stderr.write(f"multusctl: {' '.join(text.split())}\n")

    def _screen(self) -> Screen:
        if not self.stdout.isatty():
            return Screen()
        plain = bool(self.environment.get("NO_COLOR")) or self.environment.get("TERM") == "dumb"
        return Screen(shutil.get_terminal_size().columns, colour=not plain)


def real_session() -> CtlSession:
    """Return the session of this process."""
    return CtlSession(os.environ, sys.stdout, sys.stderr)


def session_of(context: typer.Context) -> CtlSession:
    """Return the session that main() was given, with the global options in it."""
    session = context.obj
    if not isinstance(session, CtlSession):
        raise TypeError("the command line was not started by multus.ctl.main()")
    return session
