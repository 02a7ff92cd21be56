"""Uevents of a real kernel in a namespace without udevd: heard, in order, or told as lost."""

from __future__ import annotations

import os
import subprocess
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from hwmgr.netns import entered
from hwmgr.udev import KernelUdev
from hwmgr.uevents import EventsLost, Uevent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.uevents import Monitor

pytestmark = pytest.mark.functional


@pytest.fixture
def netns() -> Iterator[str]:
    name = f"ue-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


@contextmanager
def inside(netns: str) -> Iterator[None]:
    fd = os.open(f"/run/netns/{netns}", os.O_RDONLY)
    try:
        with entered(fd):
            yield
    finally:
        os.close(fd)


def ip(netns: str, *words: str) -> None:
    subprocess.run(["ip", "-n", netns, *words], check=True)


def all_of(monitor: Monitor) -> list[Uevent | EventsLost]:
    found = []
    while (event := monitor.next(0.5)) is not None:
        found.append(event)
    return found


def test_a_netdev_comes_is_renamed_and_goes(netns: str) -> None:
    with inside(netns):
        monitor = KernelUdev().monitor()
    ip(netns, "link", "add", "va0", "type", "veth", "peer", "name", "va1")
    ip(netns, "link", "set", "va0", "name", "fast0")
    ip(netns, "link", "del", "fast0")
    told = [
        (e.action, e.ifname, e.old_ifname)
        for e in all_of(monitor)
        if isinstance(e, Uevent) and "/queues/" not in e.path and e.ifname in ("va0", "fast0")
    ]
    assert told == [
        ("add", "va0", None),
        ("move", "fast0", "va0"),
        ("remove", "fast0", None),
    ]


def test_events_are_numbered_and_of_no_function(netns: str) -> None:
    with inside(netns):
        monitor = KernelUdev().monitor()
    ip(netns, "link", "add", "va0", "type", "veth")
    events = [e for e in all_of(monitor) if isinstance(e, Uevent)]
    numbers = [e.number or 0 for e in events]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > 0
    assert {e.address for e in events} == {None}


def test_a_full_buffer_is_told_and_listening_goes_on(netns: str) -> None:
    with inside(netns):
        monitor = KernelUdev(buffer_bytes=1).monitor()
    batch = "\n".join(f"link add d{n} type veth peer name e{n}" for n in range(50))
    subprocess.run(["ip", "-n", netns, "-batch", "-"], input=batch.encode(), check=True)
    assert EventsLost() in all_of(monitor)
    ip(netns, "link", "set", "d0", "name", "last")
    events = [e for e in all_of(monitor) if isinstance(e, Uevent)]
    assert "last" in {e.ifname for e in events}


def test_the_usual_buffer_takes_a_flood(netns: str) -> None:
    with inside(netns):
        monitor = KernelUdev().monitor()
    batch = "\n".join(f"link add d{n} type veth peer name e{n}" for n in range(150))
    subprocess.run(["ip", "-n", netns, "-batch", "-"], input=batch.encode(), check=True)
    events = all_of(monitor)
    assert EventsLost() not in events
    added = {e.ifname for e in events if isinstance(e, Uevent) and e.action == "add"}
    assert added >= {f"d{n}" for n in range(150)}


@pytest.mark.parametrize("buffer_bytes", [1, 1 << 20])
def test_a_wait_ends_by_an_event_or_by_looking_again(netns: str, buffer_bytes: int) -> None:
    """Also where events are lost: the condition is what counts."""
    looks: list[None] = []

    def there() -> bool | None:
        looks.append(None)
        if len(looks) == 2:
            batch = "\n".join(f"link add d{n} type veth peer name e{n}" for n in range(50))
            subprocess.run(["ip", "-n", netns, "-batch", "-"], input=batch.encode(), check=True)
        done = subprocess.run(["ip", "-n", netns, "link", "show", "d49"], capture_output=True)
        return done.returncode == 0 or None

    with inside(netns):
        assert KernelUdev(buffer_bytes=buffer_bytes).wait(there, 20) is True
        assert len(looks) <= 4
