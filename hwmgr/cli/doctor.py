"""The commands ``hwmgr doctor`` and ``hwmgr repair``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from hwmgr.cli import columns as cli_columns
from hwmgr.cli import complete as cli_complete
from hwmgr.cli import views as cli_views
from hwmgr.cli.listing import NO_PF
from hwmgr.cli.options import OutputOption, address_of, session_of
from hwmgr.cli.output import Output
from hwmgr.cli.report import report
from hwmgr.doctor.findings import Severity

if TYPE_CHECKING:
    from hwmgr.cli.session import Session
    from hwmgr.doctor.findings import Finding
    from hwmgr.doctor.repair import Outcome
    from hwmgr.node import Node

PfOption = Annotated[
    str | None,
    typer.Option(
        "--pf",
        metavar="NAME|ADDR",
        help="Only this PF and its VFs.",
        autocompletion=cli_complete.pfs,
    ),
]
AddressesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ADDR",
        help="Only what concerns these functions.",
        autocompletion=cli_complete.vfs,
        show_default=False,
    ),
]


def doctor(context: typer.Context, pf: PfOption = None, output: OutputOption = None) -> None:
    """Say what is wrong on this node, by which evidence, and what puts it right."""
    from hwmgr.doctor import leftcalls
    from hwmgr.doctor.examination import examine, is_clean
    from hwmgr.pci import full_address, list_pfs, pf_named

    session = session_of(context)
    node = session.node()
    _warn_unless_all_is_seen(session, node)
    chosen = pf_named(node.sysfs, full_address(pf) or pf).address if pf else None
    with session.busy("examining the node"):
        found = examine(node, chosen)
        if chosen is None:
            found += leftcalls.examine(node)
    form = output or session.output
    _show(session, found, output)
    if form in (Output.TABLE, Output.WIDE):
        if found:
            session.complain(_counted(found))
        else:
            session.print("clean: nothing is wrong\n")
        if not list_pfs(node.sysfs):
            session.complain(NO_PF)
    raise typer.Exit(0 if is_clean(found) else 1)


def repair(
    context: typer.Context,
    addresses: AddressesArgument = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this nothing is done.")
    ] = False,
    output: OutputOption = None,
) -> None:
    """Print what can be put right and how; with --yes do it, and look whether it is."""
    from hwmgr.doctor import leftcalls
    from hwmgr.doctor.examination import examine, is_clean
    from hwmgr.doctor.repair import carry_out, steps_for
    from hwmgr.errors import NoSuchDevice
    from hwmgr.pci import device_path

    session = session_of(context)
    node = session.node()
    _warn_unless_all_is_seen(session, node)
    wanted = {address_of(text) for text in addresses or ()}
    with session.busy("examining the node"):
        # Calls first: they may give back what would otherwise have to be repaired.
        calls = [] if wanted else leftcalls.plan(node, session.programs)
        found = [f for f in examine(node) if not wanted or f.subject in wanted]
        steps = [*calls, *steps_for(found)]
    for address in sorted(wanted - {finding.subject for finding in found}):
        if not node.sysfs.exists(device_path(address)):
            raise NoSuchDevice(address, "no such PCI function here; see 'hwmgr vf list'")
    people = (output or session.output) in (Output.TABLE, Output.WIDE)
    if not yes or people:
        _show(session, [step.finding for step in steps], output)
    if not steps:
        left = f"no cure for what is left ({_counted(found)}); 'hwmgr doctor' says what to do"
        session.complain("nothing to repair" if is_clean(found) else left)
    elif not yes:
        which = "it" if len(steps) == 1 else "them"
        session.complain(f"{len(steps)} found; 'hwmgr repair --yes' puts {which} right")
    if not yes:
        raise typer.Exit(1 if steps else 0)
    with session.busy(f"repairing {len(steps)}"):
        outcomes = carry_out(node, steps, wanted)
    _report(session, outcomes, output, people=people)
    raise typer.Exit(1 if any(o.problems for o in outcomes) else 0)


def _warn_unless_all_is_seen(session: Session, node: Node) -> None:
    """Say it where a look that finds nothing does not mean that there is nothing."""
    from hwmgr.sight import Sight

    if not Sight(node.proc, node.all_processes).all_processes:
        session.complain(
            "not every process can be seen from here: run it as root, on the host itself"
        )
    if session.sysfs and os.path.realpath(session.sysfs) != "/sys":
        session.complain(
            f"functions are read from {session.sysfs}, netdevs and processes from this machine:"
            " of another machine's tree only a part can be examined"
        )


def _report(
    session: Session, outcomes: list[Outcome], output: Output | None, *, people: bool
) -> None:
    pairs = [(o.step.finding, o.problems) for o in outcomes]
    views = [cli_views.outcome_view(*pair) for pair in pairs]
    if not people:
        session.show([], (), output, data=views)
    elif pairs:
        session.print("\n")
        rows = [cli_views.outcome_row(*pair) for pair in pairs]
        session.show(rows, cli_columns.OUTCOME_COLUMNS, output)
    for outcome in outcomes:
        for problem in outcome.problems:
            session.complain(problem)


def _show(session: Session, found: list[Finding], output: Output | None) -> None:
    form = output or session.output
    if form is Output.TABLE and found:
        session.show_text(lambda screen: report(found, screen))
    elif form is not Output.TABLE and (found or form is not Output.WIDE):
        rows = [cli_views.finding_row(f) for f in found]
        data = [cli_views.finding_view(f) for f in found]
        session.show(rows, cli_columns.FINDING_COLUMNS, output, data)


def _counted(found: list[Finding]) -> str:
    counts = [(s, sum(1 for f in found if f.severity is s)) for s in Severity]
    text = ", ".join(f"{n} {s}{_plural(s, n)}" for s, n in counts if n)
    cures = sum(1 for f in found if f.cure is not None)
    more = f"; 'hwmgr repair' has a cure for {cures}" if cures else ""
    return f"{text}{more}"


def _plural(severity: Severity, number: int) -> str:
    return "" if number == 1 or severity is Severity.INFO else "s"
