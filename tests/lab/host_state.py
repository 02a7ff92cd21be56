"""Everything that an attachment could change on the lab's node, as one comparable value."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

PFS = ("0000:01:00.0", "0000:02:00.0")
DEVICES = "/sys/bus/pci/devices"

# Given out anew by the kernel, counted, or of the moment: no undo can or should restore these.
NOT_STATE = {
    "ifindex", "iflink", "carrier_changes", "carrier_up_count", "carrier_down_count", "statistics",
    "stats64", "operstate", "carrier", "qdisc", "link_index", "uevent", "power", "queues", "speed",
    "duplex", "subsystem", "device", "dormant", "testing", "num_tx_queues", "num_rx_queues",
    # 1 (random) becomes 3 (set) once a MAC has been given back by name: the MAC itself is compared.
    "addr_assign_type", "name_assign_type",
    # igbvf shows as permanent whatever MAC it found when it was last reset or probed.
    "permaddr",
}  # fmt: skip
FUNCTION_ATTRIBUTES = (
    "class", "vendor", "device", "enable", "driver_override", "numa_node", "sriov_numvfs",
    "sriov_drivers_autoprobe", "sriov_totalvfs", "msi_bus", "d3cold_allowed",
    "broken_parity_status",
)  # fmt: skip


def snapshot() -> dict[str, Any]:
    """Read sysfs and netlink of both PFs and their VFs, device files, records and leases."""
    state: dict[str, Any] = {}
    for pf in PFS:
        functions = [pf, *vfs_of(pf)]
        for address in functions:
            state[address] = _function(address)
    state["links"] = {link["ifname"]: _link(link) for link in ip("-d", "link", "show")}
    state["addresses"] = {
        link["ifname"]: sorted(
            f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"
        )
        for link in ip("address", "show")
    }
    state["dev"] = sorted(n for n in os.listdir("/dev") if n.startswith("uio"))
    state["vfio"] = sorted(n for n in _names("/dev/vfio") if n != "vfio")
    # What --revert leaves there says only that there was one.
    state["records"] = _files("/var/lib/cni/sriov", skip=("locks", "vf_lock", "reverted"))
    state["multus"] = _files("/var/lib/cni/multus", skip=("locks",))
    leases = _files("/var/lib/cni/networks", skip=())
    state["leases"] = [f for f in leases if not f.endswith(("/lock", "/last_reserved_ip.0"))]
    return state


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """Return each attribute that differs, as ``path: before -> after``."""
    if isinstance(before, dict) and isinstance(after, dict):
        found = []
        for key in sorted(before.keys() | after.keys(), key=str):
            found += differences(before.get(key), after.get(key), f"{where}/{key}")
        return found
    return [] if before == after else [f"{where}: {before!r} -> {after!r}"]


def vfs_of(pf: str) -> list[str]:
    """Return the addresses of a PF's VFs in the order of their index."""
    count = sum(1 for n in os.listdir(f"{DEVICES}/{pf}") if n.startswith("virtfn"))
    return [os.path.basename(os.readlink(f"{DEVICES}/{pf}/virtfn{i}")) for i in range(count)]


def netdev_of(address: str) -> str:
    """Return the name of a function's netdev."""
    return os.listdir(f"{DEVICES}/{address}/net")[0]


def driver_of(address: str) -> str | None:
    """Return the driver of a function."""
    path = f"{DEVICES}/{address}/driver"
    return os.path.basename(os.readlink(path)) if os.path.exists(path) else None


def ip(*arguments: str, netns: str | None = None) -> list[dict[str, Any]]:
    """Run ip(8) with JSON output."""
    where = ["-n", netns] if netns else []
    done = subprocess.run(["ip", "-j", *where, *arguments], check=True, capture_output=True)
    found: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
    return [entry for entry in found if entry]


def announce_vfs() -> None:
    """Have every VF up once: only then does its driver tell the PF its MAC, and the PF shows it."""
    for pf in PFS:
        subprocess.run(["ip", "link", "set", netdev_of(pf), "up"], check=True)
    names = [netdev_of(vf) for pf in PFS for vf in vfs_of(pf)]
    for name in names:
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        subprocess.run(["ip", "link", "set", name, "down"], check=True)
    subprocess.run(["udevadm", "settle"], check=True)


def vf_info(pf: str, index: int) -> dict[str, Any]:
    """Return what netlink says of one VF."""
    link = ip("-d", "link", "show", netdev_of(pf))[0]
    info: dict[str, Any] = link["vfinfo_list"][index]
    return info


def _function(address: str) -> dict[str, Any]:
    path = f"{DEVICES}/{address}"
    state: dict[str, Any] = {name: _read(f"{path}/{name}") for name in FUNCTION_ATTRIBUTES}
    state["driver"] = driver_of(address)
    state["iommu_group"] = os.path.basename(os.path.realpath(f"{path}/iommu_group"))
    state["net"] = {
        name: {
            attribute: _read(f"{path}/net/{name}/{attribute}")
            for attribute in os.listdir(f"{path}/net/{name}")
            if attribute not in NOT_STATE and os.path.isfile(f"{path}/net/{name}/{attribute}")
        }
        for name in _names(f"{path}/net")
    }
    state["uio"] = _names(f"{path}/uio")
    return state


def _link(link: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in link.items() if key not in NOT_STATE}
    data = kept.get("linkinfo", {}).get("info_data", {})
    for timer in [key for key in data if key.endswith("_timer")]:
        del data[timer]
    kept["flags"] = sorted(set(kept.get("flags", [])) & {"UP", "BROADCAST", "MULTICAST", "PROMISC"})
    return kept


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError as error:
        return f"errno {error.errno}"


def _names(path: str) -> list[str]:
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def _files(root: str, skip: tuple[str, ...]) -> list[str]:
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in skip]
        found += [os.path.join(folder, name) for name in names]
    return sorted(found)
