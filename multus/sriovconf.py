"""The configuration of ``type: sriov``, in the vocabulary of 2018 and in sriov-cni's; checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.model import USERSPACE_DRIVERS, LinkState, VFSettings, VlanProto
from hwmgr.pci import parse_address
from multus import cnitypes
from multus.cniargs import ArgsError, parse_mac_arg
from multus.cnitypes import CNIError
from multus.jsonfields import FieldError, Fields, Json

if TYPE_CHECKING:
    from hwmgr.model import PciAddress

MAX_VLAN = 4094  # IEEE 802.1Q: 0 means untagged, 4095 is reserved
MAX_QOS = 7
# The 2018 plugin refuses these: a pod's first interface is not the SR-IOV plugin's to name.
_REFUSED_NAMES = ("eth0", "eth1", "lo")


@dataclass(frozen=True, slots=True)
class DpdkConf:
    """The ``dpdk`` object of 2018."""

    kernel_driver: str
    dpdk_driver: str
    dpdk_tool: str


@dataclass(frozen=True, slots=True)
class SriovConf:
    """One checked configuration; ``raw`` is the whole of it as it came.

    ``seed_style`` tells that it uses the words of 2018, so that state is saved in that form.
    """

    raw: Json
    name: str
    cni_version: str
    device: PciAddress | None
    if0: str | None
    if0name: str | None
    pf_only: bool
    l2enable: bool
    dpdk: DpdkConf | None
    settings: VFSettings
    mtu: int | None
    ipam_type: str
    cni_dir: str | None
    dns: Json
    log_file: str | None
    log_level: str
    seed_style: bool

    def ifname(self, cni_ifname: str) -> str:
        """Return the interface's name in the pod: ``if0name`` wins over CNI_IFNAME, as in 2018."""
        return self.if0name or cni_ifname


def load(conf: Json, cni_args: str = "", *, for_delete: bool = False) -> SriovConf:
    """Check a configuration; raises CNIError 7 that names the key, 4 for CNI_ARGS.

    With ``for_delete`` what only ADD needs may be missing or wrong: DEL goes by the records, and
    must succeed where ADD refused the configuration, or the pod could never go away.
    """
    try:
        return _load(_readable(conf) if for_delete else conf, cni_args, lenient=for_delete)
    except (FieldError, ArgsError) as error:
        code = cnitypes.INVALID_CONFIG if isinstance(error, FieldError) else 4
        raise CNIError(code, f"sriov: {error}") from error


def _readable(conf: Json) -> Json:
    """Return those of the members that tell what to delete; what ADD refuses is left out."""
    fields = Fields(conf, "the configuration")
    kept: Json = {}
    for name, read in (
        ("name", Fields.text),
        ("cniVersion", Fields.text),
        ("if0", Fields.text),
        ("master", Fields.text),
        ("if0name", lambda given, _name: _if0name(given)),
        ("l2enable", Fields.flag),
        ("cniDir", Fields.text),
        ("logFile", Fields.text),
        ("logLevel", Fields.text),
        ("ipam", lambda given, name: {"type": Fields(given.mapping(name), name).text("type")}),
    ):
        try:
            kept[name] = read(fields, name)
        except FieldError:
            continue
    return kept


def _load(conf: Json, cni_args: str, *, lenient: bool) -> SriovConf:
    fields = Fields(conf, "the configuration")
    dpdk = _dpdk(fields)
    if0 = fields.text("if0") or fields.text("master") or None
    device = _device(fields, if0, lenient=lenient)
    pf_only = fields.flag("pfOnly")
    settings = VFSettings() if lenient else _settings(fields, cni_args, seed=device is None)
    if pf_only and settings != VFSettings():
        raise FieldError("pfOnly takes the PF itself, which has no vlan, mac, trust… of a VF")
    ipam = fields.mapping("ipam") or {}
    words_of_2018 = ("if0", "if0name", "pfOnly", "l2enable", "dpdk", "cniDir")
    return SriovConf(
        raw=conf,
        name=fields.text("name"),
        cni_version=fields.text("cniVersion"),
        device=device,
        if0=if0,
        if0name=_if0name(fields),
        pf_only=pf_only,
        l2enable=fields.flag("l2enable"),
        dpdk=dpdk,
        settings=settings,
        mtu=_range(fields, "mtu", 68, 65535),
        ipam_type=Fields(ipam, "ipam").text("type"),
        cni_dir=fields.text("cniDir") or None,
        dns=fields.mapping("dns") or {},
        log_file=fields.text("logFile") or None,
        log_level=_log_level(fields),
        seed_style=any(fields.present(word) for word in words_of_2018),
    )


