"""Checks of idle VFs' netdevs on the host: names, up or down, managers, two with one MAC. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hwmgr.doctor.findings import Cure, Evidence, Finding, Severity
from hwmgr.doctor.kept import idle_vfs
from hwmgr.driver import BIFURCATED_DRIVERS
from hwmgr.locate import is_marked
from hwmgr.model import describe
from hwmgr.vfsettings import NO_MAC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.doctor.facts import Facts
    from hwmgr.doctor.facts_host import Manager
    from hwmgr.inventory import VFInfo
    from hwmgr.model import Netdev

# What a netdev is called only when somebody gave it back badly: the kernel's dev%d when its own
# name was taken, sriov-cni of 2018's dev<ifindex>, our hw<ifindex>, multus' net<N>, sriov-cni's
# temporary names, udev's own while it renames.
_LEFTOVER = re.compile(r"(?:dev|hw|net|temp_?|rename)\d+(?:d1)?$")
_NUMBERED = re.compile(r"(?P<stem>.*\D)(?P<number>\d+)$")
_FEWEST_SIBLINGS = 3


def check(facts: Facts) -> Iterator[Finding]:
    """Yield what is wrong with netdevs that are here, and with MACs wherever they are."""
    idle: dict[str, list[tuple[VFInfo, Netdev]]] = {}
    for info in idle_vfs(facts):
        netdevs = facts.here.get(info.vf.address, ())
        if len(netdevs) == 1:
            idle.setdefault(info.vf.pf_address, []).append((info, netdevs[0]))
    for group in idle.values():
        yield from _names(facts, group)
        yield from _up(group)
    yield from _managed(facts)
    yield from _names_taken(facts)
    yield from _macs(facts)


def _names(facts: Facts, group: list[tuple[VFInfo, Netdev]]) -> Iterator[Finding]:
    stem = _common_stem(group)
    taken = {n.name for n in facts.host} | {a for n in facts.host for a in n.altnames}
    for info, netdev in group:
        if is_marked(netdev, info.vf.address) or info.vf.driver in BIFURCATED_DRIVERS:
            continue
        usual = f"{stem}{info.vf.index}" if stem else None
        leftover = _LEFTOVER.fullmatch(netdev.name) is not None
        if netdev.name == usual or (usual is None and not leftover):
            continue
        fallback = f"{info.pf_ifname}v{info.vf.index}" if info.pf_ifname else None
        wanted = usual or fallback
        possible = wanted is not None and wanted not in taken and len(wanted) < 16
        own = wanted in netdev.altnames
        why = f"the others of its PF are {stem}<index>" if stem else "a name of last resort"
        yield Finding(
            id="vf-name",
            severity=Severity.WARNING,
            subject=info.vf.address,
            finding=f"its netdev is called {netdev.name}"
            + (f", not {wanted}" if possible or own else ""),
            evidence=(Evidence(why, f"/sys/bus/pci/devices/{info.vf.pf_address}/virtfn*/net"),),
            repair=f"rename it {wanted}"
            if possible or own
            else f"ip link set {netdev.name} name NEW",
            cure=Cure.RENAME if possible or own else None,
            value=wanted or "" if possible or own else "",
        )


def _common_stem(group: list[tuple[VFInfo, Netdev]]) -> str | None:
    """Return what comes before the index in the names of most idle VFs of a PF."""
    stems: dict[str, int] = {}
    for info, netdev in group:
        found = _NUMBERED.fullmatch(netdev.name)
        if found and int(found["number"]) == info.vf.index and not _LEFTOVER.match(netdev.name):
            stems[found["stem"]] = stems.get(found["stem"], 0) + 1
    best = max(stems, key=lambda s: stems[s], default=None)
    return best if best is not None and stems[best] * 2 > len(group) else None


def _up(group: list[tuple[VFInfo, Netdev]]) -> Iterator[Finding]:
    up = [(info, netdev) for info, netdev in group if netdev.up]
    if len(group) <= _FEWEST_SIBLINGS or len(up) * 2 >= len(group):
        return
    for info, netdev in up:
        yield Finding(
            id="vf-up",
            severity=Severity.INFO,
            subject=info.vf.address,
            finding=f"{netdev.name} is up, though nobody uses it",
            evidence=(
                Evidence("up, with no address, route or master", f"ip link show {netdev.name}"),
                Evidence(f"{len(group) - len(up)} of {len(group)} idle VFs are down", "ip link"),
            ),
            repair="set it down",
            cure=Cure.SET_DOWN,
        )


def _managed(facts: Facts) -> Iterator[Finding]:
    for info in facts.vfs:
        for netdev in facts.here.get(info.vf.address, ()):
            for manager in facts.managers.get(netdev.index, ()):
                yield Finding(
                    id="vf-managed",
                    severity=Severity.WARNING,
                    subject=info.vf.address,
                    finding=f"{manager.name} takes {netdev.name} for its own",
                    evidence=(Evidence(manager.says, manager.path),),
                    repair="keep it off VFs from their making on: hwmgr units --install; this one: "
                    + _letting_go(manager, netdev),
                )


def _letting_go(manager: Manager, netdev: Netdev) -> str:
    """Return what makes a manager leave a netdev that it has already."""
    if manager.name == "NetworkManager":
        return f"nmcli device set {netdev.name} managed no"
    return (
        f"udevadm trigger --settle /sys/class/net/{netdev.name}; networkctl reload;"
        f" networkctl reconfigure {netdev.name}"
    )


def _names_taken(facts: Facts) -> Iterator[Finding]:
    """Tell of names that an attached netdev had and that another one has by now (SR-IOV VFs lose
    theirs so: net_device names and altnames are one space, net/core/dev.c)."""
    owners = {name: n for n in facts.host for name in (n.name, *n.altnames)}
    for _file, record in facts.records():
        for before in record.before.netdevs:
            for name in (before.name, *before.altnames):
                other = owners.get(name)
                if other is None or other in facts.here.get(record.address, ()):
                    continue
                what = "is the name of" if other.name == name else "is an altname of"
                yield Finding(
                    id="altname-conflict",
                    severity=Severity.WARNING,
                    subject=record.address,
                    finding=f"{name}, its name when it comes home, {what} {other.name} by now",
                    evidence=(
                        Evidence(f"held by {describe(record)}; was {name}", _file.path),
                        Evidence(f"{name} {what} it", f"ip link show {other.name}"),
                    ),
                    repair=f"ip link set {name} name NEW"
                    if other.name == name
                    else f"ip link property del dev {other.name} altname {name}",
                )


def _macs(facts: Facts) -> Iterator[Finding]:
    """Find a MAC on two functions; of two VFs the idle one, else the later one, gets another."""
    users: dict[str, dict[str, str]] = {}
    for pf in facts.pfs:
        for netdev in facts.here.get(pf.address, ()):
            # The ports of a bond have one MAC on purpose.
            if netdev.master is None and netdev.mac:
                users.setdefault(netdev.mac, {})[pf.address] = f"ip link show {netdev.name}"
    for info in facts.vfs:
        if info.settings is not None and info.settings.mac not in (None, NO_MAC):
            source = f"ip link show {info.pf_ifname}, vf {info.vf.index}"
            users.setdefault(info.settings.mac or "", {})[info.vf.address] = source
        for netdev in facts.here.get(info.vf.address, ()):
            if netdev.master is None and netdev.mac:
                of = users.setdefault(netdev.mac, {})
                of.setdefault(info.vf.address, f"ip link show {netdev.name}")
    known_idle: set[str] = {info.vf.address for info in idle_vfs(facts)}
    holders: dict[str, str] = {r.address: r.owner.container_id for _f, r in facts.records()}
    for mac, functions in users.items():
        # A pod makes a bond of its VFs: one MAC on purpose.
        of_one_pod = len({holders.get(a, a) for a in functions}) == 1
        if len(functions) > 1 and not of_one_pod:
            yield from _duplicates(mac, functions, known_idle)
    yield from _mismatches(facts)


def _duplicates(mac: str, functions: dict[str, str], known_idle: set[str]) -> Iterator[Finding]:
    """Tell it of each function that is to get another MAC: one keeps it, rather one in use."""
    idle = [a for a in functions if a in known_idle]
    keeper = next((a for a in functions if a not in known_idle), next(iter(functions)))
    for subject in [a for a in idle if a != keeper] or list(functions)[-1:]:
        others = ", ".join(a for a in functions if a != subject)
        yield Finding(
            id="mac-duplicate",
            severity=Severity.ERROR,
            subject=subject,
            finding=f"it has MAC {mac}, as {others} has",
            evidence=tuple(Evidence(f"{a}: {mac}", source) for a, source in functions.items()),
            repair="give it another MAC" if idle else "delete one of their pods: both are held",
            cure=Cure.RESET_MAC if idle else None,
            value=mac,
        )


def _mismatches(facts: Facts) -> Iterator[Finding]:
    for info in idle_vfs(facts):
        netdevs = facts.here.get(info.vf.address, ())
        admin = info.settings.mac if info.settings is not None else None
        meant = (None, NO_MAC, info.given.settings.mac)
        if len(netdevs) != 1 or admin in (*meant, netdevs[0].mac):
            continue
        yield Finding(
            id="mac-left",
            severity=Severity.WARNING,
            subject=info.vf.address,
            finding=f"its PF holds it to MAC {admin}, its netdev has {netdevs[0].mac}",
            evidence=(
                Evidence(f"{admin}", f"ip link show {info.pf_ifname}, vf {info.vf.index}"),
                Evidence(f"{netdevs[0].mac}", f"ip link show {netdevs[0].name}"),
            ),
            repair="lift the admin MAC",
            cure=Cure.LIFT_MAC,
        )
