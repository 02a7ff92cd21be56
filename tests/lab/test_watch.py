"""hwmgr watch on real functions: what a kernel tells, as JSON lines; a flood that is too much."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr import driver
from hwmgr.pfinventory import pf_inventory
from hwmgr.sysfs import Sysfs
from hwmgr.udev import KernelUdev
from hwmgr.watch.deviceevents import EventKind, Source
from hwmgr.watch.watching import Watcher
from tests.lab import forked
from tests.lab.cni import pod
from tests.lab.host_state import DEVICES, PFS, driver_of, ip, netdev_of, vfs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.watch.deviceevents import DeviceEvent, Function

pytestmark = pytest.mark.lab

SECONDS = 60


class Watching:
    """A running ``hwmgr watch -o json``."""

    def __init__(self, *words: str) -> None:
        self.child = subprocess.Popen(
            ["hwmgr", "watch", "-o", "json", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        )
        assert self.child.stderr is not None
        self.said = self.child.stderr.readline()

    def until(self, event: str, address: str) -> list[dict[str, Any]]:
        """Return the events up to one that is waited for; a watch without it says what it does."""
        assert self.child.stdout is not None
        assert self.child.stderr is not None
        found: list[dict[str, Any]] = []
        limit = threading.Timer(SECONDS, self.child.send_signal, (signal.SIGABRT,))
        limit.start()
        try:
            for line in self.child.stdout:
                found.append(json.loads(line))
                if (found[-1]["event"], found[-1]["address"]) == (event, address):
                    return found
        finally:
            limit.cancel()
        pytest.fail(f"no {event} of {address} in {found}\n{self.child.stderr.read()}")

    def end(self) -> int:
        self.child.terminate()
        self.child.communicate(timeout=SECONDS)
        return self.child.returncode


@pytest.fixture
def watching() -> Iterator[Watching]:
    made = Watching()
    assert made.said == "hwmgr: watching 2 PFs, 14 VFs\n"
    yield made
    assert made.end() == 0


def write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)


def settle() -> None:
    subprocess.run(["udevadm", "settle"], check=True)


def of(events: list[dict[str, Any]], address: str, *keys: str) -> list[tuple[Any, ...]]:
    """Return keys of the kernel's events of one function."""
    chosen = [e for e in events if e["address"] == address and e["source"] == "kernel"]
    return [tuple(e[key] for key in keys) for e in chosen]


def test_a_driver_is_bound_and_another(watching: Watching) -> None:
    vf = vfs_of(PFS[0])[6]
    name = netdev_of(vf)
    subprocess.run(["modprobe", "vfio-pci"], check=True)
    try:
        subprocess.run(["hwmgr", "vf", "bind", vf, "vfio-pci"], check=True, capture_output=True)
        there = watching.until("bind", vf)
    finally:
        subprocess.run(["hwmgr", "vf", "bind", vf, "igbvf"], check=True, capture_output=True)
    settle()
    back = watching.until("rename", vf)
    renamed = back[-1]
    assert of(there, vf, "event", "was", "driver") == [
        ("netdev-remove", None, "igbvf"),
        ("unbind", "igbvf", None),
        ("bind", None, "vfio-pci"),
    ]
    # The kernel tells of the binding when the driver's probe is over, and udevd may be faster.
    if ("bind", "igbvf") not in of(back, vf, "event", "driver"):
        back += watching.until("bind", vf)
    events = of(back, vf, "event", "driver")
    assert events[0] == ("unbind", None)
    assert ("bind", "igbvf") in events
    assert renamed["ifname"] == name
    assert renamed["pf"] == netdev_of(PFS[0])


def test_a_netdev_is_renamed(watching: Watching) -> None:
    vf = vfs_of(PFS[0])[5]
    name = netdev_of(vf)
    subprocess.run(["ip", "link", "set", name, "name", "watched0"], check=True)
    try:
        (event,) = watching.until("rename", vf)
        assert (event["was"], event["ifname"], event["index"]) == (name, "watched0", 5)
    finally:
        # udevd keeps the name that it knows as an alternative one.
        settle()
        subprocess.run(["ip", "link", "property", "del", "dev", "watched0", "altname", name])
        subprocess.run(["ip", "link", "set", "watched0", "name", name], check=True)
    assert watching.until("rename", vf)[-1]["ifname"] == name


