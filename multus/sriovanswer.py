"""What ``type: sriov`` answers: its result, and the device plane's errors in CNI's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.errors import (
    DeviceBusy,
    HwmgrError,
    LockTimeout,
    NamespaceError,
    NoFreeVF,
    NotAttached,
    RequestError,
)
from multus import cnitypes
from multus.cnitypes import CNIError
from multus.result import Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwmgr.model import Attached
    from multus.delegates import DelegateCall
    from multus.ipam import Addresses
    from multus.jsonfields import Json
    from multus.sriovconf import SriovConf


def result_of(
    conf: SriovConf,
    call: DelegateCall,
    ifname: str,
    attached: Attached,
    addresses: Addresses | None,
) -> Mapping[str, object]:
    """Return the result of an ADD in the configuration's version."""
    interfaces: list[Json] = []
    for name in attached.ifnames or (ifname,):
        interface: Json = {"name": name}
        if attached.mac and attached.mac != "00:00:00:00:00:00":
            interface["mac"] = attached.mac
        if attached.mtu is not None:
            interface["mtu"] = attached.mtu
        interface |= {"sandbox": call.netns, "pciID": attached.address}
        interfaces.append(interface)
    data: Json = {"cniVersion": "1.1.0", "interfaces": interfaces}
    if addresses is not None:
        data["ips"] = [{**ip, "interface": 0} for ip in addresses.ips]
        if addresses.routes:
            data["routes"] = list(addresses.routes)
    dns = conf.dns or (addresses.dns if addresses else None)
    if dns:
        data["dns"] = dns
    if addresses is None and conf.cni_version in ("", "0.1.0", "0.2.0"):
        return {}  # these versions cannot say "an interface without address"
    return Result("1.1.0", data).convert(conf.cni_version).data


def cni_error(error: HwmgrError) -> CNIError:
    """Say an error of the device plane in CNI's words; its notes become the details."""
    details = "; ".join(getattr(error, "__notes__", ()))
    return CNIError(_code(error), f"sriov: {error.message}", details)


def _code(error: HwmgrError) -> int:
    if isinstance(error, NamespaceError):
        return cnitypes.INVALID_NETNS
    if isinstance(error, RequestError):
        return cnitypes.INVALID_CONFIG
    if isinstance(error, NotAttached):
        return cnitypes.UNKNOWN_CONTAINER
    if isinstance(error, DeviceBusy | NoFreeVF | LockTimeout):
        return cnitypes.TRY_AGAIN_LATER
    return cnitypes.INTERNAL
