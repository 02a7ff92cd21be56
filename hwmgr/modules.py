"""Loading the kernel modules of the userspace drivers, which nothing loads by itself.

A VF's kernel driver is loaded by udevd when the VF appears. vfio-pci, igb_uio and uio_pci_generic
match no device, so nobody asks for them before a function is to be bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.errors import BindError, RunError
from hwmgr.model import USERSPACE_DRIVERS

if TYPE_CHECKING:
    from hwmgr.node import Node
    from hwmgr.run import Completed

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_SECONDS = 30.0


def is_loaded(node: Node, driver: str) -> bool:
    """Tell whether a driver is there to bind to."""
    return node.sysfs.exists(f"bus/pci/drivers/{driver}")


def is_loadable(node: Node, driver: str) -> bool:
    """Tell whether load() would find the module of a userspace driver; loads nothing."""
    if driver not in USERSPACE_DRIVERS:
        return False
    try:
        return _modprobe(node, "--dry-run", "--quiet", driver).returncode == 0
    except RunError:
        return False


def load(node: Node, driver: str, address: str) -> None:
    """Load the module of a userspace driver, for a function; success is what sysfs shows.

    A module that the administrator has blacklisted is not loaded. Raises BindError. What is loaded
    already, and a driver of another kind, is left as it is.
    """
    if driver not in USERSPACE_DRIVERS or is_loaded(node, driver) or not node.modprobes:
        return
    try:
        done = _modprobe(node, driver)
    except RunError as error:
        message = f"its module cannot be loaded: {error}"
        raise BindError(address, driver, message, error.errno) from error
    if is_loaded(node, driver):
        node.log(f"the module of {driver} has been loaded")
        return
    said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-200:]
    reason = said or "is it blacklisted in /etc/modprobe.d?"
    raise BindError(address, driver, f"modprobe {driver} has not loaded the driver; {reason}")


def _modprobe(node: Node, *words: str) -> Completed:
    failure = RunError("modprobe", 2)
    for program in node.modprobes:
        argv = [program, "--use-blacklist", *words]
        try:
            return node.runner.run(argv, env=_ENVIRONMENT, stdin=b"", timeout=_SECONDS)
        except RunError as error:
            failure = error
    raise failure
