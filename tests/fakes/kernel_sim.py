"""A Sysfs whose writes are answered as by a kernel: SR-IOV, driver binding, errno included.

Everything it knows is in files below one folder (``sys``, ``dev``, ``sim``), so that several
processes can share a machine. Rules: drivers/pci/pci-sysfs.c and iov.c, drivers/base/bus.c and
dd.c, drivers/vfio/pci.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Protocol

from hwmgr.errors import SysfsError, WriteHangs
from hwmgr.pci import device_path, parse_override, virtfn_indices
from hwmgr.sysfs import Sysfs
from tests.fakes.tree import Nic, Tree
from tests.fakes.vf_side import VfSide, exclusive

if TYPE_CHECKING:
    from collections.abc import Iterable

USERSPACE = ("vfio-pci", "igb_uio", "uio_pci_generic")
# Which functions a driver takes by itself (its MODULE_DEVICE_TABLE), as vendor:device.
NATIVE_IDS = {
    "igb": ("8086:10c9",),
    "igbvf": ("8086:10ca",),
    "i40e": ("8086:1572",),
    "iavf": ("8086:154c", "8086:1889"),
    "ice": ("8086:1592",),
    "ixgbe": ("8086:10fb",),
    "ixgbevf": ("8086:10ed",),
    "mlx4_core": ("15b3:1003", "15b3:1004"),
    "mlx5_core": (*("15b3:1013", "15b3:1014", "15b3:1017", "15b3:1018", "15b3:101d", "15b3:101e"),),
    "virtio-pci": ("1af4:1041",),
}
_DEVICE = re.compile(r"^bus/pci/devices/(?P<address>[^/]+)/(?P<file>.+)$")
_DRIVER = re.compile(r"^bus/pci/drivers/(?P<driver>[^/]+)/(?P<file>bind|unbind|new_id|remove_id)$")


class Netdevs(Protocol):
    """The network half of the kernel: what happens when a driver takes or leaves a function."""

    def born(self, address: str) -> None:
        """Create the netdevs of a function: its network driver has taken it."""

    def gone(self, address: str) -> None:
        """Destroy the netdevs of a function, in whatever namespace they are."""


class NoNetdevs:
    """A kernel without a network half."""

    def born(self, address: str) -> None:
        return

    def gone(self, address: str) -> None:
        return


class KernelSim(Sysfs):
    """A machine below ``base``; ``netdevs`` hears when network drivers come and go."""

    def __init__(self, base: str, netdevs: Netdevs | None = None) -> None:
        super().__init__(f"{base}/sys")
        self.base = base
        self.dev = f"{base}/dev"
        self.tree = Tree(self.root)
        self.vf_side = VfSide(f"{base}/sim/vfs")
        self.netdevs: Netdevs = netdevs or NoNetdevs()
        for folder in ("sys", "dev", "sim/vfs"):
            os.makedirs(f"{base}/{folder}", exist_ok=True)

    def add_nic(self, nic: Nic) -> None:
        """Plug in a card; its driver and those of userspace are loaded, its VFs created."""
        for driver in (nic.driver, nic.vf_driver or nic.driver, *USERSPACE):
            self.tree.add_driver(driver)
        self.tree.put("bus/pci/drivers_probe", "")
        group = self.tree.next_group() if nic.iommu else None
        self.tree.add_function(nic.address, nic.vendor, nic.device, group=group)
        for name, value in (
            ("sriov_totalvfs", nic.total),
            ("sriov_numvfs", 0),
            ("sriov_offset", nic.offset),
            ("sriov_stride", nic.stride),
            ("sriov_vf_device", nic.vf_device),
            ("sriov_drivers_autoprobe", 1),
            ("numa_node", nic.numa_node),
        ):
            self.tree.put(device_path(nic.address, name), value)
        self._set_fact(
            nic.address, {"ifname": nic.ifname, "ports": nic.ports, "switch": nic.switch_id}
        )
        self._probe(nic.address)
        if nic.vfs:
            self.write(device_path(nic.address, "sriov_numvfs"), str(nic.vfs))

    def fail(self, path: str, code: int, times: int = 1, *, after: bool = False) -> None:
        """Have the next writes to a path (a regular expression) fail, ``after`` their effect."""
        with exclusive(f"{self.base}/sim/faults.lock"):
            faults = [*self._faults(), [path, code, times, after]]
            self._save_faults(faults)

    def fact(self, address: str, key: str) -> object:
        """Return what add_nic() was told of a PF (``ifname``, ``ports``, ``switch``)."""
        try:
            with open(f"{self.base}/sim/{address}.facts") as file:
                value: dict[str, object] = json.load(file)
        except FileNotFoundError:
            return None
        return value.get(key)

    def write(self, path: str, value: str) -> None:
        """See Sysfs.write; one write at a time, as the device lock has it."""
        with exclusive(f"{self.base}/sim/kernel.lock"):
            if not self.exists(path):
                raise self._error(path, value, errno.ENOENT)
            code, after = self._fault(path)
            if code and not after:
                raise self._error(path, value, code)
            failed = self._answer(path, value)
            if failed or code:
                raise self._error(path, value, failed or code)

    def write_within(self, path: str, value: str, seconds: float) -> None:
        """See Sysfs.write_within: a write that is to fail with ETIMEDOUT is one that hangs."""
        try:
            self.write(path, value)
        except SysfsError as error:
            if error.errno == errno.ETIMEDOUT:
                raise WriteHangs(f"{self.root}/{path}", value, seconds) from None
            raise

    def _error(self, path: str, value: str, code: int) -> SysfsError:
        return SysfsError(f"write {value!r} to", f"{self.root}/{path}", code)

    def _answer(self, path: str, value: str) -> int:
        """Answer a write: 0 or an errno."""
        if path == "bus/pci/drivers_probe":
            return self._drivers_probe(value.strip())
        if (found := _DRIVER.match(path)) is not None:
            return self._driver_file(found["driver"], found["file"], value)
        if (found := _DEVICE.match(path)) is not None:
            address, file = found["address"], found["file"]
            if file == "sriov_numvfs":
                return self._numvfs(address, value)
            if file == "driver_override":
                text = value.split("\n")[0].strip("\0")
                self.tree.put(path, text or "(null)")
                return 0
            if file == "driver/unbind":
                return self._unbind(self._driver(address) or "", value.strip())
        self.tree.put(path, value.strip())
        return 0

    def _driver_file(self, driver: str, file: str, value: str) -> int:
        if file == "bind":
            return self._bind(driver, value.strip())
        if file == "unbind":
            return self._unbind(driver, value.strip())
        ids = self._new_ids(driver)
        wanted = ":".join(value.split()[:2])
        if file == "new_id":
            if wanted in ids:
                return errno.EEXIST
            self._save_new_ids(driver, [*ids, wanted])
            for address in self.tree.functions():
                if self._driver(address) is None and self._matches(driver, address):
                    self._attach(driver, address)
            return 0
        if wanted not in ids:
            return errno.ENODEV
        self._save_new_ids(driver, [i for i in ids if i != wanted])
        return 0

    def _bind(self, driver: str, address: str) -> int:
        if not self.exists(device_path(address)) or not self._matches(driver, address):
            return errno.ENODEV
        if self._driver(address) is not None:
            return errno.EBUSY
        return self._attach(driver, address)

    def _unbind(self, driver: str, address: str) -> int:
        if not driver or self._driver(address) != driver:
            return errno.ENODEV
        self._detach(address)
        return 0

    def _drivers_probe(self, address: str) -> int:
        if not self.exists(device_path(address)):
            return errno.ENODEV
        self._probe(address)
        return 0

    def _probe(self, address: str) -> None:
        if self._driver(address) is not None:
            return
        for driver in sorted(self.names("bus/pci/drivers")):
            if self._matches(driver, address) and self._attach(driver, address) == 0:
                return

    def _matches(self, driver: str, address: str) -> bool:
        override = parse_override(self.read(device_path(address, "driver_override")))
        if override is not None:
            return override == driver
        vendor = (self.read(device_path(address, "vendor")) or "").removeprefix("0x")
        device = (self.read(device_path(address, "device")) or "").removeprefix("0x")
        return f"{vendor}:{device}" in (*NATIVE_IDS.get(driver, ()), *self._new_ids(driver))

    def _attach(self, driver: str, address: str) -> int:
        """Run a driver's probe function: 0 or its errno."""
        code, after = self._fault(f"probe/{driver}/{address}")
        if code and not after:
            return code
        if self._is_kept_from_drivers(address):
            return errno.ENODEV
        group = self.link_name(device_path(address, "iommu_group"))
        if driver == "vfio-pci":
            unsafe = self.read("module/vfio/parameters/enable_unsafe_noiommu_mode")
            if group is None and unsafe not in ("Y", "1"):
                return errno.EINVAL
            self._node(f"vfio/{group or 'noiommu-0'}")
            self._node("vfio/vfio")
            minor = self._minor("vfio-dev", "vfio")
            self.tree.put(device_path(address, f"vfio-dev/vfio{minor}/uevent"), "")
        elif driver in USERSPACE:
            minor = self._minor("uio", "uio")
            self.tree.put(device_path(address, f"uio/uio{minor}/name"), driver)
            self._node(f"uio{minor}")
        home = os.path.relpath(os.path.realpath(self.tree.full(device_path(address))), self.root)
        self.tree.link(f"{home}/driver", f"bus/pci/drivers/{driver}")
        self.tree.link(f"bus/pci/drivers/{driver}/{address}", home)
        if driver not in USERSPACE:
            self.netdevs.born(address)
        return 0

    def _is_kept_from_drivers(self, address: str) -> bool:
        """Tell whether only driver_override gives a VF a driver (pci_device_can_probe())."""
        pf = self.link_name(device_path(address, "physfn"))
        if pf is None or self.read(device_path(pf, "sriov_drivers_autoprobe")) == "1":
            return False
        return parse_override(self.read(device_path(address, "driver_override"))) is None

    def _detach(self, address: str) -> None:
        driver = self._driver(address)
        if self.exists(device_path(address, "sriov_numvfs")):
            self._remove_vfs(address)
        if driver not in USERSPACE:
            self.netdevs.gone(address)
            self.tree.remove(device_path(address, "net"))
        for minor in self.names(device_path(address, "uio")):
            os.unlink(f"{self.dev}/{minor}")
        group = self.link_name(device_path(address, "iommu_group"))
        if driver == "vfio-pci" and group and os.path.exists(f"{self.dev}/vfio/{group}"):
            os.unlink(f"{self.dev}/vfio/{group}")
        for folder in ("uio", "vfio-dev", "driver"):
            self.tree.remove(device_path(address, folder))
        self.tree.remove(f"bus/pci/drivers/{driver}/{address}")

    def _numvfs(self, address: str, value: str) -> int:
        try:
            wanted = int(value, 0)
        except ValueError:
            return errno.EINVAL
        if not 0 <= wanted < 65536:
            return errno.EINVAL if wanted < 0 else errno.ERANGE
        total = self.read_int(device_path(address, "sriov_totalvfs")) or 0
        now = self.read_int(device_path(address, "sriov_numvfs")) or 0
        if wanted > total:
            return errno.ERANGE
        if wanted == now:
            return 0
        driver = self._driver(address)
        if driver is None or driver in ("igb_uio", "uio_pci_generic"):
            return errno.ENOENT
        if wanted and now:
            return errno.EBUSY
        if wanted:
            self._add_vfs(address, wanted)
        else:
            self._remove_vfs(address)
        return 0

    def _add_vfs(self, pf: str, count: int) -> None:
        nic = Nic(
            address=pf,
            offset=self.read_int(device_path(pf, "sriov_offset")) or 0,
            stride=self.read_int(device_path(pf, "sriov_stride")) or 0,
        )
        vendor = (self.read(device_path(pf, "vendor")) or "").removeprefix("0x")
        device = self.read(device_path(pf, "sriov_vf_device")) or ""
        grouped = self.exists(device_path(pf, "iommu_group"))
        home = os.path.relpath(os.path.realpath(self.tree.full(device_path(pf))), self.root)
        self.vf_side.reset(pf, count)
        self.tree.put(device_path(pf, "sriov_numvfs"), count)
        for index in range(count):
            vf = nic.vf(index)
            group = self.tree.next_group() if grouped else None
            self.tree.add_function(vf, vendor, device, group=group)
            self.tree.put(device_path(vf, "numa_node"), self.read(device_path(pf, "numa_node")))
            vf_home = os.path.relpath(os.path.realpath(self.tree.full(device_path(vf))), self.root)
            self.tree.link(f"{home}/virtfn{index}", vf_home)
            self.tree.link(f"{vf_home}/physfn", home)
            if self.read(device_path(pf, "sriov_drivers_autoprobe")) == "1":
                self._probe(vf)

    def _remove_vfs(self, pf: str) -> None:
        for index in virtfn_indices(self.names(device_path(pf))):
            vf = self.link_name(device_path(pf, f"virtfn{index}")) or ""
            if self._driver(vf) is not None:
                self._detach(vf)
            self.tree.remove(device_path(pf, f"virtfn{index}"))
            self.tree.remove_function(vf)
        self.tree.put(device_path(pf, "sriov_numvfs"), 0)
        self.vf_side.reset(pf, 0)

    def _driver(self, address: str) -> str | None:
        return self.link_name(device_path(address, "driver"))

    def _minor(self, folder: str, prefix: str) -> int:
        used: Iterable[str] = (
            name for a in self.tree.functions() for name in self.names(device_path(a, folder))
        )
        taken = {int(name.removeprefix(prefix)) for name in used}
        return next(n for n in range(len(taken) + 1) if n not in taken)

    def _node(self, name: str) -> None:
        os.makedirs(os.path.dirname(f"{self.dev}/{name}"), exist_ok=True)
        with open(f"{self.dev}/{name}", "w"):
            return

    def _set_fact(self, address: str, facts: dict[str, object]) -> None:
        with open(f"{self.base}/sim/{address}.facts", "w") as file:
            json.dump(facts, file)

    def _new_ids(self, driver: str) -> list[str]:
        return (self.read(f"../sim/{driver}.ids") or "").split()

    def _save_new_ids(self, driver: str, ids: list[str]) -> None:
        with open(f"{self.base}/sim/{driver}.ids", "w") as file:
            file.write("\n".join(ids))

    def _faults(self) -> list[list[object]]:
        try:
            with open(f"{self.base}/sim/faults.json") as file:
                found: list[list[object]] = json.load(file)
        except FileNotFoundError:
            return []
        return found

    def _save_faults(self, faults: list[list[object]]) -> None:
        with open(f"{self.base}/sim/faults.json", "w") as file:
            json.dump(faults, file)

    def _fault(self, path: str) -> tuple[int, bool]:
        """Return the errno that a test wants here and whether the write is to work all the same."""
        with exclusive(f"{self.base}/sim/faults.lock"):
            faults = self._faults()
            for fault in faults:
                pattern, code, times, after = fault
                if int(str(times)) > 0 and re.fullmatch(str(pattern), path):
                    fault[2] = int(str(times)) - 1
                    self._save_faults(faults)
                    return int(str(code)), bool(after)
        return 0, False


def load_fixture(fixture: str, base: str, netdevs: Netdevs | None = None) -> KernelSim:
    """Return a machine whose sysfs is a copy of ``sysfs_fixtures/<fixture>/sys``."""
    shutil.copytree(f"{fixture}/sys", f"{base}/sys", symlinks=True, dirs_exist_ok=True)
    sim = KernelSim(base, netdevs)
    for address in sim.tree.functions():
        if sim.exists(device_path(address, "sriov_numvfs")):
            count = sim.read_int(device_path(address, "sriov_numvfs")) or 0
            sim.vf_side.reset(address, count)
    return sim
