"""The listings ``pf list`` and ``vf list``, whoever parsed the command line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hwmgr.cli import columns as cli_columns
from hwmgr.cli import views as cli_views
from hwmgr.cli.output import Output
from hwmgr.inventory import inventory
from hwmgr.model import VFState
from hwmgr.pci import full_address, list_pfs, pf_named
from hwmgr.pfinventory import pf_inventory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hwmgr.cli.output import Column
    from hwmgr.cli.session import Session
    from hwmgr.cli.views import Json

NO_PF = "no PF with SR-IOV on this node"
_NO_VF = "no VF; 'hwmgr pf list' has the PFs, 'hwmgr apply --help' says how to make VFs"
_WRONG = (VFState.LEAKED, VFState.DIRTY, VFState.FOREIGN, VFState.BROKEN)
_Info = TypeVar("_Info")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which VFs to list; None is any. ``pf`` is a name or address, driver ``none`` stands for no
    driver."""

    pf: str | None = None
    state: VFState | None = None
    driver: str | None = None


def show_pfs(session: Session, output: Output | None) -> None:
    """List the PFs. Raises HwmgrError."""
    with session.busy("reading devices"):
        found = pf_inventory(session.node())
    _show(session, output, found, cli_columns.PF_COLUMNS, cli_views.pf_row, cli_views.pf_view)
    if not found:
        session.complain(NO_PF)


def show_vfs(session: Session, output: Output | None, wanted: Wanted) -> None:
    """List the VFs that are wanted. Raises HwmgrError."""
    node = session.node()
    with session.busy("reading devices"):
        named = None if wanted.pf is None else full_address(wanted.pf) or wanted.pf
        found = inventory(node, None if named is None else [pf_named(node.sysfs, named)])
    if wanted.state is not None:
        found = [i for i in found if i.state is wanted.state]
    if wanted.driver is not None:
        found = [i for i in found if (i.vf.driver or "none") == wanted.driver]
    _show(session, output, found, cli_columns.VF_COLUMNS, cli_views.vf_row, cli_views.vf_view)
    if not found:
        asked = wanted != Wanted()
        session.complain("no such VF" if asked else _NO_VF if list_pfs(node.sysfs) else NO_PF)
    if (output or session.output) in (Output.TABLE, Output.WIDE):
        point_on(session, (info.state for info in found))


def point_on(session: Session, states: Iterable[VFState]) -> None:
    """Say on a terminal who explains the states that are not as they should be."""
    counts = Counter(states)
    wrong = ", ".join(f"{counts[state]} {state}" for state in _WRONG if counts[state])
    if wrong and session.stdout.isatty():
        session.complain(f"{wrong}: 'hwmgr doctor' says why, and what to do")


def _show(
    session: Session,
    output: Output | None,
    found: Sequence[_Info],
    columns: Sequence[Column],
    row: Callable[[_Info], Json],
    view: Callable[[_Info], Json],
) -> None:
    if (output or session.output) in (Output.JSON, Output.YAML):
        session.show([], columns, output, data=[view(info) for info in found])
    else:
        session.show([row(info) for info in found], columns, output)
