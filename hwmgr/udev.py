"""The only module that listens to udev (by pyudev): wait for an event, never for a while."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# An event can be lost (ENOBUFS when 128 VFs appear at once) and some changes send none (an
# asynchronous MAC change of iavf), so the condition is looked at again at least this often.
_LOOK_AGAIN_SECONDS = 0.25
_UDEVD_CONTROL = "/run/udev/control"


class Udev(Protocol):
    """Tells when devices change."""

    def wait(self, condition: Callable[[], T | None], timeout: float) -> T | None:
        """Return the condition's first answer that is not None, or None after ``timeout`` s.

        The condition is looked at once before anything is waited for, so what already is costs
        nothing.
        """

    def settled(self, ifindex: int) -> bool:
        """Tell whether udevd has done with a netdev: it renames a new one and adds its altnames."""


class KernelUdev:
    """Events of the running udevd, or of the kernel where no udevd runs."""

    def wait(self, condition: Callable[[], T | None], timeout: float) -> T | None:
        """See Udev.wait."""
        answer = condition()
        if answer is not None or timeout <= 0:
            return answer
        import pyudev

        source = "udev" if os.path.exists(_UDEVD_CONTROL) else "kernel"
        monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source=source)
        for subsystem in ("net", "pci", "uio", "vfio"):
            monitor.filter_by(subsystem)
        monitor.start()
        deadline = time.monotonic() + timeout
        while (answer := condition()) is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            try:
                monitor.poll(min(remaining, _LOOK_AGAIN_SECONDS))
            except OSError:
                # ENOBUFS: events were dropped; the condition is looked at again all the same.
                continue
        return answer

    def settled(self, ifindex: int) -> bool:
        """See Udev.settled: udevd makes a netdev's database entry when its rules have run."""
        if not os.path.exists(_UDEVD_CONTROL):
            return True
        import pyudev

        try:
            device = pyudev.Devices.from_interface_index(pyudev.Context(), ifindex)
        except pyudev.DeviceNotFoundError:
            return True
        return bool(device.is_initialized)
