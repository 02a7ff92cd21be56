"""The command line of scripts/bench: which parts, beside which peers, and where the results go."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchrig import attach, crowd, figures, forward, listing, memory, plot, saved, vf, world

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchrig.figures import Part

EPILOG = """\
Parts: a forwarded call, b ADD and DEL of a bridge, c ADD and DEL of a VF in the lab, d a storm of
pods, e listing VFs, f ADD with saved attachments, g memory. All of them take about 12 minutes.

Everything is in namespaces and folders of its own; the state is in memory. What is compared was
measured in turn in this run; a figure marked 'recorded' was not. The exit status is 1 when a limit
was missed. docs/performance.md tells how to read it.
"""


def main(arguments: Sequence[str]) -> int:
    """Measure what is asked for, print the table, leave JSON and plot; return the exit status."""
    options = _parser().parse_args(arguments)
    parts: list[Part] = []
    rounds = 5 if options.quick else options.rounds
    with world.World(python=sys.executable) as stage:
        for key in options.parts or "abcdefg":
            print(f"bench: ({key}) …", file=sys.stderr, flush=True)
            if key == "a":
                parts.append(forward.measure(stage, 4 * rounds, options.peer_shim))
            elif key == "b":
                parts.append(attach.measure(stage, 2 * rounds, options.peer_multus))
            elif key == "c":
                parts.append(vf.measure(rounds, options.peer_multus, options.peer_sriov))
            elif key == "d":
                parts.append(crowd.measure(stage, 20 if options.quick else options.pods))
            elif key == "e":
                parts.append(listing.measure(stage, rounds, quick=options.quick))
            elif key == "f":
                parts.append(saved.measure(stage, 2 * rounds))
            elif key == "g":
                parts.append(memory.measure(stage, 1000 if options.quick else 10_000))
    print(_machine() + figures.table(parts))
    _keep(parts, options.out)
    missed = [f"({p.key}) {row.name}" for p in parts for row in p.rows if row.met() is False]
    if missed:
        print(f"bench: missed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed and not options.quick else 0


def _keep(parts: Sequence[Part], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"machine": _machine(), "parts": [part.to_json() for part in parts]}
    (folder / "bench.json").write_text(json.dumps(content, indent=1) + "\n")
    drawn = plot.draw(parts, str(folder / "bench.png"))
    print(f"bench: {folder}/bench.json" + (" and bench.png" if drawn else ""), file=sys.stderr)


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    python = platform.python_version()
    commit = subprocess.run(
        ["git", "-C", str(world.CHECKOUT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return f"{commit}, {cores} cores, Linux {platform.release()}, Python {python}"


def _parts(text: str) -> str:
    if not text or not set(text) <= set("abcdefg"):
        raise argparse.ArgumentTypeError(f"{text!r}: parts are letters of abcdefg, as 'abf'")
    return text


def _program(text: str) -> str:
    if not os.access(text, os.X_OK):
        raise argparse.ArgumentTypeError(f"{text} is not an executable file")
    return os.path.abspath(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure what calls cost, side by side in one run.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="?", type=_parts, help="letters of the parts; default: all")
    parser.add_argument("--rounds", type=int, default=15, help="how often (default %(default)s)")
    parser.add_argument("--pods", type=int, default=200, help="pods of the storm")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few rounds: does it work at all? (limits do not count)",
    )
    parser.add_argument("--peer-shim", type=_program, metavar="FILE", help="another shim, for (a)")
    parser.add_argument(
        "--peer-multus", type=_program, metavar="FILE", help="another multus, for (b) and (c)"
    )
    parser.add_argument(
        "--peer-sriov", type=_program, metavar="FILE", help="another sriov, beside it in (c)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/bench"),
        metavar="DIR",
        help="for bench.json and bench.png (default %(default)s)",
    )
    return parser
