"""A bare walk over PFs and VFs in sysfs: the least that an inventory has to read, by os calls.

``python3 walk.py ROOT`` prints how many VFs it saw, to be timed as a whole process.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing takes as long to import as a tenth of the walk


if TYPE_CHECKING:
    # driver, driver_override, netdevs (name, alias, master), vendor, device, NUMA node, IOMMU group
    _Netdev = tuple[str, str | None, str | None]
    _Text = str | None
    _Function = tuple[_Text, _Text, list[_Netdev], _Text, _Text, _Text, _Text]


def walk(root: str) -> list[tuple[str, str, _Function]]:
    """Return PF, address and raw values of each VF, PF by PF, in the order of the index.

    Reads what ``hwmgr vf list`` shows from sysfs and what decides on a VF's state, each once:
    links ``driver``, ``iommu_group`` and ``virtfn<N>``, attributes ``driver_override``, ``vendor``,
    ``device`` and ``numa_node``, the names in ``net``, and of each netdev ``ifalias`` and
    ``master``. Functions already seen as VFs are not looked at for ``sriov_totalvfs`` again.
    """
    devices = f"{root}/bus/pci/devices"
    found: list[tuple[str, str, _Function]] = []
    seen: set[str] = set()
    for address in sorted(os.listdir(devices)):
        if address in seen:
            continue
        home = f"{devices}/{address}"
        if _read(f"{home}/sriov_totalvfs") is None:
            continue
        _read(f"{home}/sriov_numvfs")
        _function(home)
        links = [name for name in os.listdir(home) if name.startswith("virtfn")]
        for link in sorted(links, key=lambda name: int(name[6:])):
            vf = os.path.basename(os.readlink(f"{home}/{link}"))
            seen.add(vf)
            found.append((address, vf, _function(f"{devices}/{vf}")))
    return found


def _function(home: str) -> _Function:
    netdevs: list[_Netdev] = []
    try:
        for name in os.listdir(f"{home}/net"):
            netdev = f"{home}/net/{name}"
            netdevs.append((name, _read(f"{netdev}/ifalias"), _link(f"{netdev}/master")))
    except FileNotFoundError:
        pass
    return (
        _link(f"{home}/driver"),
        _read(f"{home}/driver_override"),
        netdevs,
        _read(f"{home}/vendor"),
        _read(f"{home}/device"),
        _read(f"{home}/numa_node"),
        _link(f"{home}/iommu_group"),
    )


def _read(path: str) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, 4096).decode()
    finally:
        os.close(fd)


def _link(path: str) -> str | None:
    try:
        return os.path.basename(os.readlink(path))
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    print(len(walk(sys.argv[1])))
