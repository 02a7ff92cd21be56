"""(c) ADD and DEL of a VF on real SR-IOV hardware: the lab's, which is emulated and slow."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from benchrig.figures import Part, Row, row_of
from benchrig.programs import FailedError
from benchrig.world import CHECKOUT, built_shim

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY, TITLE = "c", "ADD and DEL of a VF in the lab (an emulated machine: ratios, not milliseconds)"
_NAMES = {
    "daemon": "C shim + daemon",
    "thin": "thin, without a daemon",
    "peer": "the peers' multus + sriov",
}


def measure(rounds: int, peer_multus: str | None, peer_sriov: str | None) -> Part:
    """Have the lab measure, and read what it found."""
    shim = built_shim()
    take = [shim]
    peers: Sequence[str] = ()
    if peer_multus and peer_sriov:
        take += [peer_multus, peer_sriov]
        peers = ("--peers", *(path.rsplit("/", 1)[1] for path in (peer_multus, peer_sriov)))
    argv = [f"{CHECKOUT}/scripts/lab", "run", "--timeout", "900"]
    for path in take:
        argv += ["--take", path]
    guest = f"{CHECKOUT}/scripts/benchrig/guest_vf.py"
    argv += ["--", guest, shim.rsplit("/", 1)[1], str(rounds), *peers]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise FailedError(f"the lab ended with {done.returncode}: {done.stdout[-800:]}")
    found: dict[str, dict[str, list[float]]] = json.loads(done.stdout.splitlines()[-1])
    return Part(KEY, TITLE, tuple(_rows(found)))


def _rows(found: dict[str, dict[str, list[float]]]) -> list[Row]:
    rows = []
    for verb in ("ADD", "DEL"):
        peers = found.get("peer", {}).get(verb, ())
        limit = 0.5 if peers and verb == "ADD" else None
        ours = found["daemon"][verb]
        to = "peers" if peers else ""
        rows.append(row_of(f"{_NAMES['daemon']}, {verb}", ours, beside=peers, to=to, limit=limit))
        for name in ("thin", "peer"):
            if name in found:
                taken = found[name][verb]
                words = f"{_NAMES[name]}, {verb}"
                rows.append(row_of(words, taken, beside=ours, to="the daemon"))
    return rows
