"""Waits until a pod's netdevs have all that comes of itself: carrier, link-local address, DAD."""

from __future__ import annotations

import os
import select
import socket
import time
from typing import TYPE_CHECKING

from hwmgr.netns import entered
from tests.lab.host_state import ip

if TYPE_CHECKING:
    from tests.lab.cni import Pod

# include/uapi/linux/rtnetlink.h
_RTMGRP_LINK, _RTMGRP_IPV6_IFADDR = 0x1, 0x100


def await_carrier(one: Pod, seconds: float = 60) -> None:
    """Return when nothing of the pod's netdevs is still to come.

    The carrier sets operstate and qdisc (net/core/link_watch.c) and has the kernel make the
    link-local address, whose check for duplicates ends later (net/ipv6/addrconf.c).
    """
    deadline = time.monotonic() + seconds
    namespace = os.open(one.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with (
            entered(namespace),
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events,
        ):
            events.bind((0, _RTMGRP_LINK | _RTMGRP_IPV6_IFADDR))
            poll = select.poll()
            poll.register(events, select.POLLIN)
            while coming := _coming(one):
                remaining = max(0.0, deadline - time.monotonic())
                assert poll.poll(remaining * 1000), f"{coming} after {seconds} s"
                events.recv(65536)
    finally:
        os.close(namespace)


def _coming(one: Pod) -> list[str]:
    """Say what each netdev that is up has not got yet."""
    found = []
    for link in ip("address", "show", netns=one.netns):
        if "UP" not in link["flags"]:
            continue
        own = [a for a in link["addr_info"] if a["scope"] == "link"]
        if "LOWER_UP" not in link["flags"] or link["operstate"] != "UP":
            found.append(f"{link['ifname']}: no carrier")
        elif not own or any(a.get("tentative") for a in link["addr_info"]):
            found.append(f"{link['ifname']}: no checked link-local address")
    return found
