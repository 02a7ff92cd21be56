"""hwmgr watch: its JSON, its lines, its live screen, and how it ends."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hwmgr.cli.app import main
from hwmgr.cli.events import event_line, event_view
from hwmgr.cli.live import frame
from hwmgr.cli.output import Screen
from hwmgr.cli.session import Session
from hwmgr.driver import bind
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, Kind, PciAddress
from hwmgr.uevents import EventsLost, Uevent
from hwmgr.watch.watching import Watcher
from tests.fakes.machine import Machine, build
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.uevents import Monitor
    from hwmgr.watch.deviceevents import DeviceEvent

ROOT = Path(__file__).parents[3]
VF = PciAddress("0000:01:10.2")
HOME = f"/devices/pci0000:00/{VF}"
TAKEN = "/devices/pci0000:00/0000:01:10.4"
EVENT_KEYS = [
    "time", "event", "was", "source", "address", "pf", "pfAddress", "index", "driver", "ifname",
    "state", "owner", "mac", "vlan", "trust", "spoofchk", "numaNode", "iommuGroup", "numVfs",
]  # fmt: skip


def some_events(machine: Machine) -> tuple[Watcher, list[DeviceEvent]]:
    """Let a VF be bound to vfio-pci and another be attached; return what was seen."""
    watcher = Watcher(machine.node, machine.udev.monitor())
    bind(machine.sim, VF, "vfio-pci")
    machine.udev.listening.queue += [
        Uevent("remove", "net", f"{HOME}/net/eth1v1", 1, ifname="eth1v1"),
        Uevent("unbind", "pci", HOME, 2),
        Uevent("bind", "pci", HOME, 3, driver="vfio-pci"),
    ]
    events = watcher.step(0)
    attach(machine)
    events += watcher.step(0)
    machine.udev.now += 1.5
    machine.sim.write("bus/pci/devices/0000:01:00.0/sriov_numvfs", "0")
    pf = "/devices/pci0000:00/0000:01:00.0"
    machine.udev.listening.queue.append(Uevent("change", "pci", pf, 4))
    return watcher, events + watcher.step(0)


def attach(machine: Machine, pod_namespace: str = "default", pod_name: str = "web") -> None:
    request = AttachRequest(
        container_id="feedbeef" * 8,
        ifname="net1",
        netns_path=machine.namespace().path,
        kind=Kind.VF,
        device=PciAddress("0000:01:10.4"),
        pod_namespace=pod_namespace,
        pod_name=pod_name,
    )
    Manager(machine.node).attach(request)


def test_lines_for_people(machine: Machine) -> None:
    _, events = some_events(machine)
    assert [event_line(e) for e in events] == [
        "2023-11-14T22:13:20.000Z  netdev-remove  0000:01:10.2  eth1 vf 1       eth1v1  (dirty)",
        "2023-11-14T22:13:20.000Z  unbind         0000:01:10.2  eth1 vf 1       "
        "no driver, was igbvf  (dirty)",
        "2023-11-14T22:13:20.000Z  bind           0000:01:10.2  eth1 vf 1       vfio-pci  (dirty)",
        "2023-11-14T22:13:20.000Z  attach         0000:01:10.4  eth1 vf 2       "
        "default/web net1  (allocated)",
        "2023-11-14T22:13:21.500Z  numvfs         0000:01:00.0  eth1            0 VFs, was 7",
        "2023-11-14T22:13:21.500Z  state          0000:01:10.4  eth1 vf 2       "
        "broken, was allocated  (default/web net1)",
    ]


def test_keys_of_an_event(machine: Machine) -> None:
    _, events = some_events(machine)
    views: list[Any] = [json.loads(json.dumps(event_view(e))) for e in events]
    assert [list(view) for view in views] == [EVENT_KEYS] * len(views)
    bound = views[2]
    assert (bound["event"], bound["driver"], bound["state"]) == ("bind", "vfio-pci", "dirty")
    assert (bound["source"], bound["index"], bound["pf"]) == ("kernel", 1, "eth1")
    assert bound["time"] == "2023-11-14T22:13:20.000Z"
    assert views[3]["owner"]["podName"] == "web"
    assert (views[4]["was"], views[4]["numVfs"], views[4]["pf"]) == (7, 0, "eth1")


class Scripted:
    """A monitor that lets something happen at every look."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.drivers = ["vfio-pci", "igbvf"] * 8
        self.pending: list[Uevent] = []

    def next(self, timeout: float) -> Uevent | None:
        if self.pending:
            return self.pending.pop(0)
        if timeout and self.drivers:
            driver = self.drivers.pop(0)
            self.machine.sim.write(f"bus/pci/devices/{VF}/driver_override", "\n")
            bind(self.machine.sim, VF, driver)
            self.pending = [Uevent("bind", "pci", HOME, 1, driver=driver)]
            return Uevent("unbind", "pci", HOME, 1)
        return None