def test_a_netdev_goes_to_another_namespace_and_comes_back(watching: Watching) -> None:
    vf = vfs_of(PFS[0])[1]
    name = netdev_of(vf)
    subprocess.run(["ip", "netns", "add", "away"], check=True)
    try:
        subprocess.run(["ip", "link", "set", name, "netns", "away"], check=True)
        gone = watching.until("netdev-remove", vf)[-1]
        move = ["ip", "-n", "away", "link", "set", name, "netns", "1"]
        subprocess.run(move, check=True)
        back = watching.until("netdev-add", vf)[-1]
    finally:
        subprocess.run(["ip", "netns", "del", "away"], check=True)
    assert (gone["ifname"], gone["state"], gone["driver"]) == (name, "foreign", "igbvf")
    assert (back["ifname"], back["state"]) == (name, "free")
    settle()
    assert netdev_of(vf) == name


def test_udevd_is_waited_for_until_it_has_renamed_a_netdev(stopped_udevd: int) -> None:
    """A slow udevd: the driver is there, the netdev has the kernel's name, and keeps it a while."""
    vf = vfs_of(PFS[0])[2]
    udev = KernelUdev()
    subprocess.run(["modprobe", "vfio-pci"], check=True)
    known = {name: socket.if_nametoindex(name) for name in os.listdir(f"{DEVICES}/{vf}/net")}
    ((name, before),) = known.items()
    assert udev.settled(before)
    driver.bind(Sysfs(), vf, "vfio-pci")
    driver.bind(Sysfs(), vf, "igbvf")
    index = socket.if_nametoindex(netdev_of(vf))
    assert index != before
    # More often than callers find room before a udevd that answers nobody.
    assert [udev.settled(index) for _ in range(5)] == [False] * 5
    os.kill(stopped_udevd, signal.SIGCONT)
    assert udev.wait(lambda: udev.settled(index) or None, SECONDS)
    assert netdev_of(vf) == name


@pytest.fixture
def stopped_udevd() -> Iterator[int]:
    found = subprocess.run(["pgrep", "-o", "udevd"], check=True, capture_output=True, text=True)
    pid = int(found.stdout)
    settle()
    os.kill(pid, signal.SIGSTOP)
    yield pid
    os.kill(pid, signal.SIGCONT)
    settle()


def test_a_device_that_goes_while_it_is_read_is_none(watching: Watching) -> None:
    """Lists are made all the time while VFs come and go; none of them fails.

    Nor does a watch: whatever it has missed of that, it tells of a number that stays.
    """
    pf = PFS[1]
    churn = (
        f"for n in 1 2 3 4 5 6; do echo 0 > {DEVICES}/{pf}/sriov_numvfs;"
        f" echo 7 > {DEVICES}/{pf}/sriov_numvfs; done"
    )
    node, lists = forked.node(), 0
    with subprocess.Popen(["sh", "-c", churn]) as child:
        while child.poll() is None:
            assert {info.pf.address for info in pf_inventory(node)} == set(PFS)
            lists += 1
    assert child.returncode == 0
    assert lists > 6
    for number in ("0", "3"):
        write(f"{DEVICES}/{pf}/sriov_numvfs", number)
    while watching.until("numvfs", pf)[-1]["numVfs"] != 3:
        pass
    for number in ("0", "7"):
        write(f"{DEVICES}/{pf}/sriov_numvfs", number)
    settle()


def test_vfs_are_destroyed_and_made(watching: Watching) -> None:
    pf = PFS[1]
    vfs = vfs_of(pf)
    try:
        write(f"{DEVICES}/{pf}/sriov_numvfs", "0")
        gone = watching.until("numvfs", pf)
    finally:
        write(f"{DEVICES}/{pf}/sriov_numvfs", "7")
    made = watching.until("numvfs", pf)
    settle()
    assert [e["address"] for e in gone if e["event"] == "remove"] == vfs
    assert (gone[-1]["was"], gone[-1]["numVfs"]) == (7, 0)
    assert [e["address"] for e in made if e["event"] == "add"] == vfs
    assert [e["index"] for e in made if e["event"] == "add"] == list(range(7))
    assert {e["driver"] for e in made if e["event"] == "bind"} == {"igbvf"}
    assert (made[-1]["was"], made[-1]["numVfs"]) == (0, 7)


def test_an_attachment_with_its_owner(watching: Watching) -> None:
    vf = vfs_of(PFS[0])[4]
    name = netdev_of(vf)
    conf = {"cniVersion": "1.0.0", "name": "watched", "type": "sriov", "deviceID": vf}
    with pod() as one:
        assert one.call("sriov", "ADD", conf).status == 0
        made = watching.until("netdev-remove", vf)
        assert one.call("sriov", "DEL", conf).status == 0
        gone = watching.until("detach", vf)
    (attach,) = (e for e in made if e["event"] == "attach")
    assert (attach["source"], attach["state"]) == ("records", "allocated")
    assert attach["owner"]["containerId"] == one.container_id
    assert (attach["owner"]["podName"], attach["owner"]["network"]) == ("pod", "watched")
    assert made[-1]["owner"] == attach["owner"]
    assert (made[-1]["ifname"], made[-1]["state"]) == (name, "allocated")
    assert gone[-1]["owner"] == attach["owner"]
    assert gone[-1]["state"] == "free"
    assert "netdev-add" in {e["event"] for e in gone}
    settle()
    assert netdev_of(vf) == name


