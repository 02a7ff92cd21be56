"""A node of which only sysfs is there: a tree that was recorded, written or made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.node import Node
from hwmgr.store import StateDir
from hwmgr.sysfs import Sysfs
from tests.fakes.machine import BOOT
from tests.fakes.netlink import FakeNetlink
from tests.fakes.runner import FakeRunner
from tests.fakes.udev import FakeUdev

if TYPE_CHECKING:
    from pathlib import Path


def node_on(base: Path) -> Node:
    """Return the node whose sysfs is ``<base>/sys``; the rest below ``base`` may be absent."""
    return Node(
        sysfs=Sysfs(f"{base}/sys"),
        netlink=FakeNetlink(),
        udev=FakeUdev(),
        runner=FakeRunner(),
        state=StateDir(f"{base}/state"),
        boot_id=BOOT,
        proc=f"{base}/proc",
        dev=f"{base}/dev",
    )
