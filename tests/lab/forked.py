"""The device plane in a forked child: it may be killed at any step, and costs no start-up."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

# A child has what its parent has imported; each would take two seconds for it in here.
import pyroute2  # noqa: F401
import pyudev  # noqa: F401

from hwmgr.node import Node, real_node
from hwmgr.run import KernelRunner
from multus.delegates import DelegateCall
from multus.hardware import plugin_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from multus.sriov import SriovPlugin

KILLED = -signal.SIGKILL


def _nowhere(_name: str) -> None:
    return


def node(checkpoint: Callable[[str], None] = _nowhere) -> Node:
    """Return the lab's node, with its crash points."""
    made = real_node(dpdk_tools=("/usr/bin/dpdk-devbind.py",))
    return replace(made, checkpoint=checkpoint)


def plugin(checkpoint: Callable[[str], None]) -> SriovPlugin:
    """Return the sriov delegate on the lab's node, with its crash points."""
    env = {"PATH": os.environ["PATH"]}
    return plugin_on(node(checkpoint), KernelRunner(), env, ("/var/lib/cni",))


def in_child(work: Callable[[], None]) -> int:
    """Run in a forked child; return its exit status, or the negative signal that ended it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except Exception:  # noqa: BLE001 a child must end here, whatever it met
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killing_at(count: int) -> Callable[[str], None]:
    """Return a checkpoint that ends the process, without a word, at its ``count``-th call."""
    left = [count]

    def checkpoint(_name: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return checkpoint


def names_of(work: Callable[[Callable[[str], None]], None]) -> list[str]:
    """Run ``work`` in a child and return the names of the crash points that it passes."""
    reader, writer = os.pipe()

    def tell(name: str) -> None:
        os.write(writer, name.encode() + b"\n")

    assert in_child(lambda: work(tell)) == 0
    os.close(writer)
    with os.fdopen(reader) as lines:
        return lines.read().split()


def call(verb: str, conf: dict[str, object], container_id: str, netns: str) -> DelegateCall:
    """Return one call of the delegate, as multus makes it."""
    import time

    return DelegateCall(
        conf=conf,
        command=verb,
        container_id=container_id,
        netns=netns,
        ifname="net1",
        args="",
        path=("/usr/lib/cni",),
        deadline=time.monotonic() + 60,
    )
