"""A sysfs whose every write has a deadline."""

from __future__ import annotations

from hwmgr.sysfs import Sysfs


class PatientSysfs(Sysfs):
    """A Sysfs whose every write has a deadline, for those who would else hang with a driver."""

    def __init__(self, real: Sysfs, seconds: float) -> None:
        super().__init__(real.root)
        self._real = real
        self._seconds = seconds

    def write(self, path: str, value: str) -> None:
        """See Sysfs.write_within."""
        self._real.write_within(path, value, self._seconds)
