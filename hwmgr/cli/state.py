"""The commands ``hwmgr state list`` and ``hwmgr state show``."""

from __future__ import annotations

from typing import Annotated

import typer

from hwmgr.cli import columns as cli_columns
from hwmgr.cli import complete as cli_complete
from hwmgr.cli import views as cli_views
from hwmgr.cli.help import PlainCommand
from hwmgr.cli.options import OutputOption, session_of
from hwmgr.errors import StateError

state_app = typer.Typer(help="Saved state, of every format: list, show.", rich_markup_mode=None)


@state_app.command("list", epilog="Example: hwmgr state list -o json")
def _state_list(context: typer.Context, output: OutputOption = None) -> None:
    """List the saved state of every format, also what cannot be read."""
    from hwmgr.savedstate import all_entries

    session = session_of(context)
    with session.busy("reading state"):
        rows = [cli_views.state_view(e) for e in all_entries(session.node().state)]
    session.show(rows, cli_columns.STATE_COLUMNS, output)


@state_app.command(
    "show",
    cls=PlainCommand,
    epilog="Example: hwmgr state show journal/0000:01:10.0.json",
)
def _state_show(
    context: typer.Context,
    id_: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="As in 'state list'; an address or container id too.",
            autocompletion=cli_complete.state_ids,
        ),
    ],
    output: OutputOption = None,
) -> None:
    """Show one saved state and all that it holds."""
    from hwmgr.pci import full_address
    from hwmgr.savedstate import content, find

    session = session_of(context)
    state = session.node().state
    found = find(state, full_address(id_) or id_)
    if len(found) != 1:
        ids = ", ".join(e.id for e in found)
        problem = f"{id_!r} names several: {ids}" if found else f"no saved state is {id_!r}"
        raise StateError(state.root, 0, f"{problem}; see 'hwmgr state list'")
    view = cli_views.state_view(found[0])
    session.show_one({**view, "content": content(state, found[0])}, output)
