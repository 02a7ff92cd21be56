"""Runs in the lab: times ADD and DEL of a VF and prints what it found as one line of JSON.

guest_vf.py SHIM ROUNDS [--peers MULTUS SRIOV]     (names of files in the lab's ``taken`` folder)
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

sys.path[:0] = ["/checkout", "/checkout/scripts"]

from benchrig.programs import Program, must  # noqa: E402
from benchrig.world import World  # noqa: E402

PF = "enp1s0"
TAKEN = "/checkout/taken"


def main(shim: str, rounds: str, *rest: str) -> None:
    """Time every way in turn."""
    os.environ["PYTHONPATH"] = "/checkout"
    with World(python=sys.executable) as world:
        world.need_pods(1)
        subprocess.run(["ip", "link", "set", PF, "up"], check=True)
        delegate = {
            "cniVersion": "1.0.0",
            "name": "fast",
            "type": "sriov",
            "if0": PF,
            "ipam": {
                "type": "host-local",
                "subnet": "18.1.0.0/24",
                "dataDir": f"{world.root}/ipam",
            },
        }
        conf = world.file("vf.json", world.multus("vf", delegates=[delegate]))
        daemon = world.daemon("vf")
        folder = world.bin_folder(daemon, "c", shim=f"{TAKEN}/{shim}")
        ways = {"daemon": (f"{folder}/multus", conf, {})}
        thin = {"HWMGR_STATE_DIR": f"{world.root}/thin"}
        ways["thin"] = ("/usr/local/bin/multus", conf, thin)
        if rest[:1] == ("--peers",):
            ways["peer"] = (f"{_peers(world, *rest[1:])}/multus", _peer_conf(world), {})
        print(json.dumps(_timed(world, ways, int(rounds))))


def _timed(
    world: World, ways: dict[str, tuple[str, str, dict[str, str]]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {n: {"ADD": [], "DEL": []} for n in ways}
    for number in range(-1, rounds):
        for name, (path, stdin, env) in ways.items():
            for verb in ("ADD", "DEL"):
                call = world.cni(path, verb, f"{name}{number + 1}", "p0", stdin)
                taken = must(Program(call.argv, {**call.env, **env}, stdin), f"{world.root}/out")
                if number >= 0:
                    found[name][verb].append(taken)
    return found


def _peers(world: World, multus: str, sriov: str) -> str:
    folder = world.folder("peers")
    for plugin in os.listdir("/usr/lib/cni"):
        os.symlink(f"/usr/lib/cni/{plugin}", f"{folder}/{plugin}")
    shutil.copy(f"{TAKEN}/{multus}", f"{folder}/multus")
    shutil.copy(f"{TAKEN}/{sriov}", f"{folder}/sriov")
    return folder


def _peer_conf(world: World) -> str:
    """Return the same network in the words of the Go plugins: a VF by its address."""
    vf = os.path.basename(os.readlink(f"/sys/class/net/{PF}/device/virtfn5"))
    ipam = {"type": "host-local", "subnet": "18.1.0.0/24", "dataDir": f"{world.root}/ipam"}
    delegate = {"cniVersion": "1.0.0", "name": "fast", "type": "sriov", "deviceID": vf}
    conf = world.multus("peer", delegates=[{**delegate, "ipam": ipam}])
    return world.file("peer.json", {**conf, "binDir": f"{world.root}/peers"})


if __name__ == "__main__":
    main(*sys.argv[1:])
