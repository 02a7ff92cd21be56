"""Events of devices as values: what a uevent says, and of which PCI function. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from hwmgr.model import PciAddress

# One part of a DEVPATH; domains of more than four digits exist (VMD, Hyper-V).
_FUNCTION = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")


@dataclass(frozen=True, slots=True)
class Uevent:
    """One uevent of the kernel, or of udevd after its rules.

    ``path`` is the DEVPATH; ``number`` the kernel's SEQNUM, None where there is none. ``driver`` is
    set by events of a function that has one, ``ifname`` and ``old_path`` (of a ``move``) by those
    of netdevs.
    """

    action: str
    subsystem: str
    path: str
    number: int | None = None
    driver: str | None = None
    ifname: str | None = None
    old_path: str | None = None

    @property
    def address(self) -> PciAddress | None:
        """The PCI function that the device is, or belongs to; None for any other device."""
        return address_in(self.path)

    @property
    def old_ifname(self) -> str | None:
        """The name that a netdev had before a ``move``."""
        return None if self.old_path is None else self.old_path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class EventsLost:
    """The kernel dropped events, since nobody read them in time (ENOBUFS): look at everything."""


class Monitor(Protocol):
    """Events from the moment that it was opened."""

    def next(self, timeout: float) -> Uevent | EventsLost | None:
        """Return the next event, None when there was none for ``timeout`` s (0: does not wait)."""


def address_in(path: str) -> PciAddress | None:
    """Return the PCI function that a DEVPATH leads to, the last one when it passes several."""
    for part in reversed(path.split("/")):
        if _FUNCTION.fullmatch(part):
            return PciAddress(part)
    return None
