"""The command line of scripts/lab."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from labvm import cache, lab
from labvm.errors import LabError, MachineError, TimeIsUpError

TIMED_OUT = 124  # as timeout(1)
LAB_FAILED = 125

EPILOG = """\
The exit status is the command's; 124 if the time was up; 125 if the lab itself failed.
In the guest the working directory is a copy of the checkout with what is not committed,
without what git ignores. Options of the lab come before the command or the tests' names.
What a command leaves in $LAB_OUT is brought back.
"""


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    parsed, rest = _parser().parse_known_args(arguments)
    if rest and parsed.command != "pytest":
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return _dispatch(parsed, rest)
    except MachineError as error:
        if error.tail:
            print(f"---- end of the guest's console ----\n{error.tail}\n----", file=sys.stderr)
        lab.say(str(error))
        return TIMED_OUT if isinstance(error, TimeIsUpError) else LAB_FAILED
    except LabError as error:
        lab.say(str(error))
        return LAB_FAILED
    except KeyboardInterrupt:
        return 130


def _dispatch(parsed: argparse.Namespace, rest: list[str]) -> int:
    if parsed.command == "clean":
        cache.clean()
        return 0
    if parsed.command == "build":
        print(lab.build(numa=parsed.numa).folder)
        return 0
    options = lab.Options(
        numa=parsed.numa,
        fresh=parsed.fresh,
        timeout=parsed.timeout,
        results=parsed.out,
        taken=tuple(parsed.take),
        state=parsed.systemd,
    )
    if parsed.command == "shell":
        return lab.shell(options)
    if parsed.command == "pytest":
        selection = [*rest, *parsed.arguments]
        return lab.pytest(selection[1:] if selection[:1] == ["--"] else selection, options)
    return lab.run([parsed.script, *parsed.arguments], options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/lab",
        allow_abbrev=False,
        description="A virtual machine with two SR-IOV NICs (82576, 7 VFs each).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--numa", action="store_true", help="two NUMA nodes with a NIC each")
    machine = argparse.ArgumentParser(add_help=False, parents=[common])
    machine.add_argument("--fresh", action="store_true", help="boot, do not restore the snapshot")
    machine.add_argument("--timeout", type=float, default=600.0, metavar="S", help="seconds (600)")
    machine.add_argument(
        "--out",
        type=Path,
        default=Path("lab-out"),
        metavar="DIR",
        help="where $LAB_OUT goes (lab-out)",
    )
    machine.add_argument(
        "--take",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="put a file into the guest's /checkout/taken (may be repeated)",
    )
    machine.add_argument(
        "--systemd",
        type=Path,
        metavar="FILE",
        help="boot with systemd; what is written stays in FILE, a disk made if it is missing",
    )
    commands.add_parser(
        "build",
        allow_abbrev=False,
        parents=[common],
        help="build what is missing; print its folder",
    )
    run = commands.add_parser(
        "run", allow_abbrev=False, parents=[machine], help="run a script or a command as root"
    )
    run.add_argument("script", metavar="SCRIPT-OR-COMMAND")
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS")
    pytest = commands.add_parser(
        "pytest", allow_abbrev=False, parents=[machine], help="run tests (default: the lab's)"
    )
    pytest.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS")
    commands.add_parser(
        "shell", allow_abbrev=False, parents=[machine], help="a shell on this terminal"
    )
    commands.add_parser("clean", allow_abbrev=False, help="remove all that was built")
    return parser
