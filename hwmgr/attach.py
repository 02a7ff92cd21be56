"""Attach: choose a function, record it, then configure, bind or move it, each step undoable."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr import (
    allocate,
    claims,
    companions,
    devbind,
    devicefiles,
    driver,
    modules,
    netdev,
    vfsettings,
)
from hwmgr.choose import capture, select
from hwmgr.errors import BindError, DeviceBusy, HwmgrError, NameTaken, NetlinkError, RequestError
from hwmgr.iommugroups import not_viable
from hwmgr.locate import among, here, mark
from hwmgr.model import (
    USERSPACE_DRIVERS,
    Attached,
    Kind,
    Owner,
    Record,
    Stage,
)
from hwmgr.netns import identity, identity_of, open_namespace
from hwmgr.restore import give_up

if TYPE_CHECKING:
    from hwmgr.links import Links
    from hwmgr.model import AttachRequest, Netdev
    from hwmgr.node import Node


def attach(node: Node, request: AttachRequest) -> Attached:
    """Give a function to a container; on any error everything is as it was.

    Raises NamespaceError, NoSuchDevice, DeviceBusy, NoFreeVF, NameTaken, BindError, NetlinkError,
    RequestError, StateError. What an undo could not give back is in the error's notes, and its
    record stays for detach and repair.
    """
    ns_fd = open_namespace(request.netns_path)
    with ExitStack() as stack:
        stack.callback(os.close, ns_fd)
        owner_ns = identity_of(request.netns_path, ns_fd)
        if owner_ns.same_namespace(identity("/proc/thread-self/ns/net")):
            raise RequestError(f"{request.netns_path} is the host's own network namespace")
        chosen = select(node, request, stack)
        record = companions.with_paths(
            Record(
                address=chosen.address,
                kind=request.kind,
                stage=Stage.INTENDED,
                boot_id=node.boot_id,
                owner=Owner(
                    container_id=request.container_id,
                    ifname=request.ifname,
                    netns=owner_ns,
                    since=node.clock(),
                    network=request.network,
                    pod_namespace=request.pod_namespace,
                    pod_name=request.pod_name,
                    pod_uid=request.pod_uid,
                ),
                pf_address=chosen.pf.address,
                pf_ifname=chosen.pf.ifname,
                index=chosen.index,
                before=capture(node, chosen),
                settings=request.settings,
                driver=request.dpdk.driver if request.dpdk else None,
            ),
            node.state.root,
            request,
        )
        _check(node, request, record)
        _refuse_twice(node, record)
        node.journal.write(record)
        node.checkpoint("attach.intended")
        try:
            return _carry_out(node, request, record, ns_fd)
        except BaseException as error:
            _undo(node, record, error)
            raise


def _check(node: Node, request: AttachRequest, record: Record) -> None:
    """Refuse what cannot work before anything is written or touched."""
    netdevs = record.before.netdevs
    if request.kind is Kind.DPDK:
        name = request.dpdk.driver if request.dpdk else None
        if name is None and record.before.driver not in USERSPACE_DRIVERS:
            message = f"it is on {record.before.driver or 'no driver'}, not on a userspace driver"
            raise BindError(record.address, name, message)
        if name == "vfio-pci":
            # The UIO drivers let a pod write to all memory: that they are loaded is root's own
            # decision, not that of whoever may create a Network object.
            modules.load(node, name, record.address)
        if name is not None:
            driver.check_bindable(node.sysfs, record.address, name)
        return
    if not netdevs:
        what = f"its driver {record.before.driver}" if record.before.driver else "it has no driver"
        message = f"it has no netdev here ({what}); is it in another namespace?"
        raise DeviceBusy(record.address, message)
    if len(netdevs) > allocate.MAX_SHARED_NETDEVS:
        raise RequestError(f"{record.address} has {len(netdevs)} netdevs; at most two are known")
    if len(netdevs) > 1 and request.kind is Kind.VF and not request.l2:
        raise RequestError(f"{record.address} has two netdevs; a shared VF needs l2enable: true")


def _refuse_twice(node: Node, record: Record) -> None:
    """Refuse a second device under one name: their companion files would be one file.

    That file is looked at first, since it is missing in all but the odd call.
    """
    if not any(os.path.exists(path) for path in record.saved_files):
        return
    owner = record.owner
    for other in node.journal.owned_by(owner.container_id, owner.ifname):
        finished = other.stage is Stage.ATTACHED and other.address != record.address
        if finished and allocate.owner_alive(node, other):
            raise NameTaken(owner.ifname, f"the container, for {other.address}")


def _carry_out(node: Node, request: AttachRequest, record: Record, ns_fd: int) -> Attached:
    claims.write(node.state, record.address, request.netns_path)
    node.checkpoint("attach.claimed")
    pf_netdevs = here(node, record.pf_address)
    _pf_up(node, request, record, pf_netdevs)
    if request.settings.mac is not None and request.kind is Kind.VF:
        _choose_mac(node, request, record, pf_netdevs)
    _configure(node, record, pf_netdevs)
    if request.kind is Kind.DPDK:
        attached = _bind(node, request, record)
    else:
        attached = _move(node, request, record, ns_fd)
    node.journal.write(replace(record, stage=Stage.ATTACHED))
    node.checkpoint("attach.recorded")
    companions.write(record, request)
    node.checkpoint("attach.saved")
    return attached


def _pf_up(
    node: Node, request: AttachRequest, record: Record, pf_netdevs: tuple[Netdev, ...]
) -> None:
    """Set the PF up: a VF has no carrier otherwise. The 2018 plugin did so too."""
    if request.kind is Kind.PF or record.index is None:
        return
    for pf_netdev in pf_netdevs:
        if not pf_netdev.up:
            with node.netlink.links() as links:
                links.set_up(pf_netdev.index, up=True)
            node.log(f"PF {pf_netdev.name} was down and has been set up")


def _choose_mac(
    node: Node, request: AttachRequest, record: Record, pf_netdevs: tuple[Netdev, ...]
) -> None:
    """Have the VF's driver take the MAC before the PF pins it (see restore._effective_mac)."""
    mac = request.settings.mac or ""
    with node.netlink.links() as links:
        for one in record.before.netdevs:
            try:
                netdev.set_mac(node, links, one.index, mac)
            except NetlinkError:
                if not pf_netdevs or record.index is None:
                    raise
                links.set_vf(pf_netdevs[0].index, record.index, vfsettings.unpinned())
                netdev.set_mac(node, links, one.index, mac)
    node.checkpoint("attach.mac")


