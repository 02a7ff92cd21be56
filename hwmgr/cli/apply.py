"""The commands ``hwmgr plan``, ``hwmgr apply`` and ``hwmgr units``."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from hwmgr.cli import applyviews as cli_applyviews
from hwmgr.cli import complete as cli_complete
from hwmgr.cli.options import OutputOption, session_of
from hwmgr.cli.output import Output
from hwmgr.cli.terminal import sigterm_as_ctrl_c
from hwmgr.errors import HwmgrError, reason_of, reasons_of
from hwmgr.pci import full_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwmgr.cli.session import Session
    from hwmgr.desired.applypf import Manner
    from hwmgr.desired.changes import Change, Plan
    from hwmgr.desired.state import Desired
    from hwmgr.desired.witness import Account
    from hwmgr.node import Node

_GIVE_UP = "moving applied/<PF address>.json out of the state directory gives up what is left"
FileArgument = Annotated[
    str | None, typer.Argument(metavar="FILE", help="The desired state, in YAML.")
]
PfOption = Annotated[
    str | None,
    typer.Option(
        "--pf", metavar="NAME|ADDR", help="Only this PF.", autocompletion=cli_complete.pfs
    ),
]
OnlyVfsOption = Annotated[
    bool,
    typer.Option("--only-vfs", help="Leave PFs and the number of VFs alone."),
]


def plan(
    context: typer.Context,
    file: FileArgument = None,
    pf: PfOption = None,
    only_vfs: OnlyVfsOption = False,
    revert: Annotated[
        bool, typer.Option("--revert", help="What 'apply --revert' would do.")
    ] = False,
    output: OutputOption = None,
) -> None:
    """Show what apply would change, and whose VFs it would take; touches nothing."""
    from hwmgr.desired.applying import make_plan
    from hwmgr.desired.reverting import plan_revert

    _one_of(file, revert)
    session = session_of(context)
    node = session.node()
    with session.busy("reading devices"):
        manner = _manner(session, node, pf, only_vfs=only_vfs)
        if file is None:
            found = plan_revert(node, manner)
        else:
            found = make_plan(node, _desired(file, acting=False), manner)
    _show(session, output, found.changes, cli_applyviews.plan_view(found))
    refused = [f"{r.pf_label}: {r.why}" for r in found.refused]
    for text in (*found.problems, *refused, *found.cuts, *found.warnings):
        session.complain(text)
    only = [*(["--pf", pf] if pf else []), *(["--only-vfs"] if only_vfs else [])]
    _say(session, found, " ".join([*only, file or "--revert"]))
    raise typer.Exit(1 if found.changes or found.problems or found.refused else 0)


def apply(
    context: typer.Context,
    file: FileArgument = None,
    revert: Annotated[
        bool, typer.Option("--revert", help="Give back what was before the first apply.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Take VFs from the pods that have them.")
    ] = False,
    pf: PfOption = None,
    only_vfs: OnlyVfsOption = False,
    wait: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="Wait at most so long for the PFs to appear."),
    ] = 0.0,
    write_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=1, help="When a driver that does not answer is given up."
        ),
    ] = 120.0,
    output: OutputOption = None,
) -> None:
    """Make the node's PFs and VFs as a file has them; does nothing where they are so already.

    Refused, before anything is touched, when it would take a VF from a pod.
    """
    from hwmgr.desired import applying, reverting
    from hwmgr.desired.witness import Account

    _one_of(file, revert)
    session = session_of(context)
    node = session.node()
    account = Account()
    manner = replace(
        _manner(session, node, pf, only_vfs=only_vfs),
        force=force,
        write_seconds=write_timeout,
        witness=account,
    )

    def work() -> None:
        if file is None:
            reverting.revert(node, manner)
            return
        desired = _desired(file, acting=True)
        if wait:
            with session.busy("waiting for the PFs"):
                applying.await_pfs(node, desired, wait)
        applying.apply(node, desired, manner)

    try:
        with sigterm_as_ctrl_c():
            work()
    except (HwmgrError, KeyboardInterrupt) as error:
        _fail(session, output, account, error, reverts=revert)
    _show(session, output, account.changes, cli_applyviews.account_view(account, ()))
    for remark in account.remarks:
        session.complain(remark)
    if not account.changes:
        session.complain("nothing to do")


def _fail(
    session: Session,
    output: Output | None,
    account: Account,
    error: BaseException,
    *,
    reverts: bool,
) -> NoReturn:
    """Say why it failed, what was made by then, what was not, and what to do next."""
    _show(
        session, output, account.changes, cli_applyviews.account_view(account, [reason_of(error)])
    )
    for line in reasons_of(error):
        session.complain(line)
    for line in cli_applyviews.rest(account):
        session.complain(line)
    if reverts and (account.changes or account.failures or account.not_tried):
        session.complain(f"next: 'hwmgr apply --revert' again goes on; {_GIVE_UP}")
    elif account.failures:
        session.complain("next: applying again goes on, 'hwmgr apply --revert' goes back")
    raise typer.Exit(1)


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
    """Print or install what applies the desired state at boot and keeps others off VFs."""
    from hwmgr.systemfiles import NEXT, system_files

    session = session_of(context)
    try:
        found = system_files(program or _program())
    except ValueError as error:
        raise typer.BadParameter(f"{error}; give --program", param_hint="--program") from error
    if install:
        for one in found:
            _write(root.rstrip("/") + one.path, one.text)
        session.complain("next: " + "; ".join(NEXT))
    form = output or session.output
    if form in (Output.JSON, Output.YAML):
        session.show([], [], form, data=[{"path": f.path, "text": f.text} for f in found])
    elif install:
        session.stdout.write("".join(f"{root.rstrip('/')}{f.path}\n" for f in found))
    else:
        session.stdout.write("\n".join(f"# --- {f.path}\n{f.text}" for f in found))


def _one_of(file: str | None, revert: bool) -> None:
    if (file is None) != revert:
        message = "give a file or --revert" if file is None else "--revert takes no file"
        raise typer.BadParameter(message, param_hint="FILE")


def _manner(
    session: Session,
    node: Node,
    pf: str | None,
    *,
    only_vfs: bool = False,
) -> Manner:
    from hwmgr.desired.applypf import Manner
    from hwmgr.pci import pf_named

    address = None if pf is None else pf_named(node.sysfs, full_address(pf) or pf).address
    return Manner(only_vfs=only_vfs, pf=address, busy=session.busy)


def _desired(file: str, *, acting: bool) -> Desired:
    from hwmgr.desired.file import load

    return load(file, roots_alone=acting)


def _show(session: Session, output: Output | None, changes: Sequence[Change], data: object) -> None:
    form = output or session.output
    if form in (Output.TABLE, Output.WIDE) and not changes:
        return
    rows = [cli_applyviews.change_row(c) for c in changes]
    session.show(rows, cli_applyviews.CHANGE_COLUMNS, form, data=data)


def _say(session: Session, found: Plan, what: str) -> None:
    for hit in found.hits:
        session.complain(f"takes {hit.vf.address} away: {hit.holder}")
    if found.problems:
        return
    if not found.changes:
        session.complain("nothing else to do" if found.refused else "nothing to do")
    elif found.hits or found.cuts:
        session.complain(f"{len(found.changes)} to change; 'hwmgr apply --force {what}' does it")
    else:
        session.complain(f"{len(found.changes)} to change; 'hwmgr apply {what}' does it")


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