class Udev:
    """Only the monitor of hwmgr.udev.Udev."""

    def __init__(self, machine: Machine, listening: Monitor) -> None:
        self.wait, self.settled = machine.udev.wait, machine.udev.settled
        self.listening = listening

    def monitor(self) -> Monitor:
        return self.listening


def run(machine: Machine, *words: str, monitor: Monitor | None = None) -> tuple[int, str, str]:
    from tests.fakes.machine import replace_node

    out, err = io.StringIO(), io.StringIO()
    node = replace_node(machine.node, udev=Udev(machine, monitor or Scripted(machine)))
    status = main(["watch", *words], Session(lambda _s, _d, _log: node, {}, out, err))
    return status, out.getvalue(), err.getvalue()


def test_json_lines_up_to_a_count(machine: Machine) -> None:
    status, out, err = run(machine, "-o", "json", "--count", "3", "--for", "60")
    assert (status, err) == (0, "hwmgr: watching 1 PF, 7 VFs\n")
    found = [json.loads(line) for line in out.splitlines()]
    assert [(e["event"], e["driver"]) for e in found] == [
        ("unbind", None), ("bind", "vfio-pci"), ("unbind", None),
    ]  # fmt: skip


def test_other_forms(machine: Machine) -> None:
    status, out, _ = run(machine, "-o", "yaml", "--count", "2")
    assert [e["event"] for e in yaml.safe_load_all(out)] == ["unbind", "bind"]
    status, out, _ = run(machine, "--count", "2", "--pf", "eth1")
    assert (status, len(out.splitlines())) == (0, 2)
    assert "vfio-pci" in out


def test_a_time_ends_it(machine: Machine) -> None:
    began = time.monotonic()
    assert main_quiet(machine, "--for", "0.3") == (0, "")
    assert 0.3 <= time.monotonic() - began < 10


def main_quiet(machine: Machine, *words: str) -> tuple[int, str]:
    out = io.StringIO()
    session = Session(lambda _s, _d, _log: machine.node, {}, out, io.StringIO())
    return main(["watch", *words], session), out.getvalue()


@pytest.mark.parametrize("words", [("--pf", "nosuch0"), ("--pf", "eth1", "--pf", "7f:00.0")])
def test_a_pf_that_is_not_there(machine: Machine, words: tuple[str, ...]) -> None:
    status, out, err = run(machine, *words)
    assert (status, out, err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("words", [("--count", "0"), ("--for", "-1"), ("--count", "x"), ("eth1",)])
def test_mistakes_in_usage(machine: Machine, words: tuple[str, ...]) -> None:
    assert run(machine, *words)[0] == 2


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Machine]:
    """Two PFs with ten VFs, where some of everything has happened."""
    machine = build(str(tmp_path), Nic(vfs=7), Nic(address="0000:02:00.0", ifname="eth2", vfs=3))
    yield machine
    machine.close()