def _configure(node: Node, record: Record, pf_netdevs: tuple[Netdev, ...]) -> None:
    wanted = list(vfsettings.steps(record.settings))
    if not wanted or record.index is None:
        return
    if not pf_netdevs:
        message = f"VF settings need its PF {record.pf_address}, which has no netdev here"
        raise RequestError(message)
    # A dual-port mlx4 VF has one netdev on each PF port, and each port its own settings.
    ports = pf_netdevs[: max(1, len(record.before.netdevs))]
    with node.netlink.links() as links:
        for port in ports:
            vfsettings.apply(node, links, port.index, record.index, record.settings)


def _bind(node: Node, request: AttachRequest, record: Record) -> Attached:
    name = record.driver
    if name is not None and name != driver.current_driver(node.sysfs, record.address):
        tool = request.dpdk.tool if request.dpdk else None
        refused = devbind.refusal(tool, node.dpdk_tools) if tool else None
        if refused:
            node.log(f"{refused}; {record.address} is bound natively")
        if tool and not refused:
            devbind.bind(node.sysfs, node.runner, tool, record.address, name)
        else:
            driver.bind(node.sysfs, record.address, name, node.checkpoint)
    node.checkpoint("attach.bound")
    if driver.current_driver(node.sysfs, record.address) == "vfio-pci":
        problem = not_viable(node.sysfs, record.address)
        if problem is not None:
            node.log(problem)
    settings = record.before.settings
    return Attached(
        address=record.address,
        kind=record.kind,
        pf_address=record.pf_address,
        index=record.index,
        ifnames=(),
        mac=record.settings.mac or (settings.mac if settings else None),
        mtu=None,
        driver=driver.current_driver(node.sysfs, record.address),
        device_files=devicefiles.wait_for(node, record.address),
    )


def _move(node: Node, request: AttachRequest, record: Record, ns_fd: int) -> Attached:
    names = []
    with node.netlink.links(ns_fd) as there:
        for position, one in enumerate(record.before.netdevs):
            name = request.ifname + ("d1" if position else "")
            alias = mark(record.address, one.name, request.container_id)
            netdev.hand_over(node, one, ns_fd, there, name, alias)
            names.append(name)
        ours = among(node, there, record.address)
        if sorted(n.name for n in ours) != sorted(names):
            what = f"{record.address} did not arrive in {request.netns_path}"
            raise NetlinkError(what, errno.ENODEV)
        for one in ours:
            _dress(node, request, one, there)
        ours = among(node, there, record.address)
    first = next((n for n in ours if n.name == request.ifname), None)
    if first is None:
        what = f"{record.address} is no more {request.ifname} in {request.netns_path}"
        raise NetlinkError(f"{what}; a process there has it otherwise", errno.ENODEV)
    return Attached(
        address=record.address,
        kind=record.kind,
        pf_address=record.pf_address,
        index=record.index,
        ifnames=tuple(names),
        mac=first.mac,
        mtu=first.mtu,
        driver=record.before.driver,
    )


def _dress(node: Node, request: AttachRequest, one: Netdev, links: Links) -> None:
    """Give a netdev in the pod what was asked: MTU, up, and the MAC if the move cost it."""
    mac = request.settings.mac
    if request.mtu is not None and request.mtu != one.mtu:
        links.set_mtu(one.index, request.mtu)
        node.checkpoint("attach.mtu")
    if request.up:
        links.set_up(one.index, up=True)
        node.checkpoint("attach.up")
    if mac is None:
        return
    now = links.get(one.index)
    if now is not None and now.mac != mac:
        netdev.set_mac(node, links, one.index, mac)


def _undo(node: Node, record: Record, error: BaseException) -> None:
    try:
        give_up(node, record)
    except HwmgrError as problem:
        error.add_note(str(problem))
