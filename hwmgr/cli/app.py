"""The ``hwmgr`` command: PFs and VFs of this node, who holds them, what is wrong, put it right."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from hwmgr.cli import complete as cli_complete
from hwmgr.cli.apply import apply, plan
from hwmgr.cli.devices import pf_app, vf_app
from hwmgr.cli.doctor import doctor, repair
from hwmgr.cli.help import STATES, GroupsFirst, PlainCommand
from hwmgr.cli.map import vf_map
from hwmgr.cli.options import OutputOption, session_of
from hwmgr.cli.output import Output
from hwmgr.cli.session import real_session
from hwmgr.cli.state import state_app
from hwmgr.cli.terminal import run_command
from hwmgr.cli.units import units
from hwmgr.cli.watch import watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwmgr.cli.session import Session

_GROUP_EXAMPLES = """Examples:

\b
  hwmgr pf list
  hwmgr vf list         (who holds each VF)
  hwmgr vf list --pf enp1s0 --state leaked -o json
  hwmgr vf show 0000:01:10.0    (and why it is in its state)
  hwmgr vf map
  hwmgr doctor          (says what is wrong, and why)
  hwmgr repair          (prints its plan)
  hwmgr repair --yes    (carries it out)
  hwmgr watch           (until Ctrl-C)
  hwmgr plan desired.yaml
  hwmgr apply desired.yaml

Exit status: 0 done, 1 it failed or found something, 2 wrong usage.
"""
_DOCTOR_NOTES = """Exit status 1: an error or a warning was found.

Example: hwmgr doctor --pf enp1s0
"""
_REPAIR_NOTES = """Exit status 1: something was found, or something could not be repaired.

Examples:

\b
  hwmgr repair
  hwmgr repair --yes 0000:01:10.0
"""

# The marks keep the lines as they are.
_FILE_EXAMPLE = """Example, for a PF named enp1s0:

\b
  cat > desired.yaml <<'END'
  pfs:
    - match: {name: enp1s0}
      numVfs: 4
      vfs:
        - {range: 0-1, driver: vfio-pci, mac: stable}
        - {range: 2-3, driver: default, vlan: 100, trust: true}
  END
  hwmgr plan desired.yaml
  hwmgr apply desired.yaml
  hwmgr apply --revert
"""
_PLAN_STATUS = "Exit status 1: it would change something, or cannot be had."

app = typer.Typer(
    cls=GroupsFirst,
    help="Show and manage the SR-IOV devices of this node.",
    epilog=_GROUP_EXAMPLES,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
vf_app.command(
    "map",
    short_help="Show the node at a glance: a cell for each VF.",
    epilog=f"{STATES}\n\nExample: hwmgr vf map --svg node.svg",
)(vf_map)
app.add_typer(pf_app, name="pf")
app.add_typer(vf_app, name="vf")
app.command(
    "doctor",
    short_help="Say what is wrong on this node, and what puts it right.",
    epilog=_DOCTOR_NOTES,
)(doctor)
app.command(
    "repair",
    cls=PlainCommand,
    short_help="Print what can be put right; with --yes do it.",
    epilog=_REPAIR_NOTES,
)(repair)
app.command(
    "watch",
    short_help="Show live what happens to PFs and VFs.",
    epilog="Example: hwmgr watch --pf enp1s0 -o json --for 60",
)(watch)
app.add_typer(state_app, name="state")
app.command(
    "plan",
    cls=PlainCommand,
    short_help="Show what apply would change, and whose VFs it would take.",
    epilog=f"{_FILE_EXAMPLE}\n\n{_PLAN_STATUS}",
)(plan)
app.command(
    "apply",
    cls=PlainCommand,
    short_help="Make the node's PFs and VFs as a file has them.",
    epilog=_FILE_EXAMPLE,
)(apply)
app.command(
    "units",
    short_help="Print or install what applies the desired state at boot.",
    epilog="Example: hwmgr units --install",
)(units)


def _print_version(value: bool) -> None:
    if value:
        from hwmgr.release import installed

        typer.echo(f"hwmgr {installed()}")
        raise typer.Exit


@app.callback()
def _global(
    context: typer.Context,
    sysfs: Annotated[
        str | None,
        typer.Option(envvar="HWMGR_SYSFS", metavar="DIR", help="Root of sysfs. [default: /sys]"),
    ] = None,
    state_dir: Annotated[
        str | None,
        typer.Option(
            envvar="HWMGR_STATE_DIR",
            metavar="DIR",
            help="State directory. [default: /var/lib/cni/sriov]",
        ),
    ] = None,
    output: OutputOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say on standard error what is done.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and end.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    context.obj = replace(
        session_of(context),
        sysfs=sysfs,
        state_dir=state_dir,
        output=output or Output.TABLE,
        verbose=verbose,
    )


def main(arguments: Sequence[str] | None = None, session: Session | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 1 it failed or found, 2 usage."""
    session = session or real_session()
    words = list(sys.argv[1:] if arguments is None else arguments)
    with cli_complete.words_with_colons(os.environ):
        return run_command(app, words, session)


if __name__ == "__main__":
    sys.exit(main())
