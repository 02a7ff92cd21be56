"""A runner that starts nothing: programs are functions, and what was asked of them is kept."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.errors import RunError, SysfsError
from hwmgr.pci import device_path, parse_address
from hwmgr.run import Completed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hwmgr.sysfs import Sysfs


@dataclass(frozen=True, slots=True)
class Call:
    """One program run."""

    argv: tuple[str, ...]
    env: dict[str, str]
    stdin: bytes
    timeout: float


class FakeRunner:
    """See hwmgr.run.Runner. A path that is no key of ``programs`` does not exist."""

    def __init__(self, programs: Mapping[str, Callable[[Call], Completed]] | None = None) -> None:
        self.programs = dict(programs or {})
        self.calls: list[Call] = []

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str], stdin: bytes, timeout: float
    ) -> Completed:
        call = Call(tuple(argv), dict(env), stdin, timeout)
        self.calls.append(call)
        program = self.programs.get(argv[0])
        if program is None:
            raise RunError(argv[0], errno.ENOENT)
        return program(call)


class Devbind:
    """dpdk-devbind.py on a simulated machine: ``-b DRIVER DEVICE``, exit 0 after most failures."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs

    def __call__(self, call: Call) -> Completed:
        flag, driver, device = call.argv[1:]
        if flag != "-b":
            return Completed(1, b"", b"Error: No action specified")
        address = parse_address(device) or self._sysfs.link_name(f"class/net/{device}/device")
        if address is None or not self._sysfs.exists(device_path(address)):
            return Completed(1, b"", f"Error: unknown device: {device}".encode())
        if not self._sysfs.exists(f"bus/pci/drivers/{driver}"):
            return Completed(1, b"", f"Error: Driver '{driver}' is not loaded.".encode())
        try:
            self._bind(address, driver)
        except SysfsError as error:
            return Completed(0, b"", f"Error: bind failed for {address} - {error}".encode())
        return Completed(0, b"", b"")

    def _bind(self, address: str, driver: str) -> None:
        current = self._sysfs.link_name(device_path(address, "driver"))
        if current == driver:
            return
        if current is not None:
            self._sysfs.write(f"bus/pci/drivers/{current}/unbind", address)
        if driver in ("vfio-pci", "igb_uio", "uio_pci_generic"):
            self._sysfs.write(device_path(address, "driver_override"), driver)
        self._sysfs.write(f"bus/pci/drivers/{driver}/bind", address)
        self._sysfs.write(device_path(address, "driver_override"), "\0")
