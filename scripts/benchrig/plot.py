"""Plots of the storm and of ADD on a full node, as one PNG, drawn by gnuplot."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchrig.figures import Part

_PLOTS = {
    "d": ("pods attached per second, three networks each", "calls at a time", "set logscale x 2"),
    "f": ("ADD with saved attachments on the node, ms", "saved attachments", "set xtics auto"),
}


def draw(parts: Sequence[Part], target: str) -> bool:
    """Draw what there is of the plots; False when there is nothing, or no gnuplot."""
    shown = [part for part in parts if part.key in _PLOTS and part.series]
    gnuplot = shutil.which("gnuplot")
    if not shown or gnuplot is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        script = [
            f"set terminal pngcairo size {640 * len(shown)},420 font 'sans,10'",
            f"set output '{os.path.abspath(target)}'",
            f"set multiplot layout 1,{len(shown)}",
            "set grid",
            "set key bottom right",
            "set yrange [0:*]",
        ]
        for part in shown:
            title, below, scale = _PLOTS[part.key]
            script += [f"set title '{title}'", f"set xlabel '{below}'", "unset logscale", scale]
            lines = []
            for number, (name, points) in enumerate(part.series.items()):
                data = Path(folder, f"{part.key}{number}")
                data.write_text("".join(f"{x} {y}\n" for x, y in points))
                lines.append(f"'{data}' with linespoints lw 2 pt 7 title '{name}'")
            script.append("plot " + ", ".join(lines))
        subprocess.run([gnuplot], input="\n".join(script).encode(), check=True)
    return True
