"""What pyroute2 makes of the kernel's answers: a second reading beside hwmgr.linkreads."""

from __future__ import annotations

from typing import Any

from pyroute2 import IPRoute

from hwmgr.model import LinkState, Netdev, VFSettings, VlanProto

_UNSET = 0xFFFFFFFF
_STATES = {0: LinkState.AUTO, 1: LinkState.ENABLE, 2: LinkState.DISABLE}


def netdevs() -> list[Netdev]:
    """Return every netdev, without addresses."""
    with IPRoute() as route:
        return [_netdev(message) for message in route.link("dump")]


def addresses() -> dict[int, list[str]]:
    """Return the addresses of global scope."""
    found: dict[int, list[str]] = {}
    with IPRoute() as route:
        for message in route.addr("dump"):
            if message["scope"] == 0:
                ip = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
                found.setdefault(message["index"], []).append(f"{ip}/{message['prefixlen']}")
    return found


def vf_settings(index: int) -> dict[int, VFSettings]:
    """Return what a PF's driver says of its VFs."""
    with IPRoute() as route:
        (message,) = route.link("get", index=index, ext_mask=9)
        vfs = message.get_attr("IFLA_VFINFO_LIST")
        listed = vfs.get_attrs("IFLA_VF_INFO") if vfs else []
        return {int(vf.get_attr("IFLA_VF_MAC")["vf"]): _settings(vf) for vf in listed}


def _netdev(message: Any) -> Netdev:
    properties = message.get_attr("IFLA_PROP_LIST")
    return Netdev(
        index=int(message["index"]),
        name=message.get_attr("IFLA_IFNAME"),
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=int(message.get_attr("IFLA_MTU") or 0),
        up=bool(message["flags"] & 1),
        altnames=tuple(properties.get_attrs("IFLA_ALT_IFNAME")) if properties else (),
        alias=message.get_attr("IFLA_IFALIAS"),
        master=message.get_attr("IFLA_MASTER"),
        parent=message.get_attr("IFLA_PARENT_DEV_NAME"),
    )


def _settings(vf: Any) -> VFSettings:
    def number(attribute: str, key: str) -> int | None:
        value = vf.get_attr(attribute)
        return None if value is None or value[key] == _UNSET else int(value[key])

    def flag(attribute: str, key: str) -> bool | None:
        value = number(attribute, key)
        return None if value is None else bool(value)

    vlans = vf.get_attr("IFLA_VF_VLAN_LIST")
    tagged = vlans.get_attr("IFLA_VF_VLAN_INFO")["proto"] if vlans else None
    state = number("IFLA_VF_LINK_STATE", "link_state")
    return VFSettings(
        mac=vf.get_attr("IFLA_VF_MAC")["mac"],
        vlan=number("IFLA_VF_VLAN", "vlan"),
        qos=number("IFLA_VF_VLAN", "qos"),
        proto=VlanProto.DOT1AD if tagged == 0x88A8 else VlanProto.DOT1Q,
        min_rate=number("IFLA_VF_RATE", "min_tx_rate"),
        max_rate=number("IFLA_VF_RATE", "max_tx_rate"),
        spoofchk=flag("IFLA_VF_SPOOFCHK", "spoofchk"),
        trust=flag("IFLA_VF_TRUST", "trust"),
        link_state=None if state is None else _STATES.get(state),
    )
