"""What the commands share: options, the session, addresses as people write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hwmgr.cli import complete as cli_complete
from hwmgr.cli.output import Output
from hwmgr.cli.session import Session
from hwmgr.pci import full_address

if TYPE_CHECKING:
    from hwmgr.model import PciAddress

OutputOption = Annotated[
    Output | None,
    typer.Option("--output", "-o", help="Form of the output; json is the stable one."),
]
AddressArgument = Annotated[
    str,
    typer.Argument(
        metavar="ADDR", help="PCI address, domain optional.", autocompletion=cli_complete.vfs
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Also while somebody uses it.")]


def session_of(context: typer.Context) -> Session:
    """Return the session that main() was given, with the global options in it."""
    session = context.obj
    if not isinstance(session, Session):
        raise TypeError("the command line was not started by hwmgr.cli.app.main()")
    return session


def address_of(text: str) -> PciAddress:
    """Return a PCI address; anything else is a mistake in usage."""
    address = full_address(text)
    if address is None:
        message = f"{text!r} is not a PCI address like 0000:01:10.0"
        raise typer.BadParameter(message, param_hint="ADDR")
    return address
