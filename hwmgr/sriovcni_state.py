"""sriov-cni's state file, ``<container>-<interface>``: read, written, understood.

Its keys are those of Go structs (sriov-cni pkg/types/types.go); what a key's absence means differs
by version: ``Trust`` and ``VlanProto`` came with 2.8, ``MTU`` with 2.9, ``DPDKMode`` and
``ContIFNames`` went with 2.8; before, a DEL without ``ContIFNames`` fails.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from hwmgr.model import (
    Before,
    Kind,
    LinkState,
    Netdev,
    NetnsIdentity,
    Owner,
    PciAddress,
    Record,
    Stage,
    VFSettings,
    VlanProto,
)
from hwmgr.pci import device_path, parse_address, parse_override
from hwmgr.seedstate import index_of, parse, split_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwmgr.sysfs import Sysfs

_LINK_STATES = (LinkState.AUTO, LinkState.ENABLE, LinkState.DISABLE)  # IFLA_VF_LINK_STATE_*
_ETHERTYPES = {VlanProto.DOT1Q: 0x8100, VlanProto.DOT1AD: 0x88A8}
_TEXT_KEYS = (
    "cniVersion",
    "name",
    "type",
    "spoofchk",
    "trust",
    "link_state",
    "logLevel",
    "logFile",
)
_OBJECT_KEYS = ("capabilities", "dns", "runtimeConfig")
_NUMBER_KEYS = ("vlan", "vlanQoS", "vlanProto", "min_tx_rate", "max_tx_rate")


def name(container_id: str, ifname: str) -> str:
    """Return the name of an attachment's state file in the state directory."""
    return f"{container_id}-{ifname}"


def path(folder: str, container_id: str, ifname: str) -> str:
    """Return the path of an attachment's state file in ``folder``."""
    return os.path.join(folder, name(container_id, ifname))


def content(record: Record, conf: Mapping[str, Any]) -> bytes:
    """Return the state file of an attachment, such that sriov-cni can take the VF back.

    ``conf`` is the network configuration. Only sriov-cni's own keys are written, each once: Go
    matches keys in any letter case and a second ``mac`` would win over ``MAC``.
    """
    given = {key.lower(): value for key, value in conf.items()}
    value: dict[str, object] = {
        key: given[key.lower()] for key in (*_TEXT_KEYS, *_OBJECT_KEYS) if given.get(key.lower())
    }
    value |= {key: given.get(key.lower()) for key in _NUMBER_KEYS}
    ipam = given.get("ipam") or {}
    value["ipam"] = {"type": ipam["type"]} if ipam.get("type") else {}
    value.setdefault("dns", {})
    value.setdefault("runtimeConfig", {})
    settings = record.before.settings or VFSettings()
    netdev = record.before.netdevs[0] if record.before.netdevs else None
    value["OrigVfState"] = {
        "HostIFName": netdev.name if netdev else "",
        "SpoofChk": bool(settings.spoofchk),
        "Trust": bool(settings.trust),
        "AdminMAC": settings.mac or "",
        "EffectiveMAC": netdev.mac if netdev else "",
        "Vlan": settings.vlan or 0,
        "VlanQoS": settings.qos or 0,
        "VlanProto": _ETHERTYPES[settings.proto or VlanProto.DOT1Q],
        "MinTxRate": settings.min_rate or 0,
        "MaxTxRate": settings.max_rate or 0,
        "LinkState": _LINK_STATES.index(settings.link_state or LinkState.AUTO),
        "MTU": netdev.mtu if netdev else 0,
    }
    value["DPDKMode"] = record.kind is Kind.DPDK
    value["Master"] = record.pf_ifname or ""
    value["MAC"] = record.settings.mac or ""
    value["MTU"] = netdev.mtu if netdev else None
    value["deviceID"] = record.address
    value["VFID"] = record.index or 0
    value["ContIFNames"] = record.owner.ifname
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )


def is_one(value: Mapping[str, Any]) -> bool:
    """Tell whether JSON data has the look of sriov-cni's state (2.0 and later)."""
    return isinstance(value.get("OrigVfState"), dict) or bool(_device(value))


