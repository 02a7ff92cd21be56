"""What an administrator wants of the node's PFs and VFs: values, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from hwmgr.model import USERSPACE_DRIVERS, VFSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwmgr.model import PciAddress

DEFAULT_DRIVER = "default"
"""Whichever kernel driver takes the VF by itself."""
NO_DRIVER = "none"


class MacPolicy(StrEnum):
    """Where a VF's admin MAC comes from, when no list says."""

    KEEP = "keep"
    STABLE = "stable"


@dataclass(frozen=True, slots=True)
class Selector:
    """Which PFs an entry means; what is not None must all be so."""

    name: str | None = None
    altname: str | None = None
    address: PciAddress | None = None
    vendor: str | None = None
    device: str | None = None

    def __str__(self) -> str:
        names = ("name", "altname", "address", "vendor", "device")
        return ", ".join(f"{n} {getattr(self, n)}" for n in names if getattr(self, n) is not None)


@dataclass(frozen=True, slots=True)
class VfGroup:
    """What the VFs of some indices are to be; ``where`` is its path in the file.

    ``mac`` is a policy, or one MAC for each of ``indices``. ``mtu`` in bytes. None: left alone.
    """

    where: str
    indices: tuple[int, ...]
    driver: str | None = None
    mtu: int | None = None
    mac: MacPolicy | tuple[str, ...] | None = None
    settings: VFSettings = field(default_factory=VFSettings)

    @property
    def in_userspace(self) -> bool:
        """Tell whether its VFs are to be on a driver that makes no netdev."""
        return self.driver in USERSPACE_DRIVERS


@dataclass(frozen=True, slots=True)
class DesiredPf:
    """One entry of the file; what is None is left alone.

    With ``externally_managed`` somebody else creates the VFs: what is said of the PF is verified
    and not set.
    """

    where: str
    selector: Selector
    optional: bool = False
    externally_managed: bool = False
    num_vfs: int | None = None
    mtu: int | None = None
    up: bool | None = None
    eswitch_mode: str | None = None
    autoprobe: bool | None = None
    groups: tuple[VfGroup, ...] = ()

    @property
    def shapes_vfs(self) -> bool:
        """Tell whether VFs should not meet a driver before they have been set up."""
        return any(g.driver or g.mac or g.settings != VFSettings() for g in self.groups)

    def group_of(self, index: int) -> VfGroup | None:
        """Return the group that a VF is in."""
        return next((g for g in self.groups if index in g.indices), None)


@dataclass(frozen=True, slots=True)
class Desired:
    """A whole file."""

    path: str
    pfs: tuple[DesiredPf, ...]


def parse_indices(text: str) -> tuple[int, ...] | None:
    """Return the VF indices of a range like ``0-3,5``, in order; None for what is no range."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _number(first) or (dash and not _number(last)):
            return None
        low, high = int(first), int(last if dash else first)
        if low > high:
            return None
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def _number(text: str) -> bool:
    # A PF has at most 65535 VFs (TotalVFs is 16 bits wide, SR-IOV 1.1 §3.3.5).
    return text.isascii() and text.isdigit() and len(text) < 6


def numvfs_writes(now: int, then: int) -> list[int]:
    """Return what to write to ``sriov_numvfs``, in order.

    The kernel changes between zero and a number only: from one number to another is EBUSY
    (drivers/pci/pci-sysfs.c, sriov_numvfs_store()).
    """
    if now == then:
        return []
    return [0, then] if now and then else [then]


def stable_mac(pf_mac: str, index: int) -> str:
    """Return a MAC that a VF has on every boot: from its PF's, which no other node has.

    Locally administered and unicast (IEEE 802, bits 1 and 0 of the first byte).
    """
    import hashlib

    digest = hashlib.sha256(f"hwmgr {pf_mac.lower()} {index}".encode()).digest()
    first = (digest[0] & 0xFC) | 0x02
    return ":".join(f"{byte:02x}" for byte in (first, *digest[1:6]))


def duplicates(groups: Iterable[VfGroup]) -> list[int]:
    """Return the indices that more than one group has."""
    seen: set[int] = set()
    twice: set[int] = set()
    for group in groups:
        twice |= seen & set(group.indices)
        seen |= set(group.indices)
    return sorted(twice)