def test_a_namespace_that_dies_leaves_a_leaked_vf(watching: Watching) -> None:
    vf = vfs_of(PFS[0])[3]
    conf = {"cniVersion": "1.0.0", "name": "watched", "type": "sriov", "deviceID": vf}
    with pod() as one:
        assert one.call("sriov", "ADD", conf).status == 0
        watching.until("netdev-remove", vf)
    back = watching.until("netdev-add", vf)[-1]
    try:
        if back["state"] != "leaked":
            back = watching.until("state", vf)[-1]
        assert (back["state"], back["owner"]["podName"]) == ("leaked", "pod")
    finally:
        assert one.call("sriov", "DEL", conf, netns="").status == 0
    assert watching.until("detach", vf)[-1]["state"] == "free"
    settle()


def test_a_count_and_a_pf_for_scripts() -> None:
    other, vf = vfs_of(PFS[1])[6], vfs_of(PFS[0])[6]
    names = netdev_of(other), netdev_of(vf)
    watching = Watching("--pf", PFS[0], "--count", "2")
    for name in names:
        subprocess.run(["ip", "link", "set", name, "name", f"{name}x"], check=True)
        settle()
        subprocess.run(["ip", "link", "property", "del", "dev", f"{name}x", "altname", name])
        subprocess.run(["ip", "link", "set", f"{name}x", "name", name], check=True)
    out, _ = watching.child.communicate(timeout=SECONDS)
    assert watching.child.returncode == 0
    assert [(e["event"], e["address"]) for e in map(json.loads, out.splitlines())] == [
        ("rename", vf),
        ("rename", vf),
    ]


@pytest.mark.parametrize("buffer_bytes", [1, 16 << 20])
def test_a_flood_loses_nothing(buffer_bytes: int) -> None:
    """All 14 VFs go and come while nobody reads; with a tiny buffer the kernel drops most of it."""
    node = forked.node()
    watcher = Watcher(node, KernelUdev(buffer_bytes=buffer_bytes).monitor())
    before = {vf: netdev_of(vf) for pf in PFS for vf in vfs_of(pf)}
    for value in ("0", "7"):
        for pf in PFS:
            write(f"{DEVICES}/{pf}/sriov_numvfs", value)
    rebound = vfs_of(PFS[0])[0]
    subprocess.run(["modprobe", "vfio-pci"], check=True)
    settle()
    subprocess.run(["hwmgr", "vf", "bind", rebound, "vfio-pci"], check=True, capture_output=True)
    events = everything(watcher)
    silent = (EventKind.STATE, EventKind.SETTINGS)
    sources = {e.source for e in events if e.change.kind not in silent}
    if buffer_bytes == 1:
        assert Source.LOOK in sources
    else:
        assert sources == {Source.KERNEL}
        kinds = [str(e.change.kind) for e in events]
        assert (kinds.count("remove"), kinds.count("add")) == (14, 14)
    found: dict[str, Function] = {f.address: f for f in watcher.functions if f.index is not None}
    assert set(found) == set(before)
    for vf, function in found.items():
        assert function.driver == driver_of(vf)
        names = os.listdir(f"{DEVICES}/{vf}/net") if function.driver == "igbvf" else []
        assert list(function.netdevs) == names
    assert found[rebound].driver == "vfio-pci"
    info = found[rebound].info
    assert info is not None
    assert info.state == "dirty"
    subprocess.run(["hwmgr", "vf", "bind", rebound, "igbvf"], check=True, capture_output=True)
    settle()
    assert {e.change.function.driver for e in everything(watcher)} >= {"igbvf"}
    assert {vf: netdev_of(vf) for vf in before} == before


def everything(watcher: Watcher) -> list[DeviceEvent]:
    """Return what has happened, with what a further look finds."""
    found = []
    end = time.monotonic() + 8
    while time.monotonic() < end:
        found += watcher.step(0.25)
    return found


def test_the_map_of_the_lab() -> None:
    done = subprocess.run(["hwmgr", "vf", "map"], check=True, capture_output=True, text=True)
    for pf in PFS:
        assert f"{netdev_of(pf)}  {pf}  igb" in done.stdout
    assert ip("link", "show", netdev_of(PFS[0]))
