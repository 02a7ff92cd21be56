"""The command ``hwmgr units``."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Annotated

import typer

from hwmgr.cli.options import OutputOption, session_of
from hwmgr.cli.output import Output
from hwmgr.errors import HwmgrError
from hwmgr.nodeconfig import DEFAULT_PATH, load
from hwmgr.systemfiles import NEXT, UnitError, settings, system_files

_NOT_FOR_ALL = (
    f"which a container runtime's calls do not have: state_dir in {DEFAULT_PATH} holds for all"
)


def units(
    context: typer.Context,
    install: Annotated[
        bool, typer.Option("--install", help="Write them; without this they are printed.")
    ] = False,
    root: Annotated[
        str, typer.Option(metavar="DIR", help="Install below this folder instead of /.")
    ] = "/",
    program: Annotated[
        str | None, typer.Option(metavar="PATH", help="The hwmgr that the units start.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """Print or install what applies the desired state at boot and keeps others off VFs.

    The units use the configuration file and the state directory that this command uses.
    """
    session = session_of(context)
    options = {"HWMGR_STATE_DIR": session.state_dir} if session.state_dir else {}
    given = settings({**session.environment, **options})
    state_dir = load({**session.environment, **given}).state_dir
    try:
        found = system_files(program or _program(), state_dir, given)
    except UnitError as error:
        raise typer.BadParameter(f"{error}; give another path") from error
    if given:
        session.complain(f"the units set {' and '.join(given)}, {_NOT_FOR_ALL}")
    if session.sysfs:
        session.complain(f"the units are for /sys, not for {session.sysfs}")
    if install:
        for one in found:
            _write(root.rstrip("/") + one.path, one.text)
        session.complain("next: " + "; ".join(NEXT))
    form = output or session.output
    if form in (Output.JSON, Output.YAML):
        session.show([], [], form, data=[{"path": f.path, "text": f.text} for f in found])
    elif install:
        session.print("".join(f"{root.rstrip('/')}{f.path}\n" for f in found))
    else:
        session.print("\n".join(f"# --- {f.path}\n{f.text}" for f in found))


def _program() -> str:
    """Return the path of the hwmgr that runs now, as a unit can name it."""
    started = sys.argv[0]
    found = shutil.which("hwmgr") if os.path.basename(started) != "hwmgr" else started
    return os.path.abspath(found) if found else "/usr/local/bin/hwmgr"


def _write(path: str, text: str) -> None:
    """Write a file of the system's by rename, so that nobody reads half of it."""
    temporary = f"{path}.hwmgr-new"
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.rename(temporary, path)
    except OSError as error:
        raise HwmgrError(f"cannot write {path}: {error.strerror}") from error