def to_record(
    path: str,
    data: bytes,
    sysfs: Sysfs,
    *,
    container_id: str | None = None,
    ifname: str | None = None,
    mtime: float = 0.0,
    boot_id: str = "",
    netns: NetnsIdentity | None = None,
) -> Record | None:
    """Turn a state file into the record that we should have written; None if it is another kind.

    ``before`` holds what sriov-cni itself gives back: the admin MAC always, another setting only if
    the configuration had changed it (its saved value may be a default where the driver does not
    tell). ``netns`` is that of the claim file, ``boot_id`` is the caller's to judge by ``mtime``.
    Raises RecordTorn.
    """
    value = parse(path, data)
    address = _device(value)
    if address is None or not is_one(value):
        return None
    saved = value.get("OrigVfState")
    saved = saved if isinstance(saved, dict) else {}
    named = split_name(os.path.basename(path))
    host_name = str(saved.get("HostIFName") or "")
    # 2.8 and later do not save the mode, but a VF that had no netdev was on a userspace driver.
    kind = Kind.VF if host_name and value.get("DPDKMode") is not True else Kind.DPDK
    driver = sysfs.link_name(device_path(address, "driver"))
    pf = sysfs.link_name(device_path(address, "physfn"))
    return Record(
        address=address,
        kind=kind,
        stage=Stage.ATTACHED,
        boot_id=boot_id,
        owner=Owner(
            container_id=container_id or named[0],
            ifname=ifname or named[1],
            netns=netns or NetnsIdentity("", 0, 0),
            since=mtime,
            network=value.get("name"),
        ),
        pf_address=PciAddress(pf or ""),
        pf_ifname=value.get("Master") or None,
        index=index_of(sysfs, pf, address, value.get("VFID")),
        before=Before(
            driver=driver,
            driver_override=parse_override(
                sysfs.read_quiet(device_path(address, "driver_override"))
            ),
            settings=_settings_before(value, saved),
            netdevs=(_netdev(host_name, saved),) if kind is Kind.VF else (),
        ),
        settings=_settings_wanted(value),
        driver=driver if kind is Kind.DPDK else None,
        saved_files=(path,),
    )


def _device(value: Mapping[str, Any]) -> PciAddress | None:
    return parse_address(str(value.get("deviceID") or value.get("DeviceID") or ""))


def _netdev(host_name: str, saved: Mapping[str, Any]) -> Netdev:
    mtu = saved.get("MTU")
    return Netdev(
        index=0,
        name=host_name,
        mac=str(saved.get("EffectiveMAC") or "").lower(),
        mtu=mtu if isinstance(mtu, int) else 0,
        up=False,
    )


def _settings_before(value: Mapping[str, Any], saved: Mapping[str, Any]) -> VFSettings:
    changed_vlan = value.get("vlan") is not None
    changed_rate = value.get("min_tx_rate") is not None or value.get("max_tx_rate") is not None
    ad = saved.get("VlanProto") == _ETHERTYPES[VlanProto.DOT1AD]
    state = saved.get("LinkState")
    return VFSettings(
        mac=str(saved.get("AdminMAC") or "").lower() or None,
        vlan=_number(saved, "Vlan") if changed_vlan else None,
        qos=_number(saved, "VlanQoS") if changed_vlan else None,
        proto=(VlanProto.DOT1AD if ad else VlanProto.DOT1Q) if changed_vlan else None,
        min_rate=_number(saved, "MinTxRate") if changed_rate else None,
        max_rate=_number(saved, "MaxTxRate") if changed_rate else None,
        spoofchk=_flag(saved, "SpoofChk") if value.get("spoofchk") else None,
        trust=_flag(saved, "Trust") if value.get("trust") else None,
        link_state=_LINK_STATES[state] if value.get("link_state") and state in (0, 1, 2) else None,
    )


def _settings_wanted(value: Mapping[str, Any]) -> VFSettings:
    vlan = value.get("vlan")
    proto = str(value.get("vlanProto") or "").lower()
    states = {str(state): state for state in LinkState}
    return VFSettings(
        mac=str(value.get("MAC") or "").lower() or None,
        vlan=vlan if isinstance(vlan, int) else None,
        qos=_number(value, "vlanQoS"),
        proto=VlanProto.DOT1AD if proto == VlanProto.DOT1AD else VlanProto.DOT1Q if vlan else None,
        min_rate=_number(value, "min_tx_rate"),
        max_rate=_number(value, "max_tx_rate"),
        spoofchk=value["spoofchk"] == "on" if value.get("spoofchk") else None,
        trust=value["trust"] == "on" if value.get("trust") else None,
        link_state=states.get(str(value.get("link_state"))),
    )


def _number(value: Mapping[str, Any], key: str) -> int | None:
    found = value.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _flag(value: Mapping[str, Any], key: str) -> bool | None:
    found = value.get(key)
    return found if isinstance(found, bool) else None
