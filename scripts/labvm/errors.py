"""What can go wrong with the lab itself, as opposed to what runs in it."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot be built or used; the message says what to do."""


class MachineError(LabError):
    """The machine ended, or does not answer; `tail` is the end of its console."""

    def __init__(self, message: str, tail: str = "") -> None:
        super().__init__(message)
        self.tail = tail


class TimeIsUpError(MachineError):
    """The time limit passed before the command in the guest ended."""
