"""IOMMU groups: who is in one, and who keeps it from being given away whole. Read-only.

vfio gives a group to a program only while each member has no driver, or one that leaves its DMA
alone (driver_managed_dma, drivers/iommu/iommu.c): vfio-pci and its variants, pci-stub, and the port
driver of bridges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.model import is_vfio
from hwmgr.pci import device_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwmgr.sysfs import Sysfs

_BRIDGE_CLASS = "0x0604"


@dataclass(frozen=True, slots=True)
class Member:
    """A function in an IOMMU group."""

    address: str
    driver: str | None
    bridge: bool

    @property
    def in_the_way(self) -> bool:
        """Tell whether the group is not viable because of it."""
        harmless = self.driver in (None, "pci-stub") or is_vfio(self.driver)
        return not harmless and not self.bridge


def members(sysfs: Sysfs, group: str) -> tuple[Member, ...]:
    """Return the members of a group, by address."""
    found = sorted(sysfs.names(f"kernel/iommu_groups/{group}/devices"))
    return tuple(
        Member(
            address=address,
            driver=sysfs.link_name(device_path(address, "driver")),
            bridge=(sysfs.read(device_path(address, "class")) or "").startswith(_BRIDGE_CLASS),
        )
        for address in found
    )


def named(blocking: Iterable[Member]) -> str:
    """Name members and their drivers, for people."""
    return ", ".join(f"{m.address} on {m.driver}" for m in blocking)


def not_viable(sysfs: Sysfs, address: str) -> str | None:
    """Say why a function's group cannot be given to a program, None when it can or has no group."""
    group = sysfs.link_name(device_path(address, "iommu_group"))
    blocking = [m for m in members(sysfs, group) if m.in_the_way] if group else []
    if not blocking:
        return None
    return (
        f"{address} is on vfio-pci, and no program can use it yet: IOMMU group {group} has"
        f" {named(blocking)}; bind all of the group to vfio-pci, or use a slot with ACS"
    )
