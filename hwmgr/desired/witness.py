"""What becomes of each change, told while it happens: what was made counts also after a failure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwmgr.desired.changes import Change, Refusal


class Witness(Protocol):
    """Is told of each change."""

    def made(self, change: Change) -> None:
        """Hear of a change that was made."""

    def failed(self, change: Change, why: str) -> None:
        """Hear of a change that was begun and not finished."""

    def left(self, changes: Sequence[Change]) -> None:
        """Hear of changes that were to follow one that failed, and were not tried."""

    def passed_over(self, why: str) -> None:
        """Hear of a PF that was left alone."""

    def refused(self, refusal: Refusal) -> None:
        """Hear of a PF that could not be touched, while others could."""


class Nobody:
    """Listens to nothing."""

    def made(self, change: Change) -> None:
        """See Witness."""

    def failed(self, change: Change, why: str) -> None:
        """See Witness."""

    def left(self, changes: Sequence[Change]) -> None:
        """See Witness."""

    def passed_over(self, why: str) -> None:
        """See Witness."""

    def refused(self, refusal: Refusal) -> None:
        """See Witness."""


@dataclass(frozen=True, slots=True)
class Account:
    """A witness that keeps what it hears."""

    changes: list[Change] = field(default_factory=list)
    failures: list[tuple[Change, str]] = field(default_factory=list)
    not_tried: list[Change] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def made(self, change: Change) -> None:
        """See Witness."""
        self.changes.append(change)

    def failed(self, change: Change, why: str) -> None:
        """See Witness."""
        self.failures.append((change, why))

    def left(self, changes: Sequence[Change]) -> None:
        """See Witness."""
        self.not_tried.extend(changes)

    def passed_over(self, why: str) -> None:
        """See Witness."""
        self.remarks.append(why)

    def refused(self, refusal: Refusal) -> None:
        """See Witness."""
        self.refusals.append(refusal)
