"""The 2018 plugin's state file, ``<netns inode>/<container>-<if0name>``: read, written, adopted."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, cast

from hwmgr.errors import NamespaceError, RecordTorn
from hwmgr.model import (
    USERSPACE_DRIVERS,
    Before,
    Kind,
    NetnsIdentity,
    Owner,
    PciAddress,
    Record,
    Stage,
    VFSettings,
    VlanProto,
)
from hwmgr.pci import device_path, parse_address, parse_override, virtfn_indices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwmgr.store import StateDir
    from hwmgr.sysfs import Sysfs

_SUFFIX = ".json"
_DNS_KEYS = ("nameservers", "domain", "search", "options")
# A dash may stand in an interface's name too. What a container runtime makes up is a long
# hexadecimal number, which has none.
_HEX = frozenset("0123456789abcdef")
_SHORTEST_ID = 12


def names(inode: int, container_id: str, if0name: str, ifname: str) -> tuple[str, str]:
    """Return folder and file name of an attachment's state below ``cniDir``.

    The 2018 plugin leaves the suffix empty without ``if0name``, so that two attachments of one pod
    overwrite each other's state; here the interface's name takes its place.
    """
    return str(inode), f"{container_id}-{if0name or ifname}"


def path(folder: str, inode: int, container_id: str, if0name: str, ifname: str) -> str:
    """Return the path of an attachment's state file in ``folder`` (``cniDir``)."""
    return os.path.join(folder, *names(inode, container_id, if0name, ifname))


def candidates(
    state: StateDir, container_id: str, if0name: str, ifname: str, inode: int | None = None
) -> list[tuple[str, str]]:
    """Return folder and file name of every state file of an attachment, of any writer.

    The writer of June 2018 appends ``.json`` and the one before does not; both leave the suffix
    empty without ``if0name``. Without the namespace's inode all folders are looked through.
    """
    wanted = {f"{container_id}-{name}" for name in (if0name, if0name or ifname)}
    wanted |= {name + _SUFFIX for name in wanted}
    folders = state.list() if inode is None else [str(inode)]
    return [
        (folder, name)
        for folder in folders
        if is_folder(folder)
        for name in state.list(folder)
        if name in wanted
    ]


def is_folder(name: str) -> bool:
    """Tell whether a name in the state directory is a namespace's inode, thus a folder of ours."""
    return name.isascii() and name.isdigit()


def split_name(name: str) -> tuple[str, str]:
    """Split ``<container>-<interface>`` as well as the name alone allows.

    After a container id in hexadecimal the rest is the interface, dashes and all; after any other
    id the last dash counts.
    """
    name = name.removesuffix(_SUFFIX)
    container_id, _, ifname = name.partition("-")
    if len(container_id) >= _SHORTEST_ID and _HEX.issuperset(container_id):
        return container_id, ifname
    container_id, _, ifname = name.rpartition("-")
    return container_id, ifname


def content(record: Record, conf: Mapping[str, Any]) -> bytes:
    """Return the state file of an attachment: one line, the 2018 plugin's keys in its order.

    ``conf`` is the network configuration; its keys count in any letter case, as for Go.
    """
    given = {key.lower(): value for key, value in conf.items()}
    value: dict[str, object] = {}
    for key in ("name", "cniVersion", "type"):
        if given.get(key.lower()):
            value[key] = given[key.lower()]
    ipam = given.get("ipam") or {}
    dns = given.get("dns") or {}
    value["ipam"] = {"type": ipam["type"]} if ipam.get("type") else {}
    value["dns"] = {key: dns[key] for key in _DNS_KEYS if dns.get(key)}
    dpdk_mode = record.kind is Kind.DPDK or record.driver in USERSPACE_DRIVERS
    value["DPDKMode"] = dpdk_mode
    value["Sharedvf"] = len(record.before.netdevs) > 1
    value["dpdk"] = _dpdk(record, given.get("dpdk") or {}, used=dpdk_mode)
    value["cniDir"] = given.get("cnidir") or "/var/lib/cni/sriov"
    value["if0"] = given.get("if0") or record.pf_ifname or ""
    value["if0name"] = given.get("if0name") or ""
    value["l2enable"] = bool(given.get("l2enable"))
    value["vlan"] = given.get("vlan") or record.settings.vlan or 0
    value["pfOnly"] = record.address == record.pf_address
    value["pci_addr"] = record.address
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )


