"""Plugins whose multus was killed are found by their environment, and nobody else is."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from multus.invoke import LOCK_HELD, STATE_DIR
from multus.orphans import KernelOrphans

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTAINER = f"c{os.getpid()}"
STATE = f"/nonexistent/{os.getpid()}"


@contextmanager
def sleeper(
    container_id: str, *, state_dir: str = STATE, **how: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that has said that it runs; before that its environment is still ours."""
    argv = [sys.executable, "-ISc", "print(flush=True); input()"]
    child = subprocess.Popen(
        argv,
        env={**os.environ, LOCK_HELD: container_id, STATE_DIR: state_dir},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **how,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def runs(child: subprocess.Popen[bytes]) -> bool:
    pidfd = os.pidfd_open(child.pid)
    try:
        return not select.select([pidfd], [], [], 0)[0]
    finally:
        os.close(pidfd)


def test_a_plugin_of_the_container_is_ended() -> None:
    with sleeper(CONTAINER, process_group=0) as plugin:
        assert KernelOrphans({}, STATE).end(CONTAINER) == 1
        assert not runs(plugin)
        assert plugin.wait() < 0
    assert KernelOrphans({}, STATE).end(CONTAINER) == 0


@pytest.mark.parametrize("other", [f"{CONTAINER}0", CONTAINER[:-1], ""])
def test_a_plugin_of_another_container_goes_on(other: str) -> None:
    with sleeper(other, process_group=0) as plugin:
        assert KernelOrphans({}, STATE).end(CONTAINER) == 0
        assert runs(plugin)


def test_a_daemon_that_a_plugin_started_goes_on() -> None:
    with sleeper(CONTAINER, start_new_session=True) as daemon:
        assert KernelOrphans({}, STATE).end(CONTAINER) == 0
        assert runs(daemon)


def test_below_another_multus_nothing_is_ended() -> None:
    with sleeper(CONTAINER, process_group=0) as plugin:
        assert KernelOrphans({LOCK_HELD: CONTAINER}, STATE).end(CONTAINER) == 0
        assert runs(plugin)


def test_a_plugin_of_the_same_id_in_another_state_directory_goes_on() -> None:
    with sleeper(CONTAINER, state_dir="/elsewhere", process_group=0) as plugin:
        assert KernelOrphans({}, STATE).end(CONTAINER) == 0
        assert runs(plugin)
