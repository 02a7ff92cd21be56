"""The command ``hwmgr vf map``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from hwmgr.cli import vfmap, vfmap_svg, vfmap_text
from hwmgr.cli.events import instant
from hwmgr.cli.listing import point_on
from hwmgr.cli.options import OutputOption, session_of
from hwmgr.cli.output import Output
from hwmgr.errors import HwmgrError


def vf_map(
    context: typer.Context,
    svg: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Also write the map as an SVG file, for a report."),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Show the node at a glance: NUMA nodes, their PFs, a cell for each VF."""
    from hwmgr.inventory import inventory
    from hwmgr.pfinventory import pf_inventory

    session = session_of(context)
    node = session.node()
    with session.busy("reading devices"):
        vfs = inventory(node)
        found = vfmap.build(pf_inventory(node, vfs), vfs)
    if svg is not None:
        when = instant(node.clock())[:19] + "Z"
        _write(svg, vfmap_svg.render(found, f"VFs of {os.uname().nodename}", when))
    form = output or session.output
    if form in (Output.JSON, Output.YAML):
        session.show([], [], form, data=vfmap.view(found))
    else:
        session.print(vfmap_text.render(found, session.screen()) + "\n")
        point_on(session, (cell.state for cell in found.cells))


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HwmgrError(f"cannot write {path}: {reason}") from error