def test_the_screen_at_80_columns(busy: Machine) -> None:
    watcher, events = some_events(busy)
    now = busy.udev.clock() + 9
    lines = frame(watcher.functions, events, now, Screen(80), 17)
    assert (
        "\n".join(lines)
        == """\
2 PFs, 10 VFs: 8 free, 1 dirty, 1 broken               22:13:30 UTC, Ctrl-C ends

   ADDRESS       PF    VF  STATE   DRIVER    IFNAME  OWNER
   0000:01:10.0  eth1  0   free    igbvf     eth1v0  -
   0000:01:10.2  eth1  1   dirty   vfio-pci  -       -
*  0000:01:10.4  eth1  2   broken  igbvf     eth1v2  default/web net1
   0000:01:10.6  eth1  3   free    igbvf     eth1v3  -
   0000:01:11.0  eth1  4   free    igbvf     eth1v4  -
   0000:01:11.2  eth1  5   free    igbvf     eth1v5  -
  and 4 more

LAST EVENTS
22:13:20  unbind         0000:01:10.2  eth1 vf 1  no driver, was igbvf  (dirty)
22:13:20  bind           0000:01:10.2  eth1 vf 1  vfio-pci  (dirty)
22:13:20  attach         0000:01:10.4  eth1 vf 2  default/web net1  (allocated)
22:13:21  numvfs         0000:01:00.0  eth1       0 VFs, was 7
22:13:21  state          0000:01:10.4  eth1 vf 2  broken, was allocated  (web)"""
    )


def test_events_of_a_pod_with_a_long_name_at_80_columns(busy: Machine) -> None:
    """The name of the pod is what is given up last."""
    watcher = Watcher(busy.node, busy.udev.monitor())
    attach(busy, "telco-user-plane", "user-plane-function-worker-7d9c5b6f4d-x2x4z")
    busy.udev.listening.queue += [
        Uevent("remove", "net", f"{TAKEN}/net/eth1v2", 1, ifname="eth1v2"),
    ]
    events = watcher.step(0)
    lines = frame(watcher.functions, events, busy.udev.clock(), Screen(80), 20)
    assert "allocated  igbvf   -       user-plane-fu…5b6f4d-x2x4z" in "\n".join(lines)
    assert lines[-2:] == [
        "22:13:20  attach         0000:01:10.4  eth1 vf 2  user-plane-func…9c5b6f4d-x2x4z",
        "22:13:20  netdev-remove  0000:01:10.4  eth1 vf 2  eth1v2  (allocated, user…2x4z)",
    ]
    assert "telco-user-plane/user-plane-function-worker" in event_line(events[0])


