"""What makes one VF as it is desired: what its PF holds of it, its driver, its netdev. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwmgr import vfsettings
from hwmgr.desired.changes import OFFER, Change
from hwmgr.desired.macs import fixed_mac
from hwmgr.desired.state import DEFAULT_DRIVER, NO_DRIVER, MacPolicy
from hwmgr.driver import BIFURCATED_DRIVERS
from hwmgr.model import USERSPACE_DRIVERS, VFSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hwmgr.applyrecord import Given
    from hwmgr.desired.observed import PfNow, VfNow
    from hwmgr.desired.state import VfGroup

NOTHING_KNOWN = VFSettings()
_NAMES = {"link_state": "linkState"}


@dataclass(frozen=True, slots=True)
class VfPlanner:
    """Plans the VFs of one PF.

    ``refuse`` takes a path in the file and what is wrong there. ``probes``: an unfinished apply has
    made VFs that are still to be offered to the drivers. ``probing_off``: VFs are not to be probed.
    ``given`` is what VFs got by apply: some
    drivers take a setting and cannot tell of it. ``drivers`` are there or can be loaded.
    """

    now: PfNow
    probes: bool
    probing_off: bool
    given: Mapping[int, Given]
    refuse: Callable[[str, str], None]
    drivers: frozenset[str]
    pf_mtu: int | None

    def changes(self, group: VfGroup, index: int, vf: VfNow | None) -> Iterator[Change]:
        """Yield what makes a VF as its group wants it; ``vf`` is None for one yet to be made."""
        self._check_driver(group, vf)
        yield from self._settings(group, index, vf)
        yield from self._driver(group, index, vf)
        if group.mtu is not None and not (vf is not None and group.mtu == vf.mtu):
            yield from self._mtu(group, index, vf)

    def _settings(self, group: VfGroup, index: int, vf: VfNow | None) -> Iterator[Change]:
        where = group.where
        settings = vf.settings if vf is not None else None
        wanted = replace(group.settings, mac=self._mac(group, index, vf))
        if wanted != NOTHING_KNOWN and vf is not None and settings is None:
            if vf.holder is None:
                self.refuse(where, f"it says nothing of VF {index}; is its netdev here?")
            return
        now = self._known(index, settings or NOTHING_KNOWN)
        for name, change in vfsettings.steps(vfsettings.differences(now, wanted)):
            yield self._change(
                index, vf, _NAMES.get(name, name), _shown(name, now), _shown(name, change), where,
                settings=change,
            )  # fmt: skip
        pinned = wanted.mac is not None and now.mac == wanted.mac
        if vf is not None and pinned and vf.mac not in (None, wanted.mac):
            yield self._change(index, vf, "effectiveMac", vf.mac, wanted.mac, where)

    def _known(self, index: int, settings: VFSettings) -> VFSettings:
        gave = self.given[index].settings if index in self.given else NOTHING_KNOWN
        names = [n for n in ("trust", "spoofchk", "link_state") if getattr(settings, n) is None]
        return replace(settings, **{name: getattr(gave, name) for name in names})

    def _mtu(self, group: VfGroup, index: int, vf: VfNow | None) -> Iterator[Change]:
        goal = group.driver or (vf.driver if vf is not None else DEFAULT_DRIVER)
        if goal is None and self.probes:
            goal = DEFAULT_DRIVER
        if vf is not None and vf.holder is not None and vf.mtu is None:
            return  # Its netdev is in a namespace that we do not look into.
        if goal in USERSPACE_DRIVERS or goal in (None, NO_DRIVER):
            what = f"VF {index} is on {goal or 'no driver'} and has no netdev"
            self.refuse(f"{group.where}.mtu", what)
            return
        if self.pf_mtu is not None and group.mtu is not None and group.mtu > self.pf_mtu:
            what = f"VF {index} cannot have an MTU above that of the PF ({self.pf_mtu})"
            self.refuse(f"{group.where}.mtu", what)
        now = vf.mtu if vf is not None else None
        yield self._change(index, vf, "mtu", now, group.mtu, group.where)

    def _mac(self, group: VfGroup, index: int, vf: VfNow | None) -> str | None:
        if isinstance(group.mac, tuple) or group.mac is MacPolicy.STABLE:
            found = fixed_mac(group, index, self.now)
            if found is None:
                self.refuse(f"{group.where}.mac", "stable needs the PF's MAC; is it here?")
            return found
        if group.mac is MacPolicy.KEEP and vf is not None and vf.holder is None:
            return vf.mac
        return None

    def _driver(self, group: VfGroup, index: int, vf: VfNow | None) -> Iterator[Change]:
        wanted, now = group.driver, vf.driver if vf is not None else None
        if wanted is None:
            if vf is not None:
                yield from self.probing(index, vf)
            return
        if wanted == DEFAULT_DRIVER:
            done = vf is not None and now is not None and now not in USERSPACE_DRIVERS
        elif wanted == NO_DRIVER:
            done = vf is not None and now is None
        else:
            done = now == wanted
        if not done:
            yield self._change(index, vf, "driver", now, wanted, group.where)
        elif vf is not None and vf.vf.driver_override and self._gave_driver(index):
            # A binding of ours that was ended halfway left it; one that is not ours may stay.
            override = vf.vf.driver_override
            yield self._change(index, vf, "driverOverride", override, None, group.where)

    def _gave_driver(self, index: int) -> bool:
        return index in self.given and self.given[index].driver is not None

    def probing(self, index: int, vf: VfNow) -> Iterator[Change]:
        """Yield the offer of a VF that an apply made and that no driver was offered yet."""
        if self.probes and vf.driver is None:
            yield self._change(index, vf, "driver", None, DEFAULT_DRIVER, OFFER)

    def _check_driver(self, group: VfGroup, vf: VfNow | None) -> None:
        wanted, where = group.driver, f"{group.where}.driver"
        if wanted == DEFAULT_DRIVER and self.probing_off:
            # The kernel has a driver take a VF then by driver_override alone (pci_device_probe()).
            self.refuse(where, "with autoprobe off no driver takes a VF by itself; name the driver")
        if wanted in (None, DEFAULT_DRIVER, NO_DRIVER):
            return
        if wanted not in self.drivers:
            what = f"the driver {wanted} is not loaded; load its module (modprobe {wanted})"
            self.refuse(where, what)
        if wanted == "vfio-pci" and self.now.no_iommu and (vf is None or vf.driver != wanted):
            self.refuse(where, self.now.no_iommu)
        holds = vf.driver if vf is not None else self.now.pf.driver
        if group.in_userspace and holds in BIFURCATED_DRIVERS:
            what = f"{holds} runs DPDK beside the kernel driver and is never rebound to {wanted}"
            self.refuse(where, what)

    def _change(
        self,
        index: int,
        vf: VfNow | None,
        attribute: str,
        now: object,
        then: object,
        why: str,
        settings: VFSettings | None = None,
    ) -> Change:
        hits = (vf,) if vf is not None and vf.holder is not None else ()
        address = vf.vf.address if vf is not None else None
        pf = self.now.pf.address
        return Change(pf, self.now.label, index, address, attribute, now, then, why, hits, settings)


def _shown(name: str, settings: VFSettings) -> object:
    """Return one group of settings as a person would write it."""
    if name == "vlan":
        if settings.vlan is None:
            return None
        parts = [str(settings.vlan)]
        parts += [f"qos {settings.qos}"] if settings.qos else []
        parts += [str(settings.proto)] if settings.vlan and settings.proto == "802.1ad" else []
        return " ".join(parts) if len(parts) > 1 else settings.vlan
    if name == "rate":
        if settings.min_rate is None and settings.max_rate is None:
            return None
        return f"{settings.min_rate or 0}-{settings.max_rate or 0}"
    found: object = getattr(settings, name)
    return found
