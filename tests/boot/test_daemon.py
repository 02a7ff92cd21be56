"""multus-daemon's units: the socket, READY, the watchdog, restarts during calls, the next boot."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.boot.machine import Node, machine

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.boot, pytest.mark.timeout(900)]

VF = "0000:01:10.0"
SRIOV = "/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs"
SHIM = "/opt/shim/sriov"
SERVICE, UNITS = "multus-daemon.service", "multus-daemon.socket multus-daemon.service"
CALLS = f"""\
for round in 1 2 3 4 5 6; do
    /root/call {SHIM} ADD c$round {VF} && /root/call {SHIM} DEL c$round {VF} || exit 1
done"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node where nothing but the daemon can do a call: the shim has no programs for that."""
    build = Path(__file__).parents[2] / "scripts/build-shim"
    shim = subprocess.run([build], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    with machine(tmp_path_factory.mktemp("node") / "disk", Path(shim)) as made:
        made("install -m 755 taken/hwmgr-shim multus/shim/")
        made("multusctl install --bin-dir /opt/shim --thin none")
        for kind in ("service", "socket"):
            path = f"/etc/systemd/system/multus-daemon.{kind}"
            made(f"multus-daemon --unit {kind} > {path}")
        made("hwmgr units --install && systemctl daemon-reload && udevadm control --reload")
        made(f"echo 1 > {SRIOV} && udevadm settle && ip netns add pod")
        made("systemctl enable --now multus-daemon.socket")
        yield made


@pytest.fixture
def serving(node: Node) -> Node:
    """The daemon at work, and no call in it."""
    node(f"systemctl start {UNITS}")
    return node


@pytest.fixture(scope="module")
def booted(node: Node) -> Node:
    """The next boot, with the service enabled."""
    node(f"systemctl enable {SERVICE} && systemctl start {UNITS}")
    node(f"/root/call {SHIM} ADD left {VF}")
    assert node.reboot() == "running", node("systemctl --failed")
    return node


def main_pid(node: Node) -> str:
    return node(f"systemctl show --value -p MainPID {SERVICE}")


def test_systemd_has_nothing_to_say_of_them(node: Node) -> None:
    done = node.run("cd /etc/systemd/system && systemd-analyze verify ./multus-daemon.*")
    assert (done.status, done.stdout, done.stderr) == (0, "", "")


def test_the_first_call_starts_it(node: Node) -> None:
    assert node.run(f"systemctl is-active {UNITS}").stdout.split() == ["active", "inactive"]
    result = node.json(f"/root/call {SHIM} ADD c1 {VF}")
    assert result["interfaces"][0]["pciID"] == VF
    assert node(f"systemctl is-active {SERVICE}") == "active"
    node(f"/root/call {SHIM} DEL c1 {VF}")
    said = node.journal("multus-daemon")
    assert "ready" in said
    for verb in ("ADD", "DEL"):
        assert [line for line in said if line.startswith(f"sriov {verb} c1 net1 ok in ")]


def test_a_restart_during_calls_loses_none(serving: Node) -> None:
    before = main_pid(serving)
    serving.write("/root/calls", CALLS)
    serving(
        "bash /root/calls > /root/calls.log 2>&1 & calls=$!;"
        f" systemctl restart {SERVICE}; systemctl restart {SERVICE};"
        " wait $calls || { cat /root/calls.log; exit 1; }"
    )
    assert main_pid(serving) != before
    assert serving.json("hwmgr state list -o json") == []


def test_killed_again_and_again_it_comes_back(serving: Node) -> None:
    """More often than DefaultStartLimitBurst=, and each time as soon as it is there."""
    for _ in range(6):
        already = serving.said(SERVICE, "Starting multus-daemon.service")
        serving(f"systemctl kill -s KILL {SERVICE}")
        serving.await_journal(SERVICE, "Starting multus-daemon.service", already)
    assert serving.run(f"systemctl is-failed {UNITS}").status != 0
    serving(f"/root/call {SHIM} ADD c2 {VF} && /root/call {SHIM} DEL c2 {VF}")


def test_one_that_hangs_is_replaced(serving: Node) -> None:
    assert serving(f"systemctl show --value -p WatchdogUSec {SERVICE}") == "30s"
    serving.write(f"/etc/systemd/system/{SERVICE}.d/soon.conf", "[Service]\nWatchdogSec=2")
    serving(f"systemctl daemon-reload && systemctl restart {SERVICE}")
    before = main_pid(serving)
    serving(f"kill -STOP {before}")
    serving.await_journal(SERVICE, "Watchdog timeout")
    serving(f"/root/call {SHIM} ADD c3 {VF} && /root/call {SHIM} DEL c3 {VF}")
    assert main_pid(serving) != before
    serving(f"rm -r /etc/systemd/system/{SERVICE}.d && systemctl daemon-reload")


def test_with_wrong_settings_it_says_so_and_is_not_tried_again(serving: Node) -> None:
    serving.write("/etc/hwmgr/config.yaml", "daemon: {workers: many}")
    assert serving.run(f"systemctl restart {SERVICE}").status == 1
    assert "daemon.workers: must be a number" in "\n".join(serving.journal("multus-daemon"))
    assert serving.run(f"systemctl is-failed {SERVICE}").stdout == "failed\n"
    shown = serving(f"systemctl show --value -p NRestarts -p ExecMainStatus {SERVICE}")
    assert sorted(shown.split()) == ["0", "2"]
    serving(f"rm /etc/hwmgr/config.yaml && systemctl reset-failed {UNITS}")
    serving(f"systemctl restart {UNITS} && /root/call {SHIM} ADD c4 {VF}")
    serving(f"/root/call {SHIM} DEL c4 {VF}")


def test_it_ends_in_good_order(serving: Node) -> None:
    serving("systemctl stop multus-daemon.socket multus-daemon.service")
    assert "ended" in serving.journal(SERVICE)[-6:]
    assert serving(f"systemctl show --value -p Result {SERVICE}") == "success"
    assert serving.run(f"/root/call {SHIM} CHECK c5 {VF}").status == 1


def test_after_the_next_boot(booted: Node) -> None:
    assert booted(f"systemctl is-active {UNITS}").split() == ["active", "active"]
    listening = booted.moment("multus-daemon.socket", "ActiveEnter")
    assert listening <= booted.moment(SERVICE, "InactiveExit")
    booted(f"echo 1 > {SRIOV} && udevadm settle && ip netns add pod")
    booted(f"/root/call {SHIM} ADD c6 {VF} && /root/call {SHIM} DEL c6 {VF}")
