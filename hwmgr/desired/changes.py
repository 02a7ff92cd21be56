"""What a plan is made of: single changes, and whom they would hit. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwmgr.desired.observed import VfNow
    from hwmgr.model import PciAddress, VFSettings

OFFER = "made, and not offered to drivers yet"
"""Why a VF that an apply has made is given to a driver that the file does not name."""


@dataclass(frozen=True, slots=True)
class Change:
    """One attribute that would change; ``index`` and ``address`` are a VF's, None for the PF.

    ``address`` is None too for a VF that does not exist yet. ``hits`` are the VFs in use that it
    would take away from somebody. ``settings`` is what a PF's driver is to be told.
    """

    pf: PciAddress
    pf_label: str
    index: int | None
    address: PciAddress | None
    attribute: str
    now: object
    then: object
    why: str
    hits: tuple[VfNow, ...] = ()
    settings: VFSettings | None = None

    @property
    def subject(self) -> str:
        """The function that it is about, for people."""
        where = self.pf_label if self.index is None else f"{self.pf_label} VF {self.index}"
        return f"{where} ({self.address})" if self.address else where

    def __str__(self) -> str:
        return f"{self.subject}: {self.attribute} {self.now} -> {self.then}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A PF that is left alone while others are not, and what to do about it."""

    pf: PciAddress
    pf_label: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes in order, and in words what stands in the way of all of them.

    ``refused`` are PFs of which nothing can be said, since their apply record is unusable.
    ``warnings``: the host itself uses a PF that would be changed. ``cuts`` are those of them after
    which it could not any more.
    """

    changes: tuple[Change, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    cuts: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()

    @property
    def hits(self) -> tuple[VfNow, ...]:
        """The VFs in use that it would hit, each once."""
        return tuple({hit.vf.address: hit for c in self.changes for hit in c.hits}.values())


def joined(plans: Iterable[Plan], *problems: str) -> Plan:
    """Return the plans of several PFs as one, with what is wrong beside them."""
    changes: list[Change] = []
    wrong = list(problems)
    warnings: list[str] = []
    cuts: list[str] = []
    refused: list[Refusal] = []
    for plan in plans:
        changes += plan.changes
        wrong += plan.problems
        warnings += plan.warnings
        cuts += plan.cuts
        refused += plan.refused
    return Plan(tuple(changes), tuple(wrong), tuple(warnings), tuple(cuts), tuple(refused))


def refusal(pf: PciAddress, label: str, why: str) -> Plan:
    """Return the plan of a PF that is left alone."""
    return Plan((), (), refused=(Refusal(pf, label, why),))


@dataclass(frozen=True, slots=True)
class Leftover:
    """What an unfinished apply left of a PF: it had switched probing off, which was ``autoprobe``
    before, and has not offered the new VFs to drivers yet."""

    autoprobe: bool | None = None
