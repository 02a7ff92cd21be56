"""The only module that listens to udev (by pyudev): wait for an event, never for a while."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hwmgr.kernelevents import KernelEvents
from hwmgr.uevents import EventsLost, Uevent

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmgr.uevents import Monitor

T = TypeVar("T")

# An event can be lost (ENOBUFS when 128 VFs appear at once) and some changes send none (an
# asynchronous MAC change of iavf), so the condition is looked at again at least this often.
_LOOK_AGAIN_SECONDS = 0.25
_UDEVD_CONTROL = "/run/udev/control"
_SUBSYSTEMS = ("net", "pci", "uio", "vfio")
# A VF that comes sends about six events of half a kilobyte, each of which the kernel counts with
# its overhead (some 2 KiB): enough for a thousand VFs at once. The default is 208 KiB.
_BUFFER_BYTES = 16 << 20


class Udev(Protocol):
    """Tells when devices change."""

    def wait(self, condition: Callable[[], T | None], timeout: float) -> T | None:
        """Return the condition's first answer that is not None, or None after ``timeout`` s.

        The condition is looked at once before anything is waited for, so what already is costs
        nothing.
        """

    def settled(self, ifindex: int) -> bool:
        """Tell whether udevd has done with a netdev: it renames a new one and adds its altnames."""

    def monitor(self) -> Monitor:
        """Listen to the kernel's own events from now on, in the calling thread's namespace."""


class KernelUdev:
    """Events of the running udevd, or of the kernel where no udevd runs or none can be heard.

    ``control`` is udevd's socket, whose presence tells that it runs; ``buffer_bytes`` the size of
    the receive buffer.
    """

    def __init__(self, control: str = _UDEVD_CONTROL, buffer_bytes: int = _BUFFER_BYTES) -> None:
        self._control = control
        self._buffer_bytes = buffer_bytes

    def wait(self, condition: Callable[[], T | None], timeout: float) -> T | None:
        """See Udev.wait."""
        answer = condition()
        if answer is not None or timeout <= 0:
            return answer
        monitor = self._udevds() if self._udevd_heard() else KernelEvents(self._buffer_bytes)
        deadline = time.monotonic() + timeout
        while (answer := condition()) is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            # Whatever comes, be it that events were lost, the condition is what counts.
            monitor.next(min(remaining, _LOOK_AGAIN_SECONDS))
        return answer

    def settled(self, ifindex: int) -> bool:
        """See Udev.settled: udevd makes a netdev's database entry when its rules have run.

        By name, since libudev does not enumerate what has no entry yet.
        """
        if not self._udevd_heard():
            return True
        try:
            import pyudev
        except ImportError:
            # Without libudev nobody can be asked.
            return True
        try:
            name = socket.if_indextoname(ifindex)
            device = pyudev.Devices.from_name(pyudev.Context(), "net", name)
        except (OSError, pyudev.DeviceNotFoundError):
            # Gone, or renamed just now: then there is another name to look at.
            return not _is_there(ifindex)
        except UnicodeError:
            # pyudev asks for no name that is no UTF-8; nobody else knows what udevd made of it.
            return True
        # It is set before a renaming, and taken away when that has been processed (systemd 251+).
        renaming = device.properties.get("ID_RENAMING") == "1"
        return bool(device.is_initialized and not renaming) or not self._udevd_listens()

    def monitor(self) -> Monitor:
        """See Udev.monitor.

        The kernel's events come first, in order, and whether udevd runs, hangs or is in another
        namespace.
        """
        return KernelEvents(self._buffer_bytes)

    def _udevds(self) -> Monitor:
        """Listen to udevd, or to the kernel where there is no libudev."""
        try:
            return _LibudevMonitor(self._buffer_bytes)
        except ImportError:
            return KernelEvents(self._buffer_bytes)

    def _udevd_listens(self) -> bool:
        """Tell a udevd that is slow from one that died and left its socket behind."""
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        with socket.socket(socket.AF_UNIX, kind) as door:
            # EAGAIN: there are callers enough whom it has not answered yet.
            return door.connect_ex(self._control) != errno.ECONNREFUSED

    def _udevd_heard(self) -> bool:
        """Tell whether udevd's events reach us: it sends them in its own network namespace."""
        if not os.path.exists(self._control):
            return False
        try:
            here, there = os.stat("/proc/thread-self/ns/net"), os.stat("/proc/1/ns/net")
        except OSError:
            return True
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


class _LibudevMonitor:
    """The events of udevd, which it sends when its rules have run."""

    def __init__(self, buffer_bytes: int) -> None:
        import pyudev

        monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
        for subsystem in _SUBSYSTEMS:
            monitor.filter_by(subsystem)
        # Beyond net.core.rmem_max it takes CAP_NET_ADMIN; without it what there is has to do.
        with contextlib.suppress(OSError):
            monitor.set_receive_buffer_size(buffer_bytes)
        monitor.start()
        self._monitor = monitor

    def next(self, timeout: float) -> Uevent | EventsLost | None:
        """See Monitor.next."""
        try:
            device = self._monitor.poll(timeout)
            return None if device is None else _uevent(device)
        except UnicodeError:
            # Of a netdev whose name is no UTF-8, which pyudev does not read.
            return EventsLost()
        except OSError:
            # ENOBUFS: events were dropped. Whatever else it may be, an event could not be read.
            self._clear_error()
            return EventsLost()

    def _clear_error(self) -> None:
        """Take the pending error from the socket: pyudev's poll() raises for POLLERR, unread."""
        with socket.socket(fileno=os.dup(self._monitor.fileno())) as copy:
            copy.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _is_there(ifindex: int) -> bool:
    return any(index == ifindex for index, _name in socket.if_nameindex())


def _uevent(device: Any) -> Uevent:
    properties = device.properties
    return Uevent(
        action=device.action or "",
        subsystem=device.subsystem or "",
        path=device.device_path,
        number=device.sequence_number or None,
        driver=properties.get("DRIVER"),
        ifname=properties.get("INTERFACE"),
        old_path=properties.get("DEVPATH_OLD"),
    )
