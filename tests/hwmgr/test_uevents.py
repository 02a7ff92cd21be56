"""Events of devices: which function they are of, and waiting where nothing can be heard."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwmgr.kernelevents import parse
from hwmgr.pci import parse_address
from hwmgr.udev import KernelUdev, _LibudevMonitor
from hwmgr.uevents import EventsLost, Uevent, address_in

HOME = "/devices/pci0000:00/0000:00:01.0/0000:01:10.0"


@pytest.mark.parametrize(
    ("path", "address"),
    [
        (HOME, "0000:01:10.0"),
        (f"{HOME}/net/enp1s0v0", "0000:01:10.0"),
        (f"{HOME}/vfio-dev/vfio0", "0000:01:10.0"),
        ("/devices/pci10000:00/10000:01:00.0/net/eth0", "10000:01:00.0"),
        ("/devices/virtual/net/veth0", None),
        ("/devices/netdevsim7/net/eni7np1", None),
        ("/devices/pci0000:00", None),
        ("/devices/virtual/net/0000:01:10.9", None),
        ("", None),
    ],
)
def test_the_function_of_a_device(path: str, address: str | None) -> None:
    assert address_in(path) == address
    assert address is None or parse_address(address) == address


def test_a_rename_has_the_old_name() -> None:
    moved = Uevent("move", "net", f"{HOME}/net/b", ifname="b", old_path=f"{HOME}/net/a")
    assert (moved.old_ifname, moved.ifname) == ("a", "b")
    assert Uevent("add", "net", f"{HOME}/net/b").old_ifname is None


def test_a_message_of_the_kernel() -> None:
    fields = (
        f"move@{HOME}/net/b", "ACTION=move", f"DEVPATH={HOME}/net/b", "SUBSYSTEM=net",
        f"DEVPATH_OLD={HOME}/net/a", "INTERFACE=b", "IFINDEX=7", "SEQNUM=4711", "",
    )  # fmt: skip
    found = parse("\0".join(fields).encode())
    assert found == Uevent("move", "net", f"{HOME}/net/b", 4711, None, "b", f"{HOME}/net/a")
    assert parse(b"libudev\0\xfe\xed\xca\xfe") is None
    assert parse(b"add@/x\0SEQNUM=x\0\xff") == Uevent("add", "", "/x")


def test_the_kernel_is_heard_without_any_program() -> None:
    """Importing pyudev starts ldconfig, to find libudev."""
    script = (
        "import sys; from hwmgr.udev import KernelUdev; KernelUdev().monitor().next(0);"
        "assert 'pyudev' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=True)


def test_without_udevd_every_netdev_is_settled() -> None:
    assert KernelUdev(control="/nonexistent").settled(1)


def test_a_udevd_that_died_is_not_waited_for(tmp_path: Path) -> None:
    """It leaves its socket behind, which nobody listens to."""
    control = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(control)
        listening.listen()
    assert KernelUdev(control=control).settled(1)


def test_a_netdev_that_is_gone_is_settled(tmp_path: Path) -> None:
    control = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(control)
        listening.listen()
        assert KernelUdev(control=control).settled(2**30)


def test_a_wait_looks_first_and_ends_in_time() -> None:
    udev = KernelUdev(control="/nonexistent")
    assert udev.wait(lambda: "at once", 0) == "at once"
    began = time.monotonic()
    assert udev.wait(lambda: None, 0.1) is None
    assert time.monotonic() - began < 5
    answers = iter([None, None, "third"])
    assert udev.wait(lambda: next(answers), 30) == "third"


class _Unreadable:
    """What pyudev does with an event of a netdev whose name is no UTF-8."""

    def poll(self, _timeout: float) -> object:
        return b"/devices/pci0000:00/net/\xff".decode()


def test_an_event_that_pyudev_cannot_read_is_one_that_was_lost() -> None:
    monitor = _LibudevMonitor.__new__(_LibudevMonitor)
    monitor._monitor = _Unreadable()
    assert monitor.next(0) == EventsLost()


def test_a_name_that_is_no_text_is_the_same_in_events_and_in_sysfs() -> None:
    event = parse(b"move@/devices/net/\xff\0SUBSYSTEM=net\0INTERFACE=\xff\0SEQNUM=7")
    assert event is not None
    assert event.ifname == os.fsdecode(b"\xff")