def _device(fields: Fields, if0: str | None, *, lenient: bool) -> PciAddress | None:
    text = fields.text("deviceID")
    if lenient:
        return None
    device = parse_address(text) if text else None
    if text and (device is None or device != text.lower()):
        raise FieldError(f"deviceID {text!r} is not a PCI address such as 0000:3b:02.1")
    if device is None and if0 is None:
        raise FieldError(
            "neither deviceID nor if0 says which device: deviceID comes from the device plugin when"
            " the pod requests the resource that the network names, if0 is the name of a PF"
        )
    return device


def _if0name(fields: Fields) -> str | None:
    name = fields.text("if0name")
    if not name:
        return None
    fault = cnitypes.ifname_fault(name)
    if fault is not None or name in _REFUSED_NAMES:
        raise FieldError(f"if0name: {fault or f'{name} is not for an SR-IOV interface'}")
    return name


def _dpdk(fields: Fields) -> DpdkConf | None:
    value = fields.mapping("dpdk")
    if not value:
        return None
    dpdk = Fields(value, "dpdk")
    conf = DpdkConf(dpdk.text("kernel_driver"), dpdk.text("dpdk_driver"), dpdk.text("dpdk_tool"))
    if conf == DpdkConf("", "", ""):
        return None
    if conf.dpdk_driver not in USERSPACE_DRIVERS:
        known = ", ".join(sorted(USERSPACE_DRIVERS))
        raise FieldError(f"dpdk.dpdk_driver {conf.dpdk_driver!r} is none of {known}")
    return conf


def _settings(fields: Fields, cni_args: str, *, seed: bool) -> VFSettings:
    vlan = _range(fields, "vlan", 0, MAX_VLAN)
    if seed and vlan == 0:
        vlan = None  # in 2018 an absent vlan and 0 were one
    qos = _range(fields, "vlanQoS", 0, MAX_QOS)
    proto = _proto(fields)
    if vlan is None and (qos is not None or proto is not None):
        raise FieldError("vlanQoS and vlanProto need vlan")
    if vlan == 0 and (qos or proto is VlanProto.DOT1AD):
        raise FieldError("vlan 0 is untagged: it takes neither vlanQoS nor 802.1ad")
    low, high = _rate(fields, "min_tx_rate"), _rate(fields, "max_tx_rate")
    if low and high and low > high:
        raise FieldError(f"min_tx_rate {low} is above max_tx_rate {high}")
    return VFSettings(
        mac=mac_of(fields, cni_args),
        vlan=vlan,
        qos=None if vlan is None else qos or 0,
        proto=None if vlan is None else proto or VlanProto.DOT1Q,
        min_rate=low,
        max_rate=high,
        spoofchk=_switch(fields, "spoofchk"),
        trust=_switch(fields, "trust"),
        link_state=_link_state(fields),
    )


def mac_of(fields: Fields, cni_args: str) -> str | None:
    """Return the MAC asked for, lower case: runtimeConfig wins over CNI_ARGS, then ``mac``.

    Raises FieldError, ArgsError.
    """
    runtime = Fields(fields.mapping("runtimeConfig") or {}, "runtimeConfig").text("mac")
    mac = (runtime or parse_mac_arg(cni_args) or fields.text("mac")).lower().replace("-", ":")
    if not mac:
        return None
    octets = mac.split(":")
    hexadecimal = all(len(o) == 2 and set(o) <= set("0123456789abcdef") for o in octets)
    if len(octets) != 6 or not hexadecimal:
        raise FieldError(f"mac {mac!r} is not six octets such as 02:00:00:00:00:01")
    if int(octets[0], 16) & 1 or not any(int(o, 16) for o in octets):
        raise FieldError(f"mac {mac} is not a unicast address")
    return mac


def _proto(fields: Fields) -> VlanProto | None:
    if not fields.present("vlanProto"):
        return None
    text = fields.text("vlanProto").lower()
    try:
        return VlanProto(text)
    except ValueError:
        raise FieldError(f"vlanProto {text!r} is neither 802.1q nor 802.1ad") from None


def _link_state(fields: Fields) -> LinkState | None:
    text = fields.text("link_state")
    try:
        return LinkState(text) if text else None
    except ValueError:
        raise FieldError(f"link_state {text!r} is none of auto, enable, disable") from None


def _log_level(fields: Fields) -> str:
    level = fields.text("logLevel").lower()
    return level if level in ("panic", "error", "warning", "debug") else "info"


def _switch(fields: Fields, name: str) -> bool | None:
    text = fields.text(name)
    if text not in ("", "on", "off"):
        raise FieldError(f"{name} {text!r} is neither on nor off")
    return None if not text else text == "on"


def _rate(fields: Fields, name: str) -> int | None:
    return _range(fields, name, 0, 0xFFFFFFFE)


def _range(fields: Fields, name: str, low: int, high: int) -> int | None:
    value = fields.number(name)
    if value is not None and not low <= value <= high:
        raise FieldError(f"{name} {value} is not within {low}…{high}")
    return value
