"""The ``multusctl`` command: the networks that pods have or would get, what a cluster needs."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from hwmgr.cli.help import PlainCommand
from hwmgr.cli.output import Output, to_json
from hwmgr.cli.terminal import run_command
from multus import manifests
from multus.ctl.attachments import attachments_app
from multus.ctl.explain import explain_command
from multus.ctl.install import install_command
from multus.ctl.session import CtlSession, OutputOption, real_session, session_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES = """Examples:

\b
  multusctl explain --pod pod.yaml --net-attach-defs networks.yaml
  multusctl explain --pod default/web -o json
  multusctl attachments list
  multusctl attachments show default/web
  multusctl manifests crds | kubectl apply -f -
  multusctl install

Exit status: 0 done, 1 it failed or found something, 2 wrong usage.
"""

app = typer.Typer(
    help="Show which networks pods have and would get.",
    epilog=_EXAMPLES,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(attachments_app, name="attachments")
app.command(
    "explain",
    short_help="Say which networks a pod would get.",
    epilog="Example: multusctl explain --pod pod.yaml --net-attach-defs nets.yaml",
)(explain_command)
app.command(
    "install",
    short_help="Put multus and sriov where the container runtime starts them.",
    epilog="Example: multusctl install --bin-dir /opt/cni/bin --thin none",
)(install_command)


def _complete_which(incomplete: str) -> list[str]:
    return [word for word in ("crds", "rbac", "all") if word.startswith(incomplete)]


@app.command(
    "manifests",
    cls=PlainCommand,
    short_help="Print the objects that a cluster needs.",
    epilog="Example: multusctl manifests crds | kubectl apply -f -",
)
def _manifests(
    context: typer.Context,
    which: Annotated[
        str,
        typer.Argument(
            metavar="crds|rbac|all", help="What to print.", autocompletion=_complete_which
        ),
    ] = "all",
    namespace: Annotated[
        str, typer.Option("--namespace", metavar="NAME", help="Of the service account.")
    ] = "kube-system",
    output: OutputOption = None,
) -> None:
    """Print what a cluster needs: definitions of network objects, the least rights that work."""
    parts = {"crds": manifests.crds(), "rbac": manifests.rbac(namespace)}
    if which not in (*parts, "all"):
        raise typer.BadParameter(f"{which!r} is none of crds, rbac, all", param_hint="WHICH")
    session = session_of(context)
    objects = [obj for name, part in parts.items() if which in (name, "all") for obj in part]
    if (output or session.output) is Output.JSON:
        whole = {"apiVersion": "v1", "kind": "List", "items": objects}
        session.print(to_json(whole) + "\n")
        return
    from hwmgr.cli.output import to_yaml

    session.print("---\n".join(to_yaml(obj) + "\n" for obj in objects))


def _print_version(value: bool) -> None:
    if value:
        from hwmgr.release import installed

        typer.echo(f"multusctl {installed()}")
        raise typer.Exit


@app.callback()
def _global(
    context: typer.Context,
    state_dir: Annotated[
        str | None,
        typer.Option(
            envvar="HWMGR_STATE_DIR",
            metavar="DIR",
            help="State directory. [default: /var/lib/cni/sriov]",
        ),
    ] = None,
    output: OutputOption = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and end.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    session = session_of(context)
    context.obj = replace(
        session,
        state_dir=state_dir or _configured_state_dir(session),
        output=output or Output.TABLE,
    )


def _configured_state_dir(session: CtlSession) -> str:
    from hwmgr import nodeconfig

    return nodeconfig.load(session.environment).state_dir


def main(arguments: Sequence[str] | None = None, session: CtlSession | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 1 it failed or found, 2 usage."""
    session = session or real_session()
    words = list(sys.argv[1:] if arguments is None else arguments)
    return run_command(app, words, session)


if __name__ == "__main__":
    sys.exit(main())
