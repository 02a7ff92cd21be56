"""Switchdev facts in sysfs: port names, the uplink and the representor of a VF. Read-only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.sysfs import Sysfs

# Forms of phys_port_name: net/core/devlink.c, __devlink_port_phys_port_name_get().
# Compiled when the first is met, and kept by re: most nodes have none.
_PORT_NAME = r"^(?:c(?P<controller>\d+))?(?:p(?P<uplink>\d+)|pf(?P<pf>\d+)(?P<rest>(?:vf|sf)\d+)?)$"


class PortFlavour(StrEnum):
    """What a switchdev port stands for."""

    UPLINK = "uplink"
    PF = "pf"
    VF = "vf"
    SF = "sf"


@dataclass(frozen=True, slots=True)
class PortName:
    """A parsed ``phys_port_name``; ``number`` is the VF or SF number."""

    flavour: PortFlavour
    controller: int | None
    pf: int
    number: int | None


def parse_port_name(text: str) -> PortName | None:
    """Parse ``p0``, ``pf0vf3``, ``c1pf0vf12``, ``pf0sf88``; None for anything else."""
    match = re.match(_PORT_NAME, text)
    if match is None:
        return None
    controller = int(match["controller"]) if match["controller"] else None
    if match["uplink"] is not None:
        return PortName(PortFlavour.UPLINK, controller, int(match["uplink"]), None)
    pf, rest = int(match["pf"]), match["rest"]
    if rest is None:
        return PortName(PortFlavour.PF, controller, pf, None)
    return PortName(PortFlavour(rest[:2]), controller, pf, int(rest[2:]))


def is_representor(sysfs: Sysfs, ifname: str) -> bool:
    """Tell whether a netdev stands for a VF or SF of the switch, not for a port of the card.

    In switchdev mode a bare number is a VF's port name too; outside of it, it is a port's.
    """
    text = sysfs.read_quiet(f"class/net/{ifname}/phys_port_name") or ""
    port = parse_port_name(text)
    if port is None:
        return text.isdigit() and bool(sysfs.read_quiet(f"class/net/{ifname}/phys_switch_id"))
    return port.flavour in (PortFlavour.VF, PortFlavour.SF)


def representor(sysfs: Sysfs, pf_ifname: str, index: int) -> str | None:
    """Return the netdev that represents a VF on the host, None outside switchdev mode.

    It has the uplink's ``phys_switch_id`` and a port name with the VF's number; some drivers give
    the bare number as the port name. The uplink's own number is that of its port, not of its PF
    (nfp and netdevsim have several ports on a PF), so it tells only between netdevs that do not
    belong to the uplink's function; representors of another host (``c1pf0vf3``) come last.
    """
    found: list[tuple[bool, bool, bool, str]] = []
    for port in _switch_ports(sysfs, pf_ifname):
        if port.text == str(index):
            return port.ifname
        name = port.name
        if name is None or name.flavour is not PortFlavour.VF or name.number != index:
            continue
        if not port.of_another:
            found.append(
                (name.controller is not None, port.elsewhere, port.other_number, port.ifname)
            )
    return min(found)[3] if found else None


def has_representors(sysfs: Sysfs, pf_ifname: str) -> bool:
    """Tell whether VFs or SFs of a PF are represented on the host, as in switchdev mode alone.

    The PF's own switch id does not tell: ice and mlx5 show one in legacy mode too (since Linux
    5.16 and 5.13, ice_devlink_create_pf_port(), mlx5e_devlink_port_register()).
    """
    return any(
        not port.elsewhere
        if port.name is None
        else port.name.flavour in (PortFlavour.VF, PortFlavour.SF) and not port.of_another
        for port in _switch_ports(sysfs, pf_ifname)
        if port.name is not None or port.text.isdigit()
    )


@dataclass(frozen=True, slots=True)
class _SwitchPort:
    """Another netdev with a PF's switch id; ``text`` is its port's name, ``name`` what it means.

    ``elsewhere`` tells that it does not belong to the PF's function, ``other_number`` that it is
    of a PF with another number than the uplink's port.
    """

    ifname: str
    text: str
    name: PortName | None
    elsewhere: bool
    other_number: bool

    @property
    def of_another(self) -> bool:
        return self.elsewhere and self.other_number


def _switch_ports(sysfs: Sysfs, pf_ifname: str) -> Iterator[_SwitchPort]:
    switch = sysfs.read_quiet(f"class/net/{pf_ifname}/phys_switch_id")
    if not switch:
        return
    uplink = parse_port_name(sysfs.read_quiet(f"class/net/{pf_ifname}/phys_port_name") or "")
    function = sysfs.link_name(f"class/net/{pf_ifname}/device")
    for ifname in sorted(sysfs.names("class/net")):
        home = f"class/net/{ifname}"
        if ifname == pf_ifname or sysfs.read_quiet(f"{home}/phys_switch_id") != switch:
            continue
        text = sysfs.read_quiet(f"{home}/phys_port_name") or ""
        name = parse_port_name(text)
        yield _SwitchPort(
            ifname,
            text,
            name,
            elsewhere=function is None or sysfs.link_name(f"{home}/device") != function,
            other_number=name is not None
            and uplink is not None
            and uplink.flavour is PortFlavour.UPLINK
            and name.pf != uplink.pf,
        )
