"""(d) A storm of pods: what the daemon gets done, beside the delegates alone on the same cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchrig.figures import Part, Row, percentile
from benchrig.programs import MS, Job, Storm, storm

if TYPE_CHECKING:
    from benchrig.programs import Program
    from benchrig.world import World

KEY, TITLE = "d", "a storm: pods with three attachments each"
CONCURRENCY = (1, 8, 64)
_IFNAMES = ("eth0", "net1", "net2")


def measure(world: World, pods: int) -> Part:
    """Attach and detach all pods with each concurrency, by multus and by the plugins alone.

    The two take turns twice (alone, multus, multus, alone), so that a drift of the machine's speed
    is on both sides.
    """
    world.need_pods(pods)
    rows: list[Row] = []
    series: dict[str, list[list[float]]] = {"multus": [], "delegates alone": []}
    daemon = world.daemon("storm")
    shim = f"{world.bin_folder(daemon, 'c')}/multus"
    delegates = [world.bridge(number) for number in range(3)]
    stdins = [world.file(f"bridge{n}.json", conf) for n, conf in enumerate(delegates)]
    whole = world.file("storm.json", world.multus("storm", delegates=delegates))
    for concurrency in CONCURRENCY:
        found: dict[str, list[tuple[Storm, Storm]]] = {"alone": [], "multus": []}
        for turn, kind in enumerate(("alone", "multus", "multus", "alone")):
            name = f"{kind}-{concurrency}-{turn}"
            made = {
                verb: [
                    _job(world, name, verb, pod, shim if kind == "multus" else "", whole, stdins)
                    for pod in range(pods)
                ]
                for verb in ("ADD", "DEL")
            }
            folder = world.folder("out-" + name)
            found[kind].append(
                (storm(made["ADD"], concurrency, folder), storm(made["DEL"], concurrency, folder))
            )
        alone, ours = _rate(found["alone"], pods), _rate(found["multus"], pods)
        series["delegates alone"].append([concurrency, alone])
        series["multus"].append([concurrency, ours])
        rows += _rows(concurrency, found, alone, ours)
    return Part(KEY, f"{TITLE}, {pods} pods", tuple(rows), series)


def _job(
    world: World, name: str, verb: str, pod: int, shim: str, whole: str, stdins: list[str]
) -> Job:
    cid, netns = f"{name}-{pod}", f"p{pod}"
    if shim:
        programs: list[Program] = [world.cni(shim, verb, cid, netns, whole)]
    else:
        programs = [
            world.cni("/usr/lib/cni/bridge", verb, cid, netns, stdin, ifname)
            for ifname, stdin in zip(_IFNAMES, stdins, strict=True)
        ]
    return Job(f"{verb}-{pod}", tuple(programs if verb == "ADD" else reversed(programs)))


def _rate(rounds: list[tuple[Storm, Storm]], pods: int) -> float:
    return len(rounds) * pods / sum(added.whole for added, _ in rounds)


def _rows(
    concurrency: int, found: dict[str, list[tuple[Storm, Storm]]], alone: float, ours: float
) -> list[Row]:
    added = [seconds * MS for add, _ in found["multus"] for seconds in add.seconds]
    failed = [one for both in found["multus"] for each in both for one in each.failed]
    direct = [one for both in found["alone"] for each in both for one in each.failed]
    many = concurrency == max(CONCURRENCY)
    at = f"at {concurrency}:"
    rows = [
        Row(f"{at} delegates alone", alone, "pods/s", note=_failures(direct)),
        Row(
            f"{at} multus, ADD",
            ours,
            "pods/s",
            ratio=ours / alone,
            to="alone",
            limit=0.9 if many else None,
            least=True,
        ),
        Row(f"{at} ADD, median", percentile(added, 0.5), "ms", min(added), max(added)),
        Row(f"{at} ADD, 99th percentile", percentile(added, 0.99), "ms"),
        Row(f"{at} errors", float(len(failed)), "", limit=0, note=_failures(failed)),
    ]
    deleted = sum(delete.whole for _, delete in found["multus"])
    beside = sum(delete.whole for _, delete in found["alone"])
    pods = sum(len(delete.seconds) for _, delete in found["multus"])
    rows.append(
        Row(f"{at} multus, DEL", pods / deleted, "pods/s", ratio=beside / deleted, to="alone")
    )
    return rows


def _failures(failed: list[str]) -> str:
    return f"the first of {len(failed)}: {failed[0][:160]}" if failed else ""
