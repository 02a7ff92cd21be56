"""Steps on one VF that nobody holds: what its PF holds of it, its driver, its netdev."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from hwmgr import driver, netdev, vfsettings
from hwmgr.desired.state import DEFAULT_DRIVER, NO_DRIVER
from hwmgr.devicefiles import wait_for
from hwmgr.errors import ApplyIncomplete, BindError, NetlinkError
from hwmgr.locate import await_netdevs, here
from hwmgr.model import USERSPACE_DRIVERS

if TYPE_CHECKING:
    from hwmgr.model import VF, VFSettings
    from hwmgr.node import Node

_NETDEV_SECONDS = 10.0
_CARRIER_SECONDS = 10.0


def configure(node: Node, vf: VF, change: VFSettings) -> None:
    """Have the PF's driver take settings of a VF. Raises NetlinkError, ApplyIncomplete."""
    ports = here(node, vf.pf_address)
    if not ports:
        raise ApplyIncomplete([f"PF {vf.pf_address} has no netdev here"])
    if change.mac is not None:
        _announce(node, vf, change.mac)
    # A dual-port mlx4 VF has one netdev on each PF port, and each port its own settings.
    with node.netlink.links() as links:
        for port in ports[: max(1, len(vf.netdevs))]:
            if change.max_rate or change.min_rate:
                # igb knows its link's speed, of which a rate is a part, only while it has one.
                links.wait_running(port.index, _CARRIER_SECONDS)
            vfsettings.apply(node, links, port.index, vf.index, change)


def bind(node: Node, vf: VF, wanted: str) -> None:
    """Give a VF to a driver, to whichever takes it by itself, or to none; read back.

    Waits for the device file or the netdev. Raises BindError, SysfsError, ApplyIncomplete.
    """
    sysfs, address = node.sysfs, vf.address
    if wanted == NO_DRIVER:
        driver.unbind(sysfs, address)
        return
    if wanted == DEFAULT_DRIVER:
        _probe(node, vf)
    else:
        driver.check_bindable(sysfs, address, wanted)
        driver.bind(sysfs, address, wanted, node.checkpoint)
    if driver.current_driver(sysfs, address) in USERSPACE_DRIVERS:
        wait_for(node, address)
    else:
        await_netdev(node, vf)


def offer(node: Node, vf: VF) -> None:
    """Offer a VF to the drivers, as the kernel would have when it was made; none may want it."""
    with suppress(BindError):
        bind(node, vf, DEFAULT_DRIVER)


def reset_driver(node: Node, vf: VF) -> None:
    """Have a VF's driver start anew, so that it takes the admin MAC (igbvf asks only then)."""
    now = driver.current_driver(node.sysfs, vf.address)
    override = driver.current_override(node.sysfs, vf.address)
    driver.unbind(node.sysfs, vf.address)
    node.checkpoint("apply.reset.unbound")
    driver.restore(node.sysfs, vf.address, now, override, node.checkpoint)
    await_netdev(node, vf)


def set_mtu(node: Node, vf: VF, mtu: int) -> None:
    """Set the MTU of a VF's netdevs, in bytes. Raises NetlinkError, ApplyIncomplete."""
    await_netdev(node, vf)
    for one in here(node, vf.address):
        with node.netlink.links() as links:
            links.set_mtu(one.index, mtu)


def await_netdev(node: Node, vf: VF) -> None:
    """Wait until a VF on a kernel driver has its netdev and udevd has named it.

    iavf sometimes never makes one; binding it once more helps. Raises ApplyIncomplete.
    """
    name = driver.current_driver(node.sysfs, vf.address)
    if name is None or not here(node, vf.pf_address):
        return
    if await_netdevs(node, vf.address, _NETDEV_SECONDS):
        return
    driver.unbind(node.sysfs, vf.address)
    driver.bind(node.sysfs, vf.address, name)
    if not await_netdevs(node, vf.address, _NETDEV_SECONDS):
        seconds = 2 * _NETDEV_SECONDS
        raise ApplyIncomplete([f"{vf.address}: {name} made no netdev within {seconds:.0f} s"])


def _announce(node: Node, vf: VF, mac: str) -> None:
    """Have the VF's driver take the MAC before the PF pins it: no driver may change it after."""
    with node.netlink.links() as links:
        for one in here(node, vf.address):
            # Where it may not (pinned before) its driver is reset afterwards.
            with suppress(NetlinkError):
                netdev.set_mac(node, links, one.index, mac)


def _probe(node: Node, vf: VF) -> None:
    sysfs, address = node.sysfs, vf.address
    if driver.current_driver(sysfs, address) in USERSPACE_DRIVERS:
        driver.unbind(sysfs, address)
        node.checkpoint("apply.probe.unbound")
    if driver.current_override(sysfs, address) is not None:
        driver.write_override(sysfs, address, None)
    sysfs.write("bus/pci/drivers_probe", address)
    node.checkpoint("apply.probed")
    if driver.current_driver(sysfs, address) is None:
        message = "no loaded driver takes it by itself; load its VF driver's module"
        raise BindError(address, None, message)
