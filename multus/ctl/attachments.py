"""The commands ``multusctl attachments``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from hwmgr.cli.help import PlainCommand
from hwmgr.cli.output import Column
from hwmgr.errors import HwmgrError
from hwmgr.store import StateDir
from multus import attachments
from multus.config import DEFAULT_CNI_DIR
from multus.ctl.session import OutputOption, session_of

if TYPE_CHECKING:
    from multus.ctl.session import CtlSession
    from multus.jsonfields import Json

attachments_app = typer.Typer(help="Saved attachments of pods.", rich_markup_mode=None)

CniDirOption = Annotated[
    str,
    typer.Option("--cni-dir", metavar="DIR", help="Where multus-cni keeps what it attached."),
]
_COLUMNS = (
    Column("CONTAINER", "container", shrink=True),
    Column("POD", "pod"),
    Column("STATE", "state"),
    Column("NETWORKS", "networks", shrink=True),
    Column("SINCE", "since", rank=2),
    Column("SOURCE", "source", rank=3),
)


def _complete(context: typer.Context, incomplete: str) -> list[str]:
    folder = context.find_root().params.get("state_dir") or "/var/lib/cni/sriov"
    with contextlib.suppress(HwmgrError):
        cni_dir = context.params.get("cni_dir") or DEFAULT_CNI_DIR
        found = attachments.find_all(StateDir(folder), cni_dir, StateDir).attachments
        words = [f"{each['podNamespace']}/{each['podName']}" for each in found if each["podName"]]
        words += [str(each["containerId"]) for each in found]
        return [word for word in dict.fromkeys(words) if word.startswith(incomplete)]
    return []


@attachments_app.command(
    "list",
    short_help="List the pods that have networks.",
    epilog="Example: multusctl attachments list -o json",
)
def _list(
    context: typer.Context, cni_dir: CniDirOption = DEFAULT_CNI_DIR, output: OutputOption = None
) -> None:
    """List the pods that have networks, with their interfaces and addresses.

    Exit status 1: a file of saved state cannot be read.
    """
    session = session_of(context)
    found = _found(session, cni_dir)
    rows = [_row(each) for each in found.attachments]
    session.show(rows, _COLUMNS, output, data=found.attachments)
    for problem in found.problems:
        session.complain(problem)
    if not (found.attachments or found.problems):
        session.complain("no pod has saved attachments")
    raise typer.Exit(1 if found.problems else 0)


@attachments_app.command(
    "show", cls=PlainCommand, epilog="Example: multusctl attachments show default/web -o yaml"
)
def _show(
    context: typer.Context,
    container: Annotated[
        str,
        typer.Argument(
            metavar="CONTAINER",
            help="Its id, how that begins, or NAMESPACE/POD.",
            autocompletion=_complete,
        ),
    ],
    cni_dir: CniDirOption = DEFAULT_CNI_DIR,
    output: OutputOption = None,
) -> None:
    """Show one pod's networks in full."""
    session = session_of(context)
    found = _found(session, cni_dir)
    matching = [each for each in found.attachments if _matches(each, container)]
    whole = [each for each in matching if each["containerId"] == container]
    matching = whole or matching
    if len(matching) != 1:
        for problem in [] if matching else found.problems:
            session.complain(problem)
        names = ", ".join(str(each["containerId"]) for each in matching)
        problem = f"{container!r} names several: {names}" if names else f"no pod is {container!r}"
        session.complain(f"{problem}; see 'multusctl attachments list'")
        raise typer.Exit(1)
    session.show_one(matching[0], output)


def _found(session: CtlSession, cni_dir: str) -> attachments.Found:
    return attachments.find_all(StateDir(session.state_dir), cni_dir, StateDir)


def _matches(each: Json, text: str) -> bool:
    pod = f"{each['podNamespace']}/{each['podName']}"
    return bool(text) and (str(each["containerId"]).startswith(text) or pod == text)


def _row(each: Json) -> Json:
    networks = each["networks"]
    texts = []
    for network in networks if isinstance(networks, list) else []:
        addresses = ",".join(network["ips"])
        what = addresses or network["deviceID"] or network["type"]
        texts.append(f"{network['podIfname']}={what}")
    pod = f"{each['podNamespace']}/{each['podName']}" if each["podName"] else None
    return {
        "container": str(each["containerId"])[:13],
        "pod": pod,
        "state": each["state"],
        "networks": " ".join(texts),
        "since": each["since"],
        "source": each["source"],
    }
