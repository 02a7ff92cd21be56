"""From what is desired and what is to an ordered list of changes: pure, nothing is touched.

The order is that in which drivers take it: the mode of the embedded switch while there are no VFs,
the PF's netdev, the number of VFs, then for each VF what its PF holds, its driver and, once a
kernel driver has made it, its netdev. What follows from a creation of VFs is planned anew when
they are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.desired.changes import Change, Plan
from hwmgr.desired.hostuse import for_the_host
from hwmgr.desired.state import DEFAULT_DRIVER, NO_DRIVER
from hwmgr.desired.vfplanning import VfPlanner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hwmgr.applyrecord import Given
    from hwmgr.desired.changes import Leftover
    from hwmgr.desired.observed import PfNow, VfNow
    from hwmgr.desired.state import Desired, DesiredPf, Selector


def matched(
    desired: Desired, pfs: Sequence[PfNow], only: str | None = None
) -> tuple[dict[str, DesiredPf], list[str]]:
    """Return the entry for each PF that has one, by address, and what is wrong with the file here.

    An entry that matches nothing and is not optional is a fault, and a PF that two entries match.
    With ``only``, an address, nothing is said of what concerns other PFs.
    """
    found: dict[str, DesiredPf] = {}
    problems = []
    for entry in desired.pfs:
        mine = [pf for pf in pfs if _matches(entry.selector, pf)]
        if not mine and not entry.optional and only is None:
            problems.append(
                f"{entry.where}: no PF here has {entry.selector}; 'hwmgr pf list' shows those that"
                " are here, 'optional: true' makes it no fault"
            )
        concerned = only is None or any(pf.pf.address == only for pf in mine)
        if concerned and len(mine) > 1 and any(isinstance(g.mac, tuple) for g in entry.groups):
            names = ", ".join(pf.label for pf in mine)
            problems.append(f"{entry.where}: a list of MACs is for one PF, but it matches {names}")
        for pf in mine:
            if only not in (None, pf.pf.address):
                continue
            other = found.setdefault(pf.pf.address, entry)
            if other is not entry:
                problems.append(f"{entry.where}: {pf.label} is matched by {other.where} already")
    return found, problems


def plan_pf(
    entry: DesiredPf,
    now: PfNow,
    *,
    leftover: Leftover | None = None,
    given: Mapping[int, Given] | None = None,
    only_vfs: bool = False,
    loadable: frozenset[str] = frozenset(),
) -> Plan:
    """Return what makes one PF as its entry wants it; ``only_vfs`` leaves the PF itself alone.

    ``leftover`` and ``given`` are what an apply of this boot has left and given to VFs;
    ``loadable`` are drivers that are not there, and whose module can be loaded.
    """
    return _Planner(entry, now, leftover, given or {}, only_vfs, loadable).plan()


def unloaded(entry: DesiredPf, now: PfNow) -> list[str]:
    """Return the drivers that an entry names and that are not there, in order."""
    names = {g.driver for g in entry.groups} - {None, DEFAULT_DRIVER, NO_DRIVER} - now.drivers
    return sorted(name for name in names if name is not None)


def _matches(selector: Selector, now: PfNow) -> bool:
    pf = now.pf
    return (
        selector.name in (None, *pf.netdevs)
        and selector.altname in (None, *now.altnames)
        and selector.address in (None, pf.address)
        and selector.vendor in (None, pf.vendor)
        and selector.device in (None, pf.device)
    )


class _Planner:
    def __init__(
        self,
        entry: DesiredPf,
        now: PfNow,
        leftover: Leftover | None,
        given: Mapping[int, Given],
        only_vfs: bool,
        loadable: frozenset[str],
    ) -> None:
        self.entry = entry
        self.now = now
        self.leftover = leftover
        self.given = given
        self.own = not (entry.externally_managed or only_vfs)
        self.only_vfs = only_vfs
        self.loadable = loadable
        self.count = now.pf.num_vfs
        self.remade = False
        self.problems: list[str] = []
        if entry.externally_managed and not only_vfs:
            self._verify()

    def plan(self) -> Plan:
        own = self._pf() if self.own else self._unfinished()
        changes = [*self._modules(), *own, *self._vfs()]
        stuck = {hit.vf.address: hit.stuck for c in changes for hit in c.hits if hit.stuck}
        for address, why in stuck.items():
            self._refuse(self.entry.where, f"{why} ({address}); end it first")
        if changes and self.now.holder is not None:
            self._refuse(self.entry.where, self.now.holder)
        if self.now.pf.ifname is None and any(
            c.attribute in ("mtu", "up") and c.index is None for c in changes
        ):
            self._refuse(self.entry.where, "its netdev is not here, so it cannot be set up")
        warnings, cuts = for_the_host(self.now.label, self.now.used, changes)
        return Plan(tuple(changes), tuple(self.problems), warnings, cuts)

    def _modules(self) -> Iterator[Change]:
        for driver in unloaded(self.entry, self.now):
            if driver in self.loadable:
                group = next(g for g in self.entry.groups if g.driver == driver)
                yield self._change("module", None, driver, f"{group.where}.driver")

    def _refuse(self, where: str, what: str) -> None:
        text = f"{where}: {self.now.label}: {what}"
        if text not in self.problems:
            self.problems.append(text)

    def _change(
        self, attribute: str, now: object, then: object, why: str, hits: tuple[VfNow, ...] = ()
    ) -> Change:
        pf = self.now.pf
        return Change(pf.address, self.now.label, None, None, attribute, now, then, why, hits)

    def _verify(self) -> None:
        """Check what somebody else manages; as the operator has it, too much is no fault."""
        entry, now = self.entry, self.now
        if entry.num_vfs is not None and now.pf.num_vfs < entry.num_vfs:
            what = f"externally managed, and there are {now.pf.num_vfs} VFs of {entry.num_vfs}"
            self._refuse(f"{entry.where}.numVfs", what)
        if entry.mtu is not None and now.mtu is not None and now.mtu < entry.mtu:
            what = f"externally managed, and the MTU is {now.mtu}, not {entry.mtu}"
            self._refuse(f"{entry.where}.mtu", what)
        if entry.up and now.up is False:
            self._refuse(f"{entry.where}.up", "externally managed, and it is down")
        if entry.autoprobe is not None and now.autoprobe not in (None, entry.autoprobe):
            what = f"externally managed, and it is {'on' if now.autoprobe else 'off'}"
            self._refuse(f"{entry.where}.autoprobe", what)
        mode = now.eswitch_mode or "legacy"
        if entry.eswitch_mode not in (None, mode):
            what = f"externally managed, and the mode is {mode}, not {entry.eswitch_mode}"
            self._refuse(f"{entry.where}.eswitchMode", what)

    def _pf(self) -> Iterator[Change]:
        entry, now = self.entry, self.now
        held = tuple(vf for vf in now.vfs if vf.holder is not None)
        mode = now.eswitch_mode or "legacy"
        if entry.eswitch_mode not in (None, mode):
            if now.eswitch_mode is None:
                what = f"{now.pf.driver or 'no driver'} has no embedded switch (devlink)"
                self._refuse(f"{entry.where}.eswitchMode", what)
            self.remade = True
            why = f"{entry.where}.eswitchMode"
            yield self._change("eswitchMode", mode, entry.eswitch_mode, why, held)
        if entry.mtu is not None and entry.mtu != now.mtu:
            yield self._change("mtu", now.mtu, entry.mtu, f"{entry.where}.mtu")
        if entry.up is not None and entry.up != now.up:
            yield self._change("up", now.up, entry.up, f"{entry.where}.up")
        if entry.num_vfs is not None:
            yield from self._number(entry.num_vfs, held)
        # New VFs are there without drivers by now, and none takes them while this is off.
        yield from self._autoprobe()

    def _number(self, wanted: int, held: tuple[VfNow, ...]) -> Iterator[Change]:
        entry, now = self.entry, self.now
        if wanted > now.pf.total_vfs:
            what = f"it can have {now.pf.total_vfs} VFs, not {wanted}"
            self._refuse(f"{entry.where}.numVfs", what)
        if wanted != now.pf.num_vfs or (self.remade and now.pf.num_vfs):
            self.remade = True
            self.count = wanted
            why = f"{entry.where}.numVfs"
            if now.pf.num_vfs:
                why += "; all VFs are made anew" if wanted else "; all VFs go"
            yield self._change("numVfs", now.pf.num_vfs, wanted, why, held)

    def _unfinished(self) -> Iterator[Change]:
        """Yield what an unfinished apply owes a PF that is left alone otherwise."""
        if self.leftover is not None:
            yield from self._autoprobe()

    def _autoprobe(self) -> Iterator[Change]:
        wanted = self._final_autoprobe()
        if wanted is not None and wanted != self.now.autoprobe:
            why = f"{self.entry.where}.autoprobe"
            if self.entry.autoprobe is None:
                why = "as it was before VFs were made"
            yield self._change("autoprobe", self.now.autoprobe, wanted, why)

    def _final_autoprobe(self) -> bool | None:
        if self.entry.autoprobe is not None:
            return self.entry.autoprobe
        if self.leftover is not None and self.leftover.autoprobe is not None:
            return self.leftover.autoprobe
        return self.now.autoprobe

    def _vfs(self) -> Iterator[Change]:
        final = self._final_autoprobe()
        probes = self.leftover is not None and bool(final)
        given = {} if self.remade else self.given
        planner = VfPlanner(
            now=self.now,
            probes=probes,
            probing_off=final is False,
            given=given,
            refuse=self._refuse,
            drivers=self.now.drivers | self.loadable,
            pf_mtu=self.entry.mtu if self.own and self.entry.mtu else self.now.mtu,
        )
        known = {} if self.remade else {vf.vf.index: vf for vf in self.now.vfs}
        indices = sorted({i for g in self.entry.groups for i in g.indices} | set(known))
        for index in indices:
            group, vf = self.entry.group_of(index), known.get(index)
            if index >= self.count:
                # With only_vfs the VFs that somebody has made anew may be fewer, for the moment.
                if group is not None and not self.only_vfs:
                    what = f"there is no VF {index}, it has {self.count}"
                    self._refuse(f"{group.where}.range", what)
                continue
            if group is not None:
                yield from planner.changes(group, index, vf)
            elif vf is not None:
                yield from planner.probing(index, vf)
