"""What the daemon takes of memory: idle, after many calls, in a burst.

``DAEMON_CALLS`` is how many calls must not make it grow (1,000; 10,000 for the full run). The
delegate is a shell script that prints a result, so that the daemon is what works.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr import frames
from tests.functional.daemon import RunningDaemon, read_all
from tests.functional.node import Node, make_node

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

pytestmark = [pytest.mark.functional, pytest.mark.soak, pytest.mark.timeout(900)]

CALLS = int(os.environ.get("DAEMON_CALLS", "1000"))
BURST = 500
CALLERS = 8
# Kilobytes.
IDLE, GROWTH, PEAK = 90_000, 3_000, 250_000
CHEAP = """#!/bin/sh
[ "$CNI_COMMAND" = ADD ] && printf '{"interfaces": [{"name": "%s"}]}' "$CNI_IFNAME"
exit 0
"""


@pytest.fixture
def node(tmp_path: Path, folder: str) -> Iterator[Node]:
    for made in make_node(tmp_path):
        made.state_dir, made.cni_dir = Path(folder) / "state", Path(folder) / "cni"
        (made.bin / "cheap").write_text(CHEAP)
        (made.bin / "cheap").chmod(0o755)
        yield made


CONF: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "delegates": [{"name": "cheap", "type": "cheap", "cniVersion": "1.0.0"}],
}


def resident(daemon: RunningDaemon, what: str = "VmRSS") -> int:
    """Return kilobytes of the process' status, proc_pid_status(5)."""
    lines = Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{what}:")))


def churn(daemon: RunningDaemon, calls: int) -> None:
    """Make calls from a few callers at once, ADD and DEL in turn."""
    faults: list[str] = []

    def one(caller: int) -> None:
        for number in range(calls // CALLERS // 2):
            container = f"c{caller}-{number}"
            for command in ("ADD", "DEL"):
                done = daemon.call(command, CONF, container_id=container)
                if done.rc:
                    faults.append(done.stdout)

    threads = [threading.Thread(target=one, args=(caller,)) for caller in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_many_calls_do_not_make_it_grow(
    daemon: RunningDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    idle = resident(daemon)
    churn(daemon, 400)
    before = resident(daemon)
    churn(daemon, CALLS)
    after = resident(daemon)
    with capsys.disabled():
        print(f"\n  idle {idle} kB, warm {before} kB, after {CALLS} calls {after} kB")
    assert idle <= IDLE
    assert after <= IDLE
    assert after - before <= GROWTH


def test_a_burst_is_answered_and_stays_small(
    daemon: RunningDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting: list[socket.socket] = []
    for number in range(BURST):
        waiting.append(daemon.begin("ADD", CONF, container_id=f"c{number}"))
    answers = []
    for sock in waiting:
        with sock:
            sock.settimeout(300)
            answers.append(frames.decode_answer(read_all(sock)).status)
    with capsys.disabled():
        print(f"\n  {BURST} ADDs at once: at most {resident(daemon, 'VmHWM')} kB")
    assert answers == [0] * BURST
    assert resident(daemon, "VmHWM") <= PEAK
