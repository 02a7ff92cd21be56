"""(a) The forwarded call: what it costs beside starting nothing at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from benchrig import recorded
from benchrig.figures import Part, row_of
from benchrig.programs import Program, in_turn
from benchrig.world import CHECKOUT

if TYPE_CHECKING:
    from benchrig.figures import Row
    from benchrig.world import World

KEY, TITLE = "a", "a forwarded call that the daemon answers at once (VERSION)"
_TRUE, _PYTHON = "/bin/true", "/usr/bin/python3"
_THIN = "import sys; sys.path.insert(0, {!r}); from multus.__main__ import main; sys.exit(main())"


def measure(world: World, rounds: int, peer_shim: str | None) -> Part:
    """Run every kind of shim in turn with what it is measured against."""
    daemon = world.daemon("forward")
    env = {"CNI_COMMAND": "VERSION", "PATH": "/usr/bin:/bin"}
    stdin = world.file("version.json", {"cniVersion": "1.0.0"})
    python = "python3 -IS -c pass"
    programs = {
        _TRUE: Program((_TRUE,), env),
        python: Program((_PYTHON, "-IS", "-c", "pass"), env),
        "thin": Program((_PYTHON, "-IS", "-c", _THIN.format(str(CHECKOUT))), env, stdin),
    }
    for which in ("c", "python"):
        folder = world.bin_folder(daemon, which)
        _forward_versions(f"{folder}/hwmgr-shim.conf")
        programs[which] = Program((f"{folder}/multus",), env, stdin)
    if peer_shim:
        programs["peer"] = Program((peer_shim,), env, stdin)
    taken = in_turn(programs, rounds, os.devnull)
    rows: list[Row] = [
        row_of(_TRUE, taken[_TRUE]),
        row_of(python, taken[python], beside=taken[_TRUE], to=_TRUE),
        row_of("C shim", taken["c"], beside=taken[_TRUE], to=_TRUE, limit=3.0),
        row_of("Python shim", taken["python"], beside=taken[python], to=python, limit=1.3),
        row_of("thin", taken["thin"], beside=taken[python], to=python, limit=2.0),
    ]
    if peer_shim:
        rows.append(row_of(f"peer {peer_shim}", taken["peer"], beside=taken[_TRUE], to=_TRUE))
    else:
        rows += recorded.forwarding()
    return Part(KEY, TITLE, tuple(rows))


def _forward_versions(settings: str) -> None:
    """Have a shim ask the daemon for VERSION, which it otherwise answers from its settings."""
    with open(settings, encoding="utf-8") as file:
        lines = [line for line in file if not line.startswith("version=")]
    with open(settings, "w", encoding="utf-8") as file:
        file.writelines(lines)
