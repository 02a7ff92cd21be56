"""Binding by an external dpdk-devbind.py, when the node's own configuration allows that program."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from hwmgr import driver
from hwmgr.errors import BindError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hwmgr.run import Runner
    from hwmgr.sysfs import Sysfs

# The distribution's (package dpdk), under the names that Debian and Fedora give it.
DISTRIBUTION_TOOLS = ("/usr/bin/dpdk-devbind.py", "/usr/sbin/dpdk-devbind.py")
_LIMIT_SECONDS = 60.0
_MOST_LINKS = 40  # path_resolution(7)


def refusal(tool: str, allowed: Sequence[str]) -> str | None:
    """Say why a program may not be run as root, None when it may.

    Whoever may create a Network object names the tool, so it must stand on the node's own list and
    must be changeable by root alone, it and every folder above it.
    """
    if tool not in allowed:
        return f"{tool} is not on this node's list (dpdk_tools in /etc/hwmgr/config.yaml)"
    try:
        path = "/"
        for path in _met(tool):
            status = os.stat(path)
            loose = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            # In a sticky folder nobody can replace what is root's; on a file the bit means nothing.
            sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
            if status.st_uid != 0 or (loose and not sticky):
                return f"{path} can be changed by others than root"
        if not stat.S_ISREG(os.stat(path).st_mode) or not os.access(path, os.X_OK):
            return f"{tool} is not a program"
    except OSError as error:
        return f"{tool}: {error.strerror}"
    return None


def _met(path: str) -> Iterator[str]:
    """Yield each folder that the kernel meets on its way along a path, and the file at its end.

    A link counts by the folder that it lies in, and by where it leads. Raises OSError.
    """
    here, ahead, links = "/", path.split("/"), 0
    yield here
    while ahead:
        name = ahead.pop(0)
        if name in ("", "."):
            continue
        following = os.path.dirname(here) if name == ".." else os.path.join(here, name)
        if os.path.islink(following):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(following)
            ahead[:0] = target.split("/")
            here = "/" if target.startswith("/") else here
            continue
        here = following
        yield here


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
