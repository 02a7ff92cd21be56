"""(g) What the daemon takes: idle, after many calls, in a burst, with a cluster in its caches."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

from benchrig.attach import ARGS, NODE, UID
from benchrig.figures import Part, Row
from benchrig.programs import Job, must, storm

if TYPE_CHECKING:
    from benchrig.world import Daemon, World

KEY, TITLE = "g", "resident memory of the daemon"
_BURST = 500
_OBJECTS = 500
_AT_ONCE = 4
# The cheapest plugin there is: what grows must be ours.
_PLUGIN = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
    const char *verb = getenv("CNI_COMMAND");
    if (verb && !strcmp(verb, "ADD"))
        puts("{\"cniVersion\": \"1.0.0\","
             " \"interfaces\": [{\"name\": \"e\", \"sandbox\": \"/x\"}]}");
    return 0;
}
"""


def measure(world: World, calls: int) -> Part:
    """Look at one daemon through its life."""
    world.need_pods(_AT_ONCE)
    plugin = {"cniVersion": "1.0.0", "name": "cheap", "type": "cheap"}
    conf = world.multus("memory", delegates=[plugin])
    conf["binDir"] = _compiled(world)
    stdin = world.file("cheap.json", conf)
    daemon = world.daemon("memory")
    shim = f"{world.bin_folder(daemon, 'c')}/multus"
    rows = [Row("idle", daemon.resident(), "MB", limit=90)]
    folder = world.folder("out-memory")

    def some(first: int, count: int, at_once: int) -> list[str]:
        failed = []
        for verb in ("ADD", "DEL"):
            jobs = [
                Job(
                    f"{verb}-{number % (8 * at_once)}",
                    (world.cni(shim, verb, f"m{number}", f"p{number % _AT_ONCE}", stdin),),
                )
                for number in range(first, first + count)
            ]
            failed += storm(jobs, at_once, folder).failed
        return failed

    tenth = calls // 20
    failed = some(0, tenth, _AT_ONCE)
    warm = daemon.resident()
    failed += some(tenth, calls // 2 - tenth, _AT_ONCE)
    after = daemon.resident()
    rows += [
        Row(f"after {tenth * 2:,} calls", warm, "MB"),
        Row(
            f"after {calls:,} calls",
            after,
            "MB",
            ratio=after / warm,
            to=f"after {tenth * 2:,}",
            limit=1.03,
            note=failed[0] if failed else "",
        ),
    ]
    failed = some(calls, _BURST, _BURST)
    note = f"{len(failed)} of {2 * _BURST} calls failed: {failed[0]}" if failed else "all answered"
    rows.append(Row(f"highest, {_BURST} ADDs at once", daemon.peak(), "MB", limit=250, note=note))
    rows.append(Row(f"errors in {_BURST} ADDs and DELs at once", float(len(failed)), "", limit=0))
    rows += _with_objects(world)
    return Part(KEY, TITLE, tuple(rows))


def _with_objects(world: World) -> list[Row]:
    """Look at a daemon that knows a large node's pods and a cluster's networks."""
    conf = json.dumps({**world.bridge(8), "name": ""})
    network = {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition"}
    objects = [_pod("web", UID)]
    for number in range(_OBJECTS):
        objects.append(_pod(f"other-{number}", f"{UID[:-4]}{number:04}"))
        meta = {"name": f"net-{number}", "namespace": "default"}
        objects.append({**network, "metadata": meta, "spec": {"config": conf}})
    kubeconfig = world.api_server(objects)
    daemon = world.daemon("objects", MULTUS_NODE_NAME=NODE)
    way = {"kubeconfig": kubeconfig, "clusterNetwork": "net-0", "multusNamespace": "default"}
    stdin = world.file("objects.json", world.multus("objects", **way))
    shim = f"{world.bin_folder(daemon, 'c')}/multus"
    for number in range(20):
        for verb in ("ADD", "DEL"):
            call = world.cni(shim, verb, f"o{number}", "p0", stdin, args=ARGS)
            must(call, f"{world.root}/out")
    name = f"with {_OBJECTS} pods and {_OBJECTS} networks cached"
    return [Row(name, _settled(daemon), "MB", limit=90)]


def _settled(daemon: Daemon) -> float:
    """Return the memory once the lists have been read: it is the same for half a second."""
    before = 0.0
    while (now := daemon.resident()) != before:
        before = now
        time.sleep(0.5)
    return now


def _pod(name: str, uid: str) -> dict[str, Any]:
    notes = {"k8s.v1.cni.cncf.io/networks": "net-1,net-2", "checksum/config": "0" * 64}
    container = {"name": "web", "image": "web:1", "env": [{"name": "A", "value": "b" * 500}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": uid,
            "annotations": notes if name != "web" else {},
            "labels": {"app": "web"},
        },
        "spec": {"nodeName": NODE, "containers": [container] * 3},
    }


def _compiled(world: World) -> str:
    folder = world.folder("cheap-bin")
    source = world.file("cheap.c", _PLUGIN)
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-static", "-O2", "-o", f"{folder}/cheap", source], check=True)
    return folder
