"""The commands ``hwmgr pf`` and ``hwmgr vf``."""

from __future__ import annotations

from typing import Annotated

import typer

from hwmgr.cli import columns as cli_columns
from hwmgr.cli import complete as cli_complete
from hwmgr.cli import views as cli_views
from hwmgr.cli.help import STATES, PlainCommand
from hwmgr.cli.listing import Wanted, show_pfs, show_vfs
from hwmgr.cli.options import (
    AddressArgument,
    ForceOption,
    OutputOption,
    address_of,
    session_of,
)
from hwmgr.errors import NoSuchDevice
from hwmgr.model import VFState, is_vfio

pf_app = typer.Typer(help="Physical functions: list.", rich_markup_mode=None)
vf_app = typer.Typer(
    help="Virtual functions: list, show, map, bind, unbind.", rich_markup_mode=None
)


@pf_app.command(
    "list",
    short_help="List the physical functions with SR-IOV.",
    epilog="Example: hwmgr pf list -o wide",
)
def _pf_list(context: typer.Context, output: OutputOption = None) -> None:
    """List the physical functions with SR-IOV, and how many of their VFs are free."""
    show_pfs(session_of(context), output)


@vf_app.command(
    "list", epilog=f"{STATES}\n\nExample: hwmgr vf list --pf enp1s0 --state leaked -o wide"
)
def _vf_list(
    context: typer.Context,
    pf: Annotated[
        str | None,
        typer.Option(metavar="NAME|ADDR", help="Of this PF only.", autocompletion=cli_complete.pfs),
    ] = None,
    state: Annotated[VFState | None, typer.Option(help="In this state only.")] = None,
    driver: Annotated[
        str | None,
        typer.Option(
            metavar="DRIVER",
            help="On this driver only; none for no driver.",
            autocompletion=cli_complete.drivers,
        ),
    ] = None,
    output: OutputOption = None,
) -> None:
    """List the virtual functions: state, owner, driver, settings."""
    show_vfs(session_of(context), output, Wanted(pf, state, driver))


@vf_app.command(
    "show",
    cls=PlainCommand,
    short_help="Show one VF, and the reason for its state.",
    epilog="Example: hwmgr vf show 01:10.0 -o json",
)
def _vf_show(context: typer.Context, addr: AddressArgument, output: OutputOption = None) -> None:
    """Show one VF, why it is in its state, and the settings that it had before."""
    from hwmgr.devicefiles import device_files, vfio_device_files
    from hwmgr.inventory import inventory, look_at
    from hwmgr.pci import find_vf
    from hwmgr.rdma import rdma_devices, verbs_files
    from hwmgr.representor import representor

    session, address = session_of(context), address_of(addr)
    node = session.node()
    try:
        info = look_at(node, find_vf(node.sysfs, address))
    except NoSuchDevice:
        # A record may tell of a VF that is gone.
        gone = [i for i in inventory(node) if i.vf.address == address]
        if not gone:
            raise
        info = gone[0]
    vf, sysfs = info.vf, node.sysfs
    beside = cli_views.Beside(
        representor=representor(sysfs, info.pf_ifname, vf.index) if info.pf_ifname else None,
        rdma_devices=rdma_devices(sysfs, vf.address),
        device_files=(
            *device_files(sysfs, vf.address, node.dev),
            *vfio_device_files(sysfs, vf.address, node.dev),
            *verbs_files(sysfs, vf.address, node.dev),
        ),
    )
    session.show_one(cli_views.vf_full_view(info, beside), output)


@vf_app.command("bind", cls=PlainCommand, epilog="Example: hwmgr vf bind 0000:01:10.0 vfio-pci")
def _vf_bind(
    context: typer.Context,
    addr: AddressArgument,
    driver: Annotated[
        str,
        typer.Argument(
            metavar="DRIVER",
            help="A driver that is loaded: vfio-pci, iavf, …",
            autocompletion=cli_complete.drivers,
        ),
    ],
    force: ForceOption = False,
    output: OutputOption = None,
) -> None:
    """Give a VF to a driver, until it is bound again or removed.

    Refused while the VF is allocated or in use on the host.
    """
    from hwmgr.iommugroups import not_viable
    from hwmgr.rebind import bind

    session, address = session_of(context), address_of(addr)
    node = session.node()
    with session.busy(f"binding {address} to {driver}"):
        info = bind(node, address, driver, force=force)
    # The members of a group are bound one after the other: no error yet.
    problem = not_viable(node.sysfs, info.vf.address) if is_vfio(info.vf.driver) else None
    if problem is not None:
        session.complain(problem)
    session.show([cli_views.vf_row(info)], cli_columns.VF_COLUMNS, output, cli_views.vf_view(info))


@vf_app.command("unbind", cls=PlainCommand, epilog="Example: hwmgr vf unbind 0000:01:10.0")
def _vf_unbind(
    context: typer.Context,
    addr: AddressArgument,
    force: ForceOption = False,
    output: OutputOption = None,
) -> None:
    """Take a VF from its driver. Refused while the VF is allocated or in use on the host."""
    from hwmgr.rebind import unbind

    session, address = session_of(context), address_of(addr)
    with session.busy(f"unbinding {address}"):
        info = unbind(session.node(), address, force=force)
    session.show([cli_views.vf_row(info)], cli_columns.VF_COLUMNS, output, cli_views.vf_view(info))
