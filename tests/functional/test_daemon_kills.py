"""The daemon killed again and again under a load of ADDs and DELs: nothing leaks, no pod misses.

``DAEMON_KILLS`` is how often (10; 50 for the full run). Delegates are a bridge with addresses from
host-local, a list of two plugins that hold a lease each and, in the second test, a VF of the bench
(a veth end for its netdev).
"""

from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.frames import FrameError
from tests.fakes.tree import Nic
from tests.functional.daemon import RunningDaemon
from tests.functional.harness import Bench, changes
from tests.functional.node import Node, ip, make_node
from tests.functional.veth_daemon import VethDaemon

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.functional, pytest.mark.soak, pytest.mark.timeout(900)]

KILLS = int(os.environ.get("DAEMON_KILLS", "10"))
PODS = 6
NIC = Nic()


@dataclass
class Tally:
    """What the load saw."""

    ready: int = 0
    failed: int = 0
    broken: int = 0
    deleted: int = 0
    retried: int = 0
    faults: list[str] = field(default_factory=list)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    yield from make_node(tmp_path)


def conf(node: Node) -> dict[str, Any]:
    leases = [{"type": "leasea"}, {"type": "leaseb"}]
    lists = {"name": "lst", "cniVersion": "1.0.0", "plugins": leases}
    return {"cniVersion": "1.1.0", "delegates": [node.bridge(), lists]}


class Pod(threading.Thread):
    """A pod that is made and deleted until the end, as a runtime does it."""

    def __init__(
        self,
        daemon: RunningDaemon,
        whole: dict[str, Any],
        name: str,
        number: int,
        end: threading.Event,
        ifnames: tuple[str, ...],
    ) -> None:
        super().__init__(daemon=True)
        self._daemon_of_node = daemon
        self._whole = whole
        self._ifnames = set(ifnames)
        self._netns = name
        self._number = number
        self._end = end
        self.tally = Tally()

    def run(self) -> None:
        turn = 0
        while not self._end.is_set():
            turn += 1
            container_id = f"pod{self._number}-{turn}"
            try:
                self._add(container_id)
                self._unplug(container_id)
            except AssertionError as error:
                self.tally.faults.append(f"{container_id}: {error}")
                return

    def _add(self, container_id: str) -> None:
        try:
            done = self._call("ADD", container_id)
        except (OSError, FrameError):
            self.tally.broken += 1
            return
        if done.rc:
            self.tally.failed += 1
            return
        self.tally.ready += 1
        node = self._daemon_of_node.node
        missing = self._ifnames - set(node.links(self._netns))
        assert not missing, f"ready without {missing}"
        for plugin in ("leasea", "leaseb"):
            lease = node.leases / f"{plugin}-{container_id}-net1"
            assert lease.exists(), f"ready without {plugin}"

    def _unplug(self, container_id: str) -> None:
        limit = time.monotonic() + 120
        while True:
            assert time.monotonic() < limit, "it cannot be deleted"
            try:
                done = self._call("DEL", container_id)
            except (OSError, FrameError):
                self.tally.retried += 1
                time.sleep(0.05)
                continue
            if done.rc == 0:
                self.tally.deleted += 1
                return
            self.tally.retried += 1

    def _call(self, command: str, container_id: str) -> Any:
        daemon = self._daemon_of_node
        path = {"CNI_NETNS": f"/run/netns/{self._netns}"}
        return daemon.call(command, self._whole, container_id=container_id, **path)


def test_killed_under_load(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    daemon = RunningDaemon(node)
    try:
        pods = kill_under_load(daemon, conf(node), capsys)
    finally:
        daemon.close()
    assert_all_well(pods)
    forget_half_written(node)
    node.assert_clean()


def test_killed_under_a_load_of_vfs(
    node: Node, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(folder, NIC)
    node.state_dir = Path(folder) / "state"
    vf = {"name": "vf", "type": "sriov", "cniVersion": "1.0.0", "if0": NIC.ifname}
    whole = conf(node)
    whole["delegates"].append(vf)
    before = bench.snapshot()
    daemon = VethDaemon(node, bench)
    try:
        pods = kill_under_load(daemon, whole, capsys, "eth0", "net2")
    finally:
        daemon.close()
    assert_all_well(pods)
    forget_half_written(node)
    left = changes(before, bench.snapshot())
    bench.close()
    assert {name for name in left if "br0" not in name} == set()
    node.state_dir = node.root / "state"  # what was in the bench's has just been compared
    assert node.saved() == []


def kill_under_load(
    daemon: RunningDaemon,
    whole: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    *ifnames: str,
) -> list[Pod]:
    """Kill and start the daemon while pods come and go; returns the pods, all of them deleted."""
    seed = random.randrange(1 << 30)
    dice, end, node, times = random.Random(seed), threading.Event(), daemon.node, []
    names = [f"{node.pod}-{number}" for number in range(PODS)]
    for name in names:
        ip("netns", "add", name)
    pods = [
        Pod(daemon, whole, name, number, end, ifnames or ("eth0",))
        for number, name in enumerate(names)
    ]
    try:
        daemon.start()
        for pod in pods:
            pod.start()
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.02, 1.5))
            daemon.kill()
            begun = time.monotonic()
            daemon.start()
            times.append(time.monotonic() - begun)
        time.sleep(1.0)
        end.set()
        for pod in pods:
            pod.join(150)
        with capsys.disabled():
            print(table(seed, times, pods))
        assert daemon.stop() == 0
        assert [set(node.links(name)) for name in names] == [{"lo"}] * PODS
    finally:
        end.set()
        for name in names:
            ip("netns", "del", name)
    return pods


def assert_all_well(pods: list[Pod]) -> None:
    assert [fault for pod in pods for fault in pod.tally.faults] == []
    assert not any(pod.is_alive() for pod in pods)
    assert sum(pod.tally.ready for pod in pods) > 0
    assert sum(pod.tally.broken for pod in pods) > 0


def forget_half_written(node: Node) -> None:
    """Remove what a killed writer leaves beside its file: nobody ever reads it."""
    for folder in (node.cni_dir, node.state_dir):
        for path in folder.rglob(".*.*"):
            path.unlink()


def table(seed: int, times: list[float], pods: list[Pod]) -> str:
    """Return what happened, for people."""
    rows = [
        ("kills", len(times)),
        ("pods reported ready", sum(pod.tally.ready for pod in pods)),
        ("ADDs that failed", sum(pod.tally.failed for pod in pods)),
        ("ADDs cut off", sum(pod.tally.broken for pod in pods)),
        ("DELs done", sum(pod.tally.deleted for pod in pods)),
        ("DELs tried again", sum(pod.tally.retried for pod in pods)),
        ("longest restart (ms)", round(max(times) * 1000)),
        ("seed", seed),
    ]
    return "\n" + "\n".join(f"  {name:22} {value:>10}" for name, value in rows)
