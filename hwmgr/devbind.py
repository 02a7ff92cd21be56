"""Binding by an external dpdk-devbind.py, when the node's own configuration allows that program."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from hwmgr import driver
from hwmgr.errors import BindError, RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwmgr.run import Runner
    from hwmgr.sysfs import Sysfs

# The distribution's (package dpdk), under the names that Debian and Fedora give it.
DISTRIBUTION_TOOLS = ("/usr/bin/dpdk-devbind.py", "/usr/sbin/dpdk-devbind.py")
_LIMIT_SECONDS = 60.0


def refusal(tool: str, allowed: Sequence[str]) -> str | None:
    """Say why a program may not be run as root, None when it may.

    Whoever may create a Network object names the tool, so it must stand on the node's own list and
    must be changeable by root alone, it and every folder above it.
    """
    if tool not in allowed:
        return f"{tool} is not on this node's list (dpdk_tools in /etc/hwmgr/config.yaml)"
    try:
        real = os.path.realpath(tool, strict=True)
        path = real
        while True:
            status = os.stat(path)
            loose = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if status.st_uid != 0 or (loose and not status.st_mode & stat.S_ISVTX):
                return f"{path} can be changed by others than root"
            if path == "/":
                break
            path = os.path.dirname(path)
        if not stat.S_ISREG(os.stat(real).st_mode) or not os.access(real, os.X_OK):
            return f"{tool} is not a program"
    except OSError as error:
        return f"{tool}: {error.strerror}"
    return None


def bind(sysfs: Sysfs, runner: Runner, tool: str, address: str, name: str) -> None:
    """Run ``<tool> -b <driver> <address>``; success is what sysfs says afterwards.

    The tool exits 0 after most failures, so its exit status decides nothing. Raises BindError with
    what it printed.
    """
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        done = runner.run(
            [tool, "-b", name, address], env=environment, stdin=b"", timeout=_LIMIT_SECONDS
        )
    except RunError as error:
        raise BindError(address, name, str(error), error.errno) from error
    if driver.current_driver(sysfs, address) != name:
        printed = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-400:]
        message = f"{tool} exited {done.returncode} and {name} has it not: {printed}"
        raise BindError(address, name, message)
