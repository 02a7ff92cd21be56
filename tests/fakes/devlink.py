"""A devlink in memory: which PFs have an embedded switch, and in which mode it is."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from hwmgr.errors import NetlinkError
from hwmgr.pci import device_path

if TYPE_CHECKING:
    from hwmgr.sysfs import Sysfs


class FakeDevlink:
    """See hwmgr.devlink.Devlink; as ice it changes the mode only while there are no VFs."""

    def __init__(self, sysfs: Sysfs, *addresses: str) -> None:
        self._sysfs = sysfs
        self.modes = dict.fromkeys(addresses, "legacy")

    def eswitch_mode(self, address: str, bus: str = "pci") -> str | None:
        return self.modes.get(address)

    def set_eswitch_mode(self, address: str, mode: str, seconds: float, bus: str = "pci") -> None:
        if address not in self.modes:
            raise NetlinkError("fake eswitch", errno.EOPNOTSUPP)
        if self._sysfs.read_int(device_path(address, "sriov_numvfs")):
            raise NetlinkError("fake eswitch", errno.EBUSY)
        self.modes[address] = mode
