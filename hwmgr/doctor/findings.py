"""What doctor says: findings with their evidence, and the cure that each one has. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is: an ``info`` alone leaves the node clean."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Cure(StrEnum):
    """What ``hwmgr repair`` does about a finding, in the words of its plan."""

    GIVE_BACK = "give it back to the host, as it was before"
    GIVE_BACK_SAVED = "give it back to the host, by its state file"
    STRIKE = "strike the record"
    FORGET = "strike the record, leave the device to whom it was given"
    SET_ASIDE = "set the record aside"
    SET_FILE_ASIDE = "set the file aside"
    REBUILD = "write the record anew"
    RENAME_PF = "correct the record"
    CLAIM = "write the claim"
    UNCLAIM = "remove the claim"
    REMOVE_FILE = "remove the file"
    TAKE_HOME = "take it home"
    REBIND = "bind its driver anew"
    PROBE = "give it to its driver"
    CLEAR_OVERRIDE = "clear driver_override"
    RESET_SETTINGS = "reset the settings"
    RESET_MAC = "give it another MAC"
    LIFT_MAC = "lift the admin MAC"
    RENAME = "rename it"
    CLEAR_ALIAS = "clear the alias"
    SET_DOWN = "set it down"
    SET_UP = "set it up"
    RUN_CALL = "run the call"
    SET_CALL_ASIDE = "set the call aside"


RECORD_CURES = frozenset({Cure.GIVE_BACK, Cure.STRIKE, Cure.FORGET, Cure.SET_ASIDE, Cure.UNCLAIM})
"""The cures that go by the journal alone and touch no function without a record."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact that a finding rests on, and where it can be looked up (a path, a command)."""

    fact: str
    source: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``subject`` is a PCI address where there is one, else a path.

    ``repair`` tells what puts it right; with ``cure`` that is what 'hwmgr repair --yes' does,
    without it the administrator has to. ``value`` is what the cure needs to know beside the
    subject: a name, a path, a container.
    """

    id: str
    severity: Severity
    subject: str
    finding: str
    evidence: tuple[Evidence, ...]
    repair: str
    cure: Cure | None = None
    value: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what makes it the same finding when it is looked for again."""
        return self.id, self.subject, self.value
