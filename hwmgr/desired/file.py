"""The file of desired state: read and checked as a whole, every fault with its path in the file."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from hwmgr import rootfile
from hwmgr.desired.state import (
    Desired,
    DesiredPf,
    MacPolicy,
    Selector,
    VfGroup,
    duplicates,
    parse_indices,
)
from hwmgr.errors import ConfigError
from hwmgr.model import LinkState, VFSettings, VlanProto
from hwmgr.pci import parse_address

if TYPE_CHECKING:
    from collections.abc import Collection

DEFAULT_PATH = "/etc/hwmgr/desired.yaml"
_MATCH = ("name", "altname", "address", "vendor", "device")
_PF = (
    "match", "optional", "externallyManaged", "numVfs", "mtu", "up", "eswitchMode", "autoprobe",
    "vfs",
)  # fmt: skip
_VFS = (
    "range", "driver", "mtu", "mac", "trust", "spoofchk", "vlan", "qos", "vlanProto", "linkState",
    "minTxRate", "maxTxRate",
)  # fmt: skip
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_ID = re.compile(r"(0x)?[0-9a-f]{4}")
_DRIVER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NAME = re.compile(r"[^/\s]{1,127}")
# ETH_MIN_MTU, and the largest that a netdev can have (include/uapi/linux/if_ether.h).
_MTU = (68, 65535)
_MOST_VFS = 65535
_MOST_MBITS = 2**32 - 1


def load(path: str, *, roots_alone: bool) -> Desired:
    """Read and check a file; see docs/desired-state.md. Raises ConfigError with every fault.

    ``roots_alone`` refuses a file that others than root could write.
    """
    text = rootfile.read(path, roots_alone=roots_alone)
    if text is None:
        raise ConfigError(path, ["there is no such file"])
    return parse(path, rootfile.texts(path, text))


def parse(path: str, value: dict[str, Any]) -> Desired:
    """Check the content of a file, its scalars as texts. Raises ConfigError with every fault."""
    check = _Checker()
    check.known("", value, ("pfs",))
    pfs = tuple(
        _pf(check, f"pfs[{n}]", item) for n, item in enumerate(check.list("pfs", value.get("pfs")))
    )
    if check.problems:
        raise ConfigError(path, check.problems)
    return Desired(path, pfs)


class _Checker:
    """Collects what is wrong; each reader returns None for what is absent or wrong."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def wrong(self, where: str, what: str) -> None:
        self.problems.append(f"{where}: {what}")

    def known(self, where: str, value: dict[str, Any], keys: Collection[str]) -> None:
        hint = f"unknown key; known are {', '.join(keys)}"
        for key in value:
            if key not in keys:
                self.wrong(f"{where}.{key}" if where else str(key), hint)

    def list(self, where: str, value: object) -> list[Any]:
        if isinstance(value, list) and value:
            return value
        self.wrong(where, "must be a list of one entry or more")
        return []

    def mapping(self, where: str, value: object, keys: Collection[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.wrong(where, f"must have keys with values ({', '.join(keys)})")
            return {}
        self.known(where, value, keys)
        return value

    def flag(self, where: str, value: dict[str, Any], key: str) -> bool | None:
        if key not in value:
            return None
        found = _WORDS.get(value[key].lower()) if isinstance(value[key], str) else None
        if found is None:
            self.wrong(f"{where}.{key}", "must be true or false")
        return found

    def number(
        self, where: str, value: dict[str, Any], key: str, low: int, high: int
    ) -> int | None:
        if key not in value:
            return None
        text = value[key]
        digits = isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 12
        if not digits or not low <= int(text) <= high:
            self.wrong(f"{where}.{key}", f"must be a number from {low} to {high}")
            return None
        return int(text)

    def word(
        self, where: str, value: dict[str, Any], key: str, words: Collection[str]
    ) -> str | None:
        if key not in value:
            return None
        text = value[key]
        if not isinstance(text, str) or text.lower() not in words:
            self.wrong(f"{where}.{key}", f"must be one of {', '.join(words)}")
            return None
        return text.lower()

    def shaped(
        self, where: str, value: dict[str, Any], key: str, shape: re.Pattern[str], what: str
    ) -> str | None:
        if key not in value:
            return None
        text = value[key]
        if not isinstance(text, str) or not shape.fullmatch(text) or text in (".", ".."):
            self.wrong(f"{where}.{key}", f"must be {what}")
            return None
        return text


def _pf(check: _Checker, where: str, value: object) -> DesiredPf:
    fields = check.mapping(where, value, _PF)
    if "match" not in fields:
        check.wrong(f"{where}.match", "must say which PF is meant")
    external = check.flag(where, fields, "externallyManaged") or False
    found = DesiredPf(
        where=where,
        selector=_selector(check, f"{where}.match", fields.get("match", {"name": "-"})),
        optional=check.flag(where, fields, "optional") or False,
        externally_managed=external,
        num_vfs=check.number(where, fields, "numVfs", 0, _MOST_VFS),
        mtu=check.number(where, fields, "mtu", *_MTU),
        up=check.flag(where, fields, "up"),
        eswitch_mode=check.word(where, fields, "eswitchMode", ("legacy", "switchdev")),
        autoprobe=check.flag(where, fields, "autoprobe"),
        groups=tuple(
            _group(check, f"{where}.vfs[{n}]", item)
            for n, item in enumerate(check.list(f"{where}.vfs", fields["vfs"]))
        )
        if "vfs" in fields
        else (),
    )
    if found.eswitch_mode and found.num_vfs is None and not external:
        check.wrong(f"{where}.numVfs", "must be given with eswitchMode: a change makes VFs anew")
    for index in duplicates(found.groups):
        groups = [g.where for g in found.groups if index in g.indices]
        check.wrong(f"{where}.vfs", f"VF {index} is in more than one range: {', '.join(groups)}")
    for group in found.groups:
        beyond = [i for i in group.indices if found.num_vfs is not None and i >= found.num_vfs]
        if beyond:
            check.wrong(f"{group.where}.range", f"VF {beyond[0]} is beyond numVfs {found.num_vfs}")
        if group.mtu and found.mtu and group.mtu > found.mtu:
            check.wrong(f"{group.where}.mtu", f"is larger than that of the PF ({found.mtu})")
    macs = Counter(m for g in found.groups if isinstance(g.mac, tuple) for m in g.mac)
    for mac in sorted(mac for mac, times in macs.items() if times > 1):
        check.wrong(f"{where}.vfs", f"MAC {mac} is given twice")
    return found


def _selector(check: _Checker, where: str, value: object) -> Selector:
    fields = check.mapping(where, value, _MATCH)
    if isinstance(value, dict) and not fields:
        check.wrong(where, f"must name one of {', '.join(_MATCH)}, or several that hold together")
    address = None
    if "address" in fields:
        text = fields["address"] if isinstance(fields["address"], str) else ""
        address = parse_address(text) or parse_address(f"0000:{text}")
        if address is None:
            check.wrong(f"{where}.address", "must be a PCI address like 0000:01:00.0")
    # Ids are written in either case, and with 0x as sysfs has them.
    plain: dict[str, Any] = {
        key: fields[key].lower() if isinstance(fields[key], str) else fields[key]
        for key in ("vendor", "device")
        if key in fields
    }
    vendor, device = (
        check.shaped(where, plain, key, _ID, "four hexadecimal digits")
        for key in ("vendor", "device")
    )
    return Selector(
        name=check.shaped(where, fields, "name", _NAME, "the name of an interface"),
        altname=check.shaped(where, fields, "altname", _NAME, "a name of an interface"),
        address=address,
        vendor=vendor and vendor.removeprefix("0x"),
        device=device and device.removeprefix("0x"),
    )


def _group(check: _Checker, where: str, value: object) -> VfGroup:
    fields = check.mapping(where, value, _VFS)
    text = fields.get("range")
    indices = parse_indices(text) if isinstance(text, str) else None
    if indices is None:
        check.wrong(f"{where}.range", "must be VF indices like 0-3,5")
    driver = check.shaped(where, fields, "driver", _DRIVER, "a driver's name, default or none")
    mac = _mac(check, where, fields, len(indices or ()))
    group = VfGroup(
        where=where,
        indices=indices or (),
        driver=driver,
        mtu=check.number(where, fields, "mtu", *_MTU),
        mac=mac,
        settings=_settings(check, where, fields),
    )
    if group.mtu is not None and (group.in_userspace or driver == "none"):
        check.wrong(f"{where}.mtu", f"a VF on {driver} has no netdev that could have one")
    return group


def _settings(check: _Checker, where: str, fields: dict[str, Any]) -> VFSettings:
    vlan = check.number(where, fields, "vlan", 0, 4094)
    qos = check.number(where, fields, "qos", 0, 7)
    proto = check.word(where, fields, "vlanProto", tuple(VlanProto))
    link = check.word(where, fields, "linkState", tuple(LinkState))
    low = check.number(where, fields, "minTxRate", 0, _MOST_MBITS)
    high = check.number(where, fields, "maxTxRate", 0, _MOST_MBITS)
    for key in ("qos", "vlanProto"):
        if key in fields and "vlan" not in fields:
            check.wrong(f"{where}.{key}", "needs vlan")
        elif vlan == 0 and (qos if key == "qos" else proto == VlanProto.DOT1AD):
            check.wrong(f"{where}.{key}", "vlan 0 is no VLAN and has none")
    if low and high and low > high:
        check.wrong(f"{where}.minTxRate", f"is above maxTxRate ({high})")
    return VFSettings(
        vlan=vlan,
        qos=(qos or 0) if vlan is not None else None,
        proto=VlanProto(proto or VlanProto.DOT1Q) if vlan is not None else None,
        min_rate=low,
        max_rate=high,
        spoofchk=check.flag(where, fields, "spoofchk"),
        trust=check.flag(where, fields, "trust"),
        link_state=LinkState(link) if link else None,
    )


def _mac(
    check: _Checker, where: str, fields: dict[str, Any], count: int
) -> MacPolicy | tuple[str, ...] | None:
    if "mac" not in fields:
        return None
    value = fields["mac"]
    if not isinstance(value, list):
        if value in tuple(MacPolicy):
            return MacPolicy(value)
        check.wrong(f"{where}.mac", f"must be {', '.join(MacPolicy)} or a list of MACs")
        return None
    macs = tuple(item.lower() if isinstance(item, str) else "" for item in value)
    for number, mac in enumerate(macs):
        usable = _MAC.fullmatch(mac) and mac != "00:00:00:00:00:00" and not int(mac[1], 16) & 1
        if not usable:
            check.wrong(f"{where}.mac[{number}]", "must be a unicast MAC like 02:00:00:00:00:01")
    if len(macs) != count:
        check.wrong(f"{where}.mac", f"must have a MAC for each VF of the range ({count})")
    return macs