def test_the_screen_at_200_columns(busy: Machine) -> None:
    watcher, _ = some_events(busy)
    lines = frame(watcher.functions, [], busy.udev.clock(), Screen(200), 50)
    assert lines[2].split() == [
        "ADDRESS", "PF", "VF", "STATE", "DRIVER", "IFNAME", "OWNER", "MAC", "VLAN",
    ]  # fmt: skip
    assert len(lines) == 3 + 10 + 4
    assert lines[-1] == "none so far"
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("width", range(60, 200, 20))
@pytest.mark.parametrize("height", [4, 9, 24, 60])
def test_a_screen_of_any_size_is_kept_to(busy: Machine, width: int, height: int) -> None:
    watcher, events = some_events(busy)
    lines = frame(watcher.functions, events, busy.udev.clock(), Screen(width), height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_ascii_only(busy: Machine) -> None:
    watcher, events = some_events(busy)
    lines = frame(watcher.functions, events, 0, Screen(60, unicode=False), 24)
    assert "\n".join(lines).isascii()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_an_error(machine: Machine, how: signal.Signals) -> None:
    with started(
        env={**os.environ, **environment(machine)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stderr is not None
        assert b"watching 1 PF" in child.stderr.readline()
        child.send_signal(how)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (0, b"", b"")


@contextmanager
def started(**how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``hwmgr watch``; a test that fails does not wait for it."""
    with subprocess.Popen([sys.executable, "-m", "hwmgr", "watch"], cwd=ROOT, **how) as child:
        try:
            yield child
        except BaseException:
            child.kill()
            raise


def environment(machine: Machine) -> dict[str, str]:
    return {
        "HWMGR_SYSFS": machine.sim.root,
        "HWMGR_STATE_DIR": machine.state.root,
        "HWMGR_CONFIG": "/nonexistent",
    }


def test_on_a_terminal_it_draws_in_place_and_gives_it_back(machine: Machine) -> None:
    ours, theirs = pty.openpty()
    variables = {**os.environ, **environment(machine), "TERM": "xterm", "NO_COLOR": "1"}
    with started(
        env={**variables, "COLUMNS": "100", "LINES": "30"},
        stdout=theirs,
    ) as child:
        os.close(theirs)
        text = read_until(ours, b"none so far")
        attach(machine)
        text += read_until(ours, b"default/web net1")
        child.send_signal(signal.SIGTERM)
        text += read_until(ours, b"\x1b[?1049l")
        os.close(ours)
    assert child.returncode == 0
    assert text.startswith(b"\x1b[?1049h")
    assert set(re.findall(rb"\x1b\[[?\d;]*[A-Za-z]", text)) == {
        b"\x1b[?1049h", b"\x1b[?25l", b"\x1b[H", b"\x1b[K", b"\x1b[J", b"\x1b[?25h", b"\x1b[?1049l",
    }  # fmt: skip


def test_it_follows_the_size_of_the_terminal(machine: Machine) -> None:
    ours, theirs = pty.openpty()
    resize(ours, 24, 80)
    variables = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    with started(
        env={**variables, **environment(machine), "TERM": "xterm"},
        stdout=theirs,
    ) as child:
        os.close(theirs)
        narrow = read_until(ours, b"none so far")
        resize(ours, 40, 120)
        wide = read_until(ours, b"none so far")
        child.send_signal(signal.SIGINT)
        read_until(ours, b"\x1b[?1049l")
        os.close(ours)
    assert child.returncode == 0
    assert [longest(narrow), longest(wide)] == [80, 120]
    # Clearing behind a character in the last column would clear that character (xterm, console).
    assert b"Ctrl-C ends\r" in narrow
    assert b"none so far\x1b[K" in narrow


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(machine: Machine) -> None:
    ours, theirs = pty.openpty()
    resize(ours, 24, 80)
    with started(
        env={**os.environ, **environment(machine), "TERM": "xterm"},
        stdout=theirs,
        # Else its process group would have nobody to wake it, and Ctrl-Z would do nothing.
        process_group=0,
    ) as child:
        os.close(theirs)
        read_until(ours, b"none so far")
        child.send_signal(signal.SIGTSTP)
        assert read_until(ours, b"\x1b[?1049l").endswith(b"\x1b[?1049l")
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        child.send_signal(signal.SIGCONT)
        again = read_until(ours, b"none so far")
        assert again.startswith(b"\x1b[?1049h")
        child.send_signal(signal.SIGINT)
        read_until(ours, b"\x1b[?1049l")
        os.close(ours)
    assert child.returncode == 0


def test_it_ends_when_nobody_reads_it_any_more(machine: Machine) -> None:
    """As with ``| head -1``, without another event."""
    with started(
        env={**os.environ, **environment(machine)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stderr is not None
        assert child.stdout is not None
        child.stderr.readline()
        child.stdout.close()
        assert child.wait(timeout=30) == 1
        assert child.stderr.read() == b""


class Overrun:
    """A monitor whose buffer was too small: a VF was rebound, and no event tells of it."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.done = machine, False

    def next(self, timeout: float) -> Uevent | EventsLost | None:
        if self.done:
            return None
        self.done = True
        bind(self.machine.sim, VF, "vfio-pci")
        return EventsLost()


def test_lost_events_are_told(machine: Machine) -> None:
    status, out, err = run(machine, "-o", "json", "--count", "2", monitor=Overrun(machine))
    assert status == 0
    assert [(e["event"], e["source"]) for e in map(json.loads, out.splitlines())] == [
        ("bind", "look"), ("netdev-remove", "look"),
    ]  # fmt: skip
    assert err.splitlines()[1:] == [
        "hwmgr: the kernel dropped events; what differs is told, as source 'look'"
    ]


def test_lost_events_are_told_on_the_screen(busy: Machine) -> None:
    watcher = Watcher(busy.node, Overrun(busy))
    watcher.step(0)
    assert watcher.losses == 1
    lines = frame(watcher.functions, [], 0, Screen(80), 24, "22:13:20  the kernel dropped events")
    assert lines[1] == "22:13:20  the kernel dropped events"


def resize(fd: int, lines: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def longest(text: bytes) -> int:
    plain = re.sub(rb"\x1b\[[?\d;]*[A-Za-z]", b"", text).decode()
    return max(map(len, plain.splitlines()))


def read_until(fd: int, wanted: bytes) -> bytes:
    text = b""
    while wanted not in text:
        text += os.read(fd, 65536)
    return text
