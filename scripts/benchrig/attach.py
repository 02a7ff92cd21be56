"""(b) ADD and DEL of bridge + host-local through multus, beside calling the plugin directly."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrig import recorded
from benchrig.figures import Part, Row, ratio_of, row_of
from benchrig.programs import MS, Program, must

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchrig.world import World

KEY, TITLE = "b", "bridge + host-local: ADD and DEL, pod and network from the watch cache"
UID = "0c11a3b4-5e6f-4a7b-8c9d-0e1f2a3b4c5d"
ARGS = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID={UID}"
NODE = "bench"


def measure(world: World, rounds: int, peer_multus: str | None) -> Part:
    """Make rounds of: the plugin, multus by either shim, by thin, the API's own round trip."""
    world.need_pods(1)
    direct = world.file("bridge.json", world.bridge())
    kubeconfig = world.api_server([_pod(), _definition(world.bridge())])
    way = {"kubeconfig": kubeconfig, "clusterNetwork": "br0", "multusNamespace": "default"}
    multus = world.file("multus.json", world.multus("attach", **way))
    daemon = world.daemon("attach", MULTUS_NODE_NAME=NODE)
    calls: dict[str, Callable[[str, str], Program]] = {
        "bridge": lambda verb, cid: world.cni(f"{_plugins()}/bridge", verb, cid, "p0", direct),
    }
    for which in ("c", "python"):
        path = f"{world.bin_folder(daemon, which)}/multus"
        calls[which] = _calling(world, path, multus)
    if peer_multus:
        calls["peer"] = _calling(world, peer_multus, multus)
    adds: dict[str, list[float]] = {name: [] for name in calls}
    dels: dict[str, list[float]] = {name: [] for name in calls}
    patch, round_trips = _patching(kubeconfig), []
    for number in range(-2, rounds):
        for name, call in calls.items():
            cid = f"{name}{number + 2}"
            add = must(call("ADD", cid), f"{world.root}/out")
            delete = must(call("DEL", cid), f"{world.root}/out")
            if number >= 0:
                adds[name].append(add)
                dels[name].append(delete)
        taken = patch(number)
        if number >= 0:
            round_trips.append(taken)
    rows = [
        row_of("bridge itself, ADD", adds["bridge"]),
        row_of("bridge itself, DEL", dels["bridge"]),
        row_of("network-status, one round trip to the API", round_trips),
    ]
    names = {"c": "C shim + daemon", "python": "Python shim + daemon", "peer": f"{peer_multus}"}
    for name in list(calls)[1:]:
        rows.append(row_of(f"{names[name]}, ADD", adds[name], beside=adds["bridge"], to="bridge"))
        rows.append(row_of(f"{names[name]}, DEL", dels[name], beside=dels["bridge"], to="bridge"))
        own = _own(adds[name], adds["bridge"], round_trips)
        limit = 0.25 if name == "c" else None
        rows.append(
            row_of("  own part of the ADD", own, beside=adds["bridge"], to="bridge", limit=limit)
        )
    rows += [_on_disk(rounds), _thin(world, rounds, multus, adds["bridge"])]
    return Part(KEY, TITLE, (*rows, *(() if peer_multus else recorded.attaching())))


def _calling(world: World, path: str, stdin: str) -> Callable[[str, str], Program]:
    return lambda verb, cid: world.cni(path, verb, cid, "p0", stdin, args=ARGS)


def _own(whole: list[float], plugin: list[float], round_trips: list[float]) -> list[float]:
    return [a - b - c for a, b, c in zip(whole, plugin, round_trips, strict=True)]


def _plugins() -> str:
    return "/usr/lib/cni"


def _patching(kubeconfig: str) -> Callable[[int], float]:
    """Return what writes an annotation as the daemon does, and says how long it took."""
    from multus.api.cluster import Cluster
    from multus.api.k8sclient import connect
    from multus.clock import SystemClock

    api = connect(kubeconfig, os.environ)
    if api is None:
        raise ValueError(f"{kubeconfig} names no API server")
    cluster = Cluster(api, SystemClock())

    def patch(number: int) -> float:
        started = time.perf_counter()
        key = "k8s.v1.cni.cncf.io/network-status"
        cluster.annotate("default", "web", UID, key, f"{number} " + "x" * 300)
        return (time.perf_counter() - started) * MS

    return patch


def _on_disk(rounds: int) -> Row:
    """Time one durable write where the cache folder is: what a state on a disk adds, per write."""
    from hwmgr.store import StateDir

    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    taken = []
    with tempfile.TemporaryDirectory(dir=base) as folder:
        state = StateDir(folder)
        for _ in range(rounds):
            started = time.perf_counter()
            state.write_bytes(b"x" * 2000, "record")
            taken.append((time.perf_counter() - started) * MS)
    kind = "the state was in memory; on this disk each durable write adds this"
    return row_of("one durable write on the disk", taken, note=kind)


def _thin(world: World, rounds: int, multus: str, direct: list[float]) -> Row:
    """Time the same work without a daemon: a Python that starts, imports and asks anew."""
    env = {"HWMGR_STATE_DIR": f"{world.root}/thin", "PYTHONPATH": os.environ["PYTHONPATH"]}
    taken = []
    for number in range(max(rounds // 5, 3)):
        for verb in ("ADD", "DEL"):
            call = world.cni(world.python, verb, f"thin{number}", "p0", multus, args=ARGS)
            whole = Program((world.python, "-m", "multus"), {**call.env, **env}, multus)
            milliseconds = must(whole, f"{world.root}/out")
            if verb == "ADD":
                taken.append(milliseconds)
    beside = direct[: len(taken)]
    return Row(
        "thin, without a daemon, ADD",
        sorted(taken)[len(taken) // 2],
        "ms",
        min(taken),
        max(taken),
        ratio_of(taken, beside),
        "bridge",
        note="imports, and asks the API server",
    )


def _pod() -> dict[str, Any]:
    meta = {"name": "web", "namespace": "default", "uid": UID, "annotations": {}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"nodeName": NODE, "containers": [{"name": "web", "image": "web"}]},
    }


def _definition(conf: dict[str, Any]) -> dict[str, Any]:
    import json

    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": conf["name"], "namespace": "default"},
        "spec": {"config": json.dumps(conf)},
    }
