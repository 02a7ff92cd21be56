"""The kernel's uevents from a netlink socket: no libudev, no udevd, one system call an event."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time

from hwmgr.uevents import EventsLost, Uevent

# include/uapi/linux/netlink.h; group 1 is the kernel's (lib/kobject_uevent.c), 2 that of udevd.
_NETLINK_KOBJECT_UEVENT = 15
_KERNEL_GROUP = 1
_SO_RCVBUFFORCE = 33
_LONGEST = 1 << 16
_SUBSYSTEMS = frozenset({"net", "pci", "uio", "vfio"})


class KernelEvents:
    """A Monitor of the calling thread's network namespace; ``buffer_bytes`` for what is unread."""

    def __init__(self, buffer_bytes: int) -> None:
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_KOBJECT_UEVENT)
        # Beyond net.core.rmem_max it takes CAP_NET_ADMIN; without it what there is has to do.
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer_bytes)
        self._socket.bind((0, _KERNEL_GROUP))
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def __del__(self) -> None:
        # A monitor is given up, not closed: whoever waited returns.
        self._socket.close()

    def next(self, timeout: float) -> Uevent | EventsLost | None:
        """See Monitor.next."""
        deadline = time.monotonic() + timeout
        while self._poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            try:
                message, (sender, _groups) = self._socket.recvfrom(_LONGEST)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    return EventsLost()
                raise
            # Whoever is root may send to the group; the kernel's own port is 0.
            event = parse(message) if sender == 0 else None
            if event is not None and event.subsystem in _SUBSYSTEMS:
                return event
        return None


def parse(message: bytes) -> Uevent | None:
    """Read ``ACTION@DEVPATH`` and the NAME=VALUE texts after it; None for anything else."""
    head, *rest = os.fsdecode(message).split("\0")
    action, at, path = head.partition("@")
    if not at:
        return None
    values = dict(text.split("=", 1) for text in rest if "=" in text)
    number = values.get("SEQNUM", "")
    return Uevent(
        action=action,
        subsystem=values.get("SUBSYSTEM", ""),
        path=path,
        number=int(number) if number.isdecimal() else None,
        driver=values.get("DRIVER"),
        ifname=values.get("INTERFACE"),
        old_path=values.get("DEVPATH_OLD"),
    )
