"""Starts ``hwmgr``: plain listings at once, everything else by hwmgr.cli.app.

Importing typer, and building every command of ours with it, takes longer than listing a thousand
VFs. So the options of ``pf list`` and ``vf list`` are read here too; whatever is not plainly one of
them (help, completion, a mistake) is left to typer, so that there is one voice that explains.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr.cli.output import Output
from hwmgr.cli.session import real_session
from hwmgr.cli.terminal import guarded
from hwmgr.model import VFState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hwmgr.cli.session import Session

_COMPLETION = "_HWMGR_COMPLETE"
_GLOBAL = {"--sysfs": "sysfs", "--state-dir": "state", "--output": "output", "-o": "output"}
_OF_PFS = {"--output": "output", "-o": "output"}
_OF_VFS = {**_OF_PFS, "--pf": "pf", "--state": "state", "--driver": "driver"}


def main(arguments: Sequence[str] | None = None, session: Session | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 1 it failed or found, 2 usage.

    Ctrl-C ends the process as the signal does, without a word.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words, session or real_session())
    except KeyboardInterrupt:
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        raise


def _run(words: list[str], session: Session) -> int:
    found = None if _COMPLETION in os.environ else listing(words)
    if found is None:
        from hwmgr.cli import app as cli

        return cli.main(words, session)
    what, around, options = found
    return guarded(session, lambda: _show(session, what, around, options))


def listing(words: Sequence[str]) -> tuple[str, dict[str, str], dict[str, str]] | None:
    """Return ``pf`` or ``vf``, the global options and the command's own; None for anything else."""
    rest = list(words)
    around = _options(rest, _GLOBAL)
    if around is None or rest[:2] not in (["pf", "list"], ["vf", "list"]):
        return None
    what = rest[0]
    del rest[:2]
    options = _options(rest, _OF_VFS if what == "vf" else _OF_PFS)
    if options is None or rest:
        return None
    forms = {around.get("output"), options.get("output")} - {None}
    known = forms <= set(Output) and options.get("state") in (None, *VFState)
    return (what, around, options) if known else None


def _options(words: list[str], known: Mapping[str, str]) -> dict[str, str] | None:
    """Take the options off the front of the words; None where one is not known or has no value."""
    found: dict[str, str] = {}
    while words and words[0].startswith("-"):
        name, equals, value = words.pop(0).partition("=")
        if name not in known or (equals and not name.startswith("--")):
            return None
        if not equals:
            if not words:
                return None
            value = words.pop(0)
        if not value or value.startswith("-"):
            return None
        found[known[name]] = value
    return found


def _show(
    session: Session, what: str, around: Mapping[str, str], options: Mapping[str, str]
) -> int:
    from hwmgr.cli.listing import Wanted, show_pfs, show_vfs

    session = replace(
        session,
        sysfs=around.get("sysfs") or os.environ.get("HWMGR_SYSFS") or None,
        state_dir=around.get("state") or os.environ.get("HWMGR_STATE_DIR") or None,
        output=Output(around.get("output", Output.TABLE)),
    )
    output = Output(options["output"]) if "output" in options else None
    if what == "pf":
        show_pfs(session, output)
    else:
        state = VFState(options["state"]) if "state" in options else None
        show_vfs(session, output, Wanted(options.get("pf"), state, options.get("driver")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
