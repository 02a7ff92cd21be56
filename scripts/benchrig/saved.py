"""(f) ADD on a node that has many saved attachments: it must not matter how many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchrig.figures import Part, row_of
from benchrig.programs import must

if TYPE_CHECKING:
    from benchrig.world import World

KEY, TITLE = "f", "ADD with many saved attachments on the node"
COUNTS = (0, 1000, 10_000)


def measure(world: World, rounds: int) -> Part:
    """Time ADDs on nodes that differ in nothing else, a daemon for each, in turn."""
    world.need_pods(1)
    shims = {}
    for count in COUNTS:
        name = f"saved{count}"
        conf = world.file(f"{name}.json", world.multus(name, delegates=[world.bridge(7)]))
        daemon = world.daemon(name)
        shim = f"{world.bin_folder(daemon, 'c')}/multus"
        must(world.cni(shim, "ADD", "template", "p0", conf), f"{world.root}/out")
        folders = (daemon.state_dir, f"{world.root}/{name}/cni")
        _multiply(folders, "template", count)
        must(world.cni(shim, "DEL", "template", "p0", conf), f"{world.root}/out")
        shims[count] = (shim, conf)
    adds: dict[int, list[float]] = {count: [] for count in COUNTS}
    for number in range(-2, rounds):
        for count, (shim, conf) in shims.items():
            cid = f"new{number + 2}"
            taken = must(world.cni(shim, "ADD", cid, "p0", conf), f"{world.root}/out")
            must(world.cni(shim, "DEL", cid, "p0", conf), f"{world.root}/out")
            if number >= 0:
                adds[count].append(taken)
    rows = [row_of("with none", adds[0])]
    for count in COUNTS[1:]:
        name = f"with {count:,}"
        rows.append(row_of(name, adds[count], beside=adds[0], to="none", limit=1.1))
    points = [[float(count), row.value or 0.0] for count, row in zip(COUNTS, rows, strict=True)]
    return Part(KEY, TITLE, tuple(rows), {"ADD": points})


def _multiply(folders: tuple[str, ...], old: str, count: int) -> None:
    """Have other containers' files beside those of one: their names and contents say which."""
    found = [path for folder in folders for path in Path(folder).rglob(f"*{old}*")]
    texts = {path: path.read_text() for path in found if path.is_file()}
    for path, text in texts.items():
        for number in range(count if text else 0):
            new = f"saved{number:06}"
            Path(path.parent, path.name.replace(old, new)).write_text(text.replace(old, new))
