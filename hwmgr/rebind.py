"""The administrator's own binding of a VF: refused while somebody uses it, undone when it fails."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from hwmgr import driver, modules
from hwmgr.errors import BindError, DeviceBusy
from hwmgr.inventory import look_at
from hwmgr.model import VFState
from hwmgr.pci import find_vf

if TYPE_CHECKING:
    from hwmgr.inventory import VFInfo
    from hwmgr.model import VF
    from hwmgr.node import Node


def bind(node: Node, address: str, name: str, *, force: bool = False) -> VFInfo:
    """Give a VF to a driver until it is rebound or removed; return it as it is then.

    A driver that does not take it leaves it with the one that it had. Raises NoSuchDevice,
    DeviceBusy (``force`` overrides), BindError, LockTimeout.
    """
    with ExitStack() as locks:
        vf = _take(node, address, locks, force=force)
        modules.load(node, name, vf.address)
        driver.check_bindable(node.sysfs, vf.address, name)
        try:
            driver.bind(node.sysfs, vf.address, name)
        except BindError as error:
            _go_back(node, vf, error)
            raise
        return look_at(node, find_vf(node.sysfs, vf.address))


def unbind(node: Node, address: str, *, force: bool = False) -> VFInfo:
    """Take a VF from its driver; return it as it is then. Raises as bind() does."""
    with ExitStack() as locks:
        vf = _take(node, address, locks, force=force)
        driver.unbind(node.sysfs, vf.address)
        return look_at(node, find_vf(node.sysfs, vf.address))


def _take(node: Node, address: str, locks: ExitStack, *, force: bool) -> VF:
    vf = find_vf(node.sysfs, address)
    locks.enter_context(node.locks.pf(vf.pf_address))
    locks.enter_context(node.locks.function(vf.address))
    info = look_at(node, find_vf(node.sysfs, address))
    held = info.record is not None or info.state is VFState.FOREIGN
    if (held or node.journal.has(info.vf.address)) and not force:
        raise DeviceBusy(vf.address, f"{info.reason}; --force does it all the same", info.reason)
    return info.vf


def _go_back(node: Node, vf: VF, error: BindError) -> None:
    try:
        driver.restore(node.sysfs, vf.address, vf.driver, vf.driver_override)
    except BindError as problem:
        error.add_note(f"and {problem}")
