"""One run of ``multusctl``: its streams and options, and how results are written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from hwmgr.cli.output import Output
from hwmgr.cli.streams import standard_streams
from hwmgr.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Mapping

OutputOption = Annotated[
    Output | None,
    typer.Option("--output", "-o", help="Form of the output; json is the stable one."),
]


@dataclass(frozen=True, slots=True)
class CtlSession(Terminal):
    """What a command works with."""

    environment: Mapping[str, str]
    stdout: TextIO
    stderr: TextIO
    state_dir: str = "/var/lib/cni/sriov"
    output: Output = Output.TABLE
    program: str = "multusctl"


def real_session() -> CtlSession:
    """Return the session of this process."""
    return CtlSession(os.environ, *standard_streams())


def session_of(context: typer.Context) -> CtlSession:
    """Return the session that main() was given, with the global options in it."""
    session = context.obj
    if not isinstance(session, CtlSession):
        raise TypeError("the command line was not started by multus.ctl.app.main()")
    return session
