"""(e) Listing the VFs of large nodes, beside a bare walk and dpdk-devbind.py on the same tree."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchrig.figures import Part, Row, row_of
from benchrig.programs import MS, Program, in_turn
from benchrig.sysfstree import Size, write_tree
from benchrig.walk import walk
from benchrig.world import run

if TYPE_CHECKING:
    from benchrig.world import World

KEY, TITLE = "e", "listing VFs (16 x 64 and 64 x 256)"
_SIZES = {1024: Size(16, 64), 16_384: Size(64, 256)}
_DEVBIND = "/usr/bin/dpdk-devbind.py"
# The type 0 header that lspci wants to see: 8086:154c, class 0x020000.
_CONFIG = bytes.fromhex("86804c15 00000000 00000002 00000000") + bytes(48)


def measure(world: World, rounds: int, *, quick: bool) -> Part:
    """Make the trees and list them by every means, in turn."""
    rows: list[Row] = []
    for vfs, size in _SIZES.items():
        if quick and vfs > 1024:
            break
        tree = f"{world.root}/sys{vfs}"
        write_tree(tree, size)
        few = rounds if vfs == 1024 else max(rounds // 3, 3)
        rows += _library(world, tree, vfs, few)
        rows += _whole(world, tree, vfs, few)
    rows += _devbind(f"{world.root}/sys1024")
    return Part(KEY, TITLE, tuple(rows))


def _library(world: World, tree: str, vfs: int, rounds: int) -> list[Row]:
    """Time the library in this process; the same attributes are read by the walk."""
    from hwmgr.inventory import inventory
    from hwmgr.node import real_node

    node = real_node(sysfs_root=tree, state_dir=f"{world.root}/no-state")
    walked, listed = [], []
    for number in range(rounds + 1):
        started = time.perf_counter()
        seen = len(walk(tree))
        between = time.perf_counter()
        found = len(inventory(node))
        ended = time.perf_counter()
        if seen != vfs or found != vfs:
            raise ValueError(f"{seen} and {found} VFs were seen, not {vfs}")
        if number:
            walked.append((between - started) * MS)
            listed.append((ended - between) * MS)
    limit = 2.0 if vfs == 1024 else None
    return [
        row_of(f"{vfs:,} VFs: bare walk", walked),
        row_of(f"{vfs:,} VFs: library", listed, beside=walked, to="walk", limit=limit),
    ]


def _whole(world: World, tree: str, vfs: int, rounds: int) -> list[Row]:
    """Time whole processes: here an interpreter's start and its imports count."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ["PYTHONPATH"]}
    walker = str(Path(__file__).with_name("walk.py"))
    lister = ("-m", "hwmgr", "--sysfs", tree, "--state-dir", f"{world.root}/no-state")
    programs = {
        "walk": Program(("/usr/bin/python3", "-IS", walker, tree), env),
        "hwmgr": Program((world.python, *lister, "vf", "list", "-o", "json"), env),
    }
    taken = in_turn(programs, rounds, f"{world.root}/out")
    name = "hwmgr vf list -o json, whole process"
    return [
        row_of(f"{vfs:,} VFs: walk, whole process", taken["walk"]),
        row_of(f"{vfs:,} VFs: {name}", taken["hwmgr"], beside=taken["walk"], to="walk"),
    ]


def _devbind(tree: str) -> list[Row]:
    """Time dpdk-devbind.py once: it starts lspci for every function that is there."""
    if not os.path.exists(_DEVBIND):
        return [Row("dpdk-devbind.py --status", None, "ms", note=f"{_DEVBIND} is not installed")]
    os.makedirs(f"{tree}/module", exist_ok=True)
    for function in os.listdir(f"{tree}/bus/pci/devices"):
        home = f"{tree}/bus/pci/devices/{function}"
        Path(home, "config").write_bytes(_CONFIG)
        Path(home, "resource").write_text("0x0 0x0 0x0\n" * 7)
        Path(home, "irq").write_text("0\n")
    run("mount", "--bind", tree, "/sys")
    try:
        started = time.perf_counter()
        done = subprocess.run(
            ["/usr/bin/python3", _DEVBIND, "--status-dev", "net"],
            capture_output=True,
            text=True,
            check=False,
        )
        taken = (time.perf_counter() - started) * MS
    finally:
        run("umount", "/sys")
    seen = done.stdout.count("0000:")
    note = f"once; it listed {seen:,} functions (status {done.returncode})"
    return [Row("1,024 VFs: dpdk-devbind.py --status-dev net", taken, "ms", note=note)]
