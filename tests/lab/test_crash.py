"""kill -9 at every step of ADD and of DEL, on real hardware; then DEL, and nothing is left."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial

import pytest

from tests.lab import forked
from tests.lab.cni import Pod, pod
from tests.lab.host_state import PFS, announce_vfs, differences, netdev_of, snapshot, vfs_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

PF = PFS[0]
Checkpoint = Callable[[str], None]


def kinds() -> dict[str, dict[str, object]]:
    ipam = {"type": "host-local", "subnet": "18.2.0.0/24"}
    base: dict[str, object] = {"cniVersion": "1.0.0", "name": "crash", "type": "sriov"}
    kernel = {
        "deviceID": vfs_of(PF)[2],
        "vlan": 100,
        "mac": "02:00:00:00:0b:01",
        "spoofchk": "off",
        "trust": "on",
        "max_tx_rate": 50,
        "mtu": 1400,
        "ipam": ipam,
    }
    dpdk = {
        "if0": netdev_of(PF),
        "vlan": 5,
        "mac": "02:00:00:00:0b:02",
        "dpdk": {"dpdk_driver": "vfio-pci"},
    }
    return {"kernel VF": {**base, **kernel}, "DPDK device": {**base, **dpdk}}


@pytest.mark.parametrize("kind", ["kernel VF", "DPDK device"])
def test_killed_at_every_step(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    for module in ("vfio-pci",):
        subprocess.run(["modprobe", module], check=True)
    announce_vfs()
    before = snapshot()
    conf = kinds()[kind]
    rows = []
    for verb in ("ADD", "DEL"):
        for number, name in enumerate(_steps(verb, conf), start=1):
            with pod() as one:
                if verb == "DEL":
                    assert forked.in_child(partial(_add, one, conf)) == 0
                killed = forked.in_child(partial(_run, verb, one, conf, number))
                assert killed == forked.KILLED, (verb, name)
                cured = forked.in_child(partial(_delete, one, conf))
            found = differences(before, snapshot())
            rows.append((verb, name, cured, found))
    with capsys.disabled():
        print(f"\n{kind}: killed at, then DEL")
        for verb, name, cured, found in rows:
            state = "as before" if not cured and not found else f"status {cured}, {found}"
            print(f"  {verb}  {name:24} {state}")
    assert [row for row in rows if row[2] or row[3]] == []


def _steps(verb: str, conf: dict[str, object]) -> list[str]:
    with pod() as one:
        if verb == "ADD":
            names = forked.names_of(lambda tell: _add(one, conf, tell))
            assert forked.in_child(lambda: _delete(one, conf)) == 0
            return names
        assert forked.in_child(lambda: _add(one, conf)) == 0
        return forked.names_of(lambda tell: _delete(one, conf, tell))


def _run(verb: str, one: Pod, conf: dict[str, object], number: int) -> None:
    verbs = {"ADD": _add, "DEL": _delete}
    verbs[verb](one, conf, forked.killing_at(number))


def _add(one: Pod, conf: dict[str, object], checkpoint: Checkpoint = lambda _: None) -> None:
    forked.plugin(checkpoint).add(forked.call("ADD", conf, one.container_id, one.path))


def _delete(one: Pod, conf: dict[str, object], checkpoint: Checkpoint = lambda _: None) -> None:
    forked.plugin(checkpoint).delete(forked.call("DEL", conf, one.container_id, one.path))
