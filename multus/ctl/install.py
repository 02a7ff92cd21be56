"""The command ``multusctl install``."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from multus import install
from multus.ctl.session import CtlSession, OutputOption, session_of


def install_command(
    context: typer.Context,
    bin_dir: Annotated[
        str, typer.Option("--bin-dir", metavar="DIR", help="Where the runtime looks for plugins.")
    ] = "/opt/cni/bin",
    socket: Annotated[
        str | None,
        typer.Option(
            "--socket", metavar="FILE", help=f"The daemon's. [default: {install.DEFAULT_SOCKET}]"
        ),
    ] = None,
    thin: Annotated[
        str | None,
        typer.Option(
            "--thin",
            metavar="DIR|none",
            help="Where the programs are that work while the daemon is down. [default: those of"
            " this installation]",
        ),
    ] = None,
    spool: Annotated[
        str | None,
        typer.Option(
            "--spool",
            metavar="DIR",
            help="Where a DEL is kept while nothing works. [default: spool in the state directory]",
        ),
    ] = None,
    python: Annotated[
        bool, typer.Option("--python", help="The twin in Python, also where the other is there.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace or remove also what is somebody else's.")
    ] = False,
    uninstall: Annotated[
        bool, typer.Option("--uninstall", help="Remove what was installed.")
    ] = False,
    output: OutputOption = None,
) -> None:
    """Put the programs multus and sriov where the container runtime starts them.

    They hand each call to multus-daemon. What no option names stays as their settings have it.
    """
    session = session_of(context)
    if uninstall:
        gone = install.uninstall(bin_dir, force)
        session.show_one({"removed": list(gone.removed), "left": list(gone.left)}, output)
        for path in gone.left:
            session.complain(f"{path} is somebody else's and was left; --force removes it")
        return
    if socket is None:
        socket = _socket_of_the_daemon(session)
    # That of the state directory, since there the daemon and the thin programs look for it.
    request = install.Request(
        bin_dir,
        thin=_own_programs() if thin is None else thin,
        socket=socket,
        spool=f"{session.state_dir}/spool" if spool is None else spool,
        python=python,
        force=force,
    )
    done = install.install(request, install.shipped())
    if done.shim == "python" and not python:
        session.complain("no shim was compiled for this installation, so it is the twin in Python")
    if done.made:
        session.complain(f"{bin_dir} was not there and has been made; does the runtime look there?")
    session.show_one(
        {
            "shim": done.shim,
            "programs": list(done.programs),
            "settings": done.settings,
            "socket": done.values["socket"],
            "thin": done.values.get("thin"),
            "spool": done.values["spool"],
            "changed": list(done.changed),
        },
        output,
    )


def _own_programs() -> str:
    """Return the folder of this interpreter's programs if ours are there, else "none"."""
    folder = os.path.dirname(sys.executable)
    there = all(os.access(f"{folder}/{name}", os.X_OK) for name in install.PROGRAMS)
    return folder if there else "none"


def _socket_of_the_daemon(session: CtlSession) -> str | None:
    """Return the socket that the node's configuration names, None when it names none."""
    from hwmgr import nodeconfig

    named = nodeconfig.load(session.environment).daemon.socket
    return None if named == nodeconfig.DaemonConfig().socket else named
