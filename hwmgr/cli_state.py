"""The commands ``hwmgr state`` and ``hwmgr repair``."""

from __future__ import annotations

from typing import Annotated

import typer

from hwmgr import cli_complete, cli_views
from hwmgr.cli_options import OutputOption, session_of
from hwmgr.errors import StateError

state_app = typer.Typer(help="Saved state, of every format.", rich_markup_mode=None)


@state_app.command("list", epilog="Example: hwmgr state list -o json")
def _state_list(context: typer.Context, output: OutputOption = None) -> None:
    """List the saved state of every format, also what cannot be read."""
    from hwmgr.savedstate import all_entries

    session = session_of(context)
    with session.busy("reading state"):
        rows = [cli_views.state_view(e) for e in all_entries(session.node().state)]
    session.show(rows, cli_views.STATE_COLUMNS, output)


@state_app.command("show", epilog="Example: hwmgr state show journal/0000:01:10.0.json")
def _state_show(
    context: typer.Context,
    id_: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="An id of 'state list', or an address or container id that only one has.",
            autocompletion=cli_complete.state_ids,
        ),
    ],
    output: OutputOption = None,
) -> None:
    """Show one saved state and all that it holds."""
    from hwmgr.savedstate import content, find

    session = session_of(context)
    state = session.node().state
    found = find(state, id_)
    if len(found) != 1:
        ids = ", ".join(e.id for e in found)
        problem = f"{id_!r} names several: {ids}" if found else f"no saved state is {id_!r}"
        raise StateError(state.root, 0, f"{problem}; see 'hwmgr state list'")
    view = cli_views.state_view(found[0])
    session.show_one({**view, "content": content(state, found[0])}, output)


def repair(
    context: typer.Context,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this nothing is done.")
    ] = False,
    output: OutputOption = None,
) -> None:
    """Print what is wrong and how it would be put right; with --yes do it."""
    from hwmgr import leftcalls
    from hwmgr.repair import act, plan

    session = session_of(context)
    node = session.node()
    # Calls first: they may give back what would otherwise have to be repaired.
    calls = leftcalls.plan(node)
    steps = [*calls, *plan(node)]
    views = [cli_views.repair_view(s, cli_views.evidence(node.state, s)) for s in steps]
    session.show(views, cli_views.REPAIR_COLUMNS, output)
    if not yes:
        if steps:
            session.complain(f"{len(steps)} found; 'hwmgr repair --yes' puts them right")
        raise typer.Exit(1 if steps else 0)
    problems = []
    for step in calls:
        with session.busy(f"{step.subject}: {step.action}"):
            problems += leftcalls.act(node, step, session.programs)
    wrong = plan(node)
    for step in steps:
        if step not in wrong:
            continue
        with session.busy(f"{step.subject}: {step.action}"):
            problems += act(node, step)
    for problem in problems:
        session.complain(problem)
    raise typer.Exit(1 if problems else 0)
