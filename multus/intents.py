"""The journal of a container's delegates, written before the first of them runs.

It is enough to undo them all, offline: after a kill at any point, DEL, GC or a new ADD finish from
here. ``<state-dir>/journal/containers/<containerID>.json``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from hwmgr.errors import RecordTorn
from hwmgr.model import NetnsIdentity
from multus.chain import Attachment
from multus.jsonfields import FieldError, Fields, Json
from multus.savedstate import delegate_of_entry, scratch_entry

if TYPE_CHECKING:
    from hwmgr.store import StateDir

_SCHEMA = 1
_FOLDER = ("journal", "containers")


class Phase(StrEnum):
    """How far the container's ADD or DEL has come."""

    ADDING = "adding"
    ATTACHED = "attached"
    DELETING = "deleting"


class StepState(StrEnum):
    """How far one delegate has come; ``started`` may have had any part of its effects."""

    INTENDED = "intended"
    STARTED = "started"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Step:
    """One delegate of a container; ``failed_at`` is which of its plugins reported a failure.

    ``call_id`` is the ADD's that made it, "" where nobody will ask.
    """

    attachment: Attachment
    state: StepState = StepState.INTENDED
    failed_at: int | None = None
    call_id: str = ""

    def to_json(self) -> Json:
        """Return the step for the journal."""
        item = self.attachment
        return {
            "state": self.state.value,
            "failedAt": self.failed_at,
            "callId": self.call_id,
            "master": item.delegate.master,
            "ifname": item.ifname,
            "args": [list(pair) for pair in item.cni_args],
            "capabilityArgs": item.capability_args,
            "delegate": scratch_entry(item.delegate),
        }


@dataclass(frozen=True, slots=True)
class Record:
    """What multus does, or did, for one container; absent identity means it is not known."""

    container_id: str
    ifname: str
    network: str
    cni_dir: str
    boot_id: str
    netns_path: str
    netns: NetnsIdentity | None
    since: str
    phase: Phase
    steps: tuple[Step, ...]

    def marked(self, index: int, state: StepState) -> Record:
        """Return the record with one step in another state."""
        steps = list(self.steps)
        steps[index] = replace(steps[index], state=state)
        return replace(self, steps=tuple(steps))

    def failed(self, index: int, plugin: int) -> Record:
        """Return the record with one step marked as failed by the account of a plugin of it."""
        steps = list(self.steps)
        steps[index] = replace(steps[index], failed_at=plugin)
        return replace(self, steps=tuple(steps))

    def without(self, index: int) -> Record:
        """Return the record with one step struck: it holds nothing any more."""
        return replace(self, steps=self.steps[:index] + self.steps[index + 1 :])

    def made_by(self, call_id: str) -> list[int]:
        """Return the steps that the ADD of this id made and that may still be held."""
        mine = [i for i in self.held() if self.steps[i].call_id == call_id]
        return mine if call_id else []

    def complete(self) -> bool:
        """Tell whether no step is half-way: one may have been added to the others later."""
        return all(step.state is StepState.ADDED for step in self.steps)

    def held(self) -> list[int]:
        """Return the steps that may have had effects, in the order in which they began."""
        return [i for i, step in enumerate(self.steps) if step.state is not StepState.INTENDED]

    def to_json(self) -> Json:
        """Return the record for the journal."""
        netns: Json = {"path": self.netns_path}
        if self.netns is not None:
            netns.update(dev=self.netns.dev, inode=self.netns.inode)
        return {
            "schema": _SCHEMA,
            "containerId": self.container_id,
            "ifname": self.ifname,
            "network": self.network,
            "cniDir": self.cni_dir,
            "bootId": self.boot_id,
            "netns": netns,
            "since": self.since,
            "phase": self.phase.value,
            "steps": [step.to_json() for step in self.steps],
        }


class Intents:
    """The journal's records, one file a container."""

    def __init__(self, store: StateDir) -> None:
        self._store = store

    def load(self, container_id: str) -> Record | None:
        """Return a container's record, None when there is none; raises RecordTorn."""
        name = f"{container_id}.json"
        value = self._store.read_json(*_FOLDER, name)
        if value is None:
            return None
        try:
            return _record(value)
        except ValueError as error:
            raise RecordTorn(self._store.path(*_FOLDER, name), str(error)) from error

    def save(self, record: Record) -> None:
        """Write a record durably; raises StateError."""
        self._store.write_json(record.to_json(), *_FOLDER, f"{record.container_id}.json")

    def remove(self, container_id: str) -> None:
        """Forget a container."""
        self._store.remove(*_FOLDER, f"{container_id}.json")

    def containers(self) -> list[str]:
        """Return the ids of all containers that have a record."""
        names = self._store.list(*_FOLDER)
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]


def _record(value: object) -> Record:
    fields = Fields(value, "the record")
    if fields.number("schema") != _SCHEMA:
        raise FieldError(f"schema {fields.number('schema')} is not known")
    netns = Fields(fields.mapping("netns") or {}, "netns")
    dev, inode = netns.number("dev"), netns.number("inode")
    identity = None
    if dev is not None and inode is not None:
        identity = NetnsIdentity(netns.text("path"), dev, inode)
    container_id = fields.text("containerId")
    steps = [
        _step(item, container_id, netns.text("path")) for item in fields.objects("steps") or []
    ]
    return Record(
        container_id=container_id,
        ifname=fields.text("ifname"),
        network=fields.text("network"),
        cni_dir=fields.text("cniDir"),
        boot_id=fields.text("bootId"),
        netns_path=netns.text("path"),
        netns=identity,
        since=fields.text("since"),
        phase=Phase(fields.text("phase")),
        steps=tuple(steps),
    )


def _step(value: Json, container_id: str, netns: str) -> Step:
    fields = Fields(value, "a step")
    delegate = delegate_of_entry(fields.mapping("delegate"), master=fields.flag("master"))
    pairs = [pair for pair in fields.items("args") or [] if isinstance(pair, list)]
    attachment = Attachment(
        delegate=delegate,
        container_id=container_id,
        netns=netns,
        ifname=fields.text("ifname"),
        cni_args=tuple((str(pair[0]), str(pair[1])) for pair in pairs if len(pair) == 2),
        capability_args=fields.mapping("capabilityArgs") or {},
    )
    return Step(
        attachment,
        StepState(fields.text("state")),
        fields.number("failedAt"),
        fields.text("callId"),
    )