def _dpdk(record: Record, given: Mapping[str, Any], *, used: bool) -> dict[str, object]:
    if not used:
        texts = ("pci_addr", "ifname", "kernel_driver", "dpdk_driver", "dpdk_tool")
        return {**dict.fromkeys(texts, ""), "VFID": 0}
    return {
        "pci_addr": record.address,
        "ifname": record.owner.ifname,
        "kernel_driver": record.before.driver or given.get("kernel_driver") or "",
        "dpdk_driver": record.driver or given.get("dpdk_driver") or "",
        "dpdk_tool": given.get("dpdk_tool") or "",
        "VFID": record.index or 0,
    }


def to_record(
    path: str,
    data: bytes,
    sysfs: Sysfs,
    *,
    container_id: str | None = None,
    ifname: str | None = None,
    mtime: float = 0.0,
    boot_id: str = "",
) -> Record | None:
    """Turn a state file into the record that we should have written; None if it is another kind.

    It says what the file says: ``before`` holds the kernel driver of a DPDK device and VLAN 0 where
    a VLAN was set; a VF's name and MTU on the host were never saved. ``boot_id`` is the caller's to
    judge by ``mtime``. Also takes the older files, which lie outside a namespace's folder and hold
    the ``dpdk`` object alone. Raises RecordTorn.
    """
    value = parse(path, data)
    bare = is_bare(value)
    dpdk = value if bare else value.get("dpdk")
    if not isinstance(dpdk, dict):
        return None
    address = parse_address(str(value.get("pci_addr") or dpdk.get("pci_addr") or ""))
    if address is None:
        return None
    named = split_name(os.path.basename(path))
    dpdk_mode = bare or value.get("DPDKMode") is True
    whole_pf = value.get("pfOnly") is True
    kind = Kind.DPDK if dpdk_mode else Kind.PF if whole_pf else Kind.VF
    driver = sysfs.link_name(device_path(address, "driver"))
    vlan = value.get("vlan") or 0
    owner = Owner(
        container_id=container_id or named[0],
        ifname=ifname or str(dpdk.get("ifname") or "") or named[1],
        netns=_namespace(os.path.basename(os.path.dirname(path))),
        since=mtime,
        network=value.get("name"),
    )
    override = parse_override(sysfs.read_quiet(device_path(address, "driver_override")))
    before = Before(
        driver=str(dpdk.get("kernel_driver") or "") or None if dpdk_mode else driver,
        driver_override=None if dpdk_mode else override,
        settings=VFSettings(vlan=0, qos=0, proto=VlanProto.DOT1Q) if vlan else None,
    )
    pf = address if whole_pf else sysfs.link_name(device_path(address, "physfn"))
    return Record(
        address=address,
        kind=kind,
        stage=Stage.ATTACHED,
        boot_id=boot_id,
        owner=owner,
        pf_address=PciAddress(pf or ""),
        pf_ifname=value.get("if0") or None,
        index=None if whole_pf else index_of(sysfs, pf, address, dpdk.get("VFID")),
        before=before,
        settings=VFSettings(vlan=vlan) if vlan else VFSettings(),
        driver=str(dpdk.get("dpdk_driver") or "") or None if dpdk_mode else driver,
        saved_files=(path,),
    )


def is_bare(value: Mapping[str, Any]) -> bool:
    """Tell whether a file holds the ``dpdk`` object alone (sriov-cni 0.2 of early 2018)."""
    return "dpdk_driver" in value and "type" not in value


def parse(path: str, data: bytes) -> dict[str, Any]:
    """Return a state file as JSON data; raises RecordTorn, naming ``path``."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise RecordTorn(path, f"it is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise RecordTorn(path, "it is not a JSON object")
    return cast("dict[str, Any]", value)


def index_of(sysfs: Sysfs, pf: str | None, address: str, saved: object) -> int | None:
    """Return a VF's index: what sysfs says, or what was saved when the VF is not there now.

    The 2018 plugin saves index 0 for every VF that keeps its kernel driver.
    """
    if pf is not None:
        for index in virtfn_indices(sysfs.names(device_path(pf))):
            if sysfs.link_name(device_path(pf, f"virtfn{index}")) == address:
                return index
    return saved if isinstance(saved, int) else None


def _namespace(folder: str) -> NetnsIdentity:
    if not is_folder(folder):
        return NetnsIdentity("", 0, 0)
    return NetnsIdentity("", namespace_device(), int(folder))


def namespace_device() -> int:
    """Return the device number of nsfs: one for all namespaces of a boot, so an inode is enough."""
    from hwmgr.netns import identity

    try:
        return identity("/proc/self/ns/net").dev
    except NamespaceError:
        return 0
