"""Undo a container's delegates from its record: for rollback, DEL and GC alike.

Last first, every one is tried, and what succeeded is struck from the record at once, so that a
retry does only what is left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwmgr.errors import HwmgrError, NamespaceError
from multus.cnitypes import CNIError
from multus.intents import Phase
from multus.jsonfields import FieldError, Fields
from multus.namespaces import OWN_NAMESPACE
from multus.result import Result, ResultError, parse_result
from multus.translate import to_cni

if TYPE_CHECKING:
    from multus.chain import Attachment
    from multus.clock import Deadlines
    from multus.doors import Doors
    from multus.intents import Intents, Record, Step
    from multus.logs import Log
    from multus.savedstate import SavedState


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undo could not do.

    ``problems``: something may still be held. ``excused``: a plugin can delete as little as it
    could add, typically for a configuration that it never understood. A pod must not be kept
    because of that; its record stays for GC and for the administrator to see.
    """

    problems: list[CNIError]
    excused: list[CNIError]


class Undo:
    """Undoes records; one for each call."""

    def __init__(
        self,
        doors: Doors,
        intents: Intents,
        saved: SavedState,
        path: tuple[str, ...],
        log: Log,
    ) -> None:
        self._doors = doors
        self._log = log
        self._intents = intents
        self._saved = saved
        self._path = path

    def run(
        self,
        record: Record,
        netns: str,
        deadlines: Deadlines,
        verb: str,
        *,
        begun_here: bool = False,
    ) -> Undone:
        """Undo everything that a record says may be held; returns what could not be.

        With nothing left, the record and the scratch are gone; otherwise the record stays. What
        this very call has begun (``begun_here``) has no plugins of a killed call to be looked for.
        """
        outcome = Undone([], [])
        suspect = record.phase is not Phase.ATTACHED or not record.complete()
        ended = self._doors.orphans.end(record.container_id) if suspect and not begun_here else 0
        if ended:
            self._log.problem(f"{record.container_id}: ended {ended} plugins of a killed call")
        record = self._saved_as(replace(record, phase=Phase.DELETING))
        self._doors.checkpoint(f"{verb}.deleting")
        held = record.held()
        for done, index in enumerate(reversed(held)):
            now = self._doors.clock.monotonic()
            deadline = deadlines.for_undo(now, len(held) - done)
            step = replace(
                record.steps[index],
                attachment=replace(record.steps[index].attachment, netns=netns),
            )
            try:
                excused = self.delete(step, deadline)
            except (CNIError, HwmgrError, OSError, ValueError) as error:
                outcome.problems.append(to_cni(error))
            else:
                outcome.excused.extend(excused)
                self._doors.checkpoint(f"{verb}.delegate.{index}.deleted")
                record = record if excused else record.without(index)
                if record.held():
                    self._saved_as(record)
            self._doors.checkpoint(f"{verb}.delegate.{index}.done")
        if not outcome.problems:
            outcome.problems.extend(self._forget(record.container_id, bool(outcome.excused)))
            self._doors.checkpoint(f"{verb}.forgotten")
        for left in outcome.excused:
            self._log.problem(f"{record.container_id}: kept for GC to try again: {left.msg}")
        return outcome

    def result_of(self, item: Attachment) -> Result | None:
        """Return the saved result of an attachment, None when there is none that can be read."""
        name = _network(item)
        cached = self._saved.load_result(name, item.container_id, item.ifname)
        if cached is None or cached.result is None:
            return None
        try:
            own = Fields(cached.result, "the saved result").text("cniVersion")
            return parse_result(cached.result, own)
        except (ResultError, FieldError):
            return None

    def delete(self, step: Step, deadline: float) -> list[CNIError]:
        """Undo one delegate and forget its result; returns what is excused. Raises CNIError."""
        item = step.attachment
        excused = self._doors.chains.delete(
            item, self._path, deadline, self.result_of(item), step.failed_at
        )
        self._saved.remove_result(_network(item), item.container_id, item.ifname)
        delegate = item.delegate
        if delegate.device_id:
            info = self._doors.device_info
            info.remove(info.cni_path(delegate.name, item.container_id, item.ifname))
        return excused

    def _forget(self, container_id: str, keep_record: bool) -> list[CNIError]:
        """Remove scratch and record; the record last, since it is what GC looks for."""
        try:
            self._saved.remove_scratch(container_id)
            if not keep_record:
                self._intents.remove(container_id)
        except HwmgrError as error:
            return [to_cni(error)]
        return []

    def _saved_as(self, record: Record) -> Record:
        """Write the record if that is possible: a full disk must not keep us from letting go.

        The older record then tells a retry to do more than it must, which plugins allow.
        """
        try:
            self._intents.save(record)
        except HwmgrError as error:
            self._log.problem(f"DEL goes on without saving its progress: {error.message}")
        return record


def namespace_to_clean(
    doors: Doors,
    record: Record | None,
    path: str,
    *,
    override: bool = False,
    late: bool = False,
) -> str:
    """Return the namespace path that plugins may touch for a record, "" for none.

    A late DEL must not hit a stranger: the path may by now stand for another pod's namespace, and
    by mistake of the runtime for the host's own. Plugins then only release what is not inside.
    ``late`` says that the path is from a while ago: without a record nothing tells whose it is now.
    """
    if not path:
        return ""
    try:
        current = doors.namespaces.identity(path)
    except NamespaceError:
        return path  # plugins know how to go on without it, and the path tells them it is gone
    if not override and current.same_namespace(doors.namespaces.identity(OWN_NAMESPACE)):
        return ""
    if record is None or record.netns is None:
        return "" if late else path
    if record.boot_id != doors.boot_id or not current.same_namespace(record.netns):
        return ""
    return path


def _network(item: Attachment) -> str:
    return item.delegate.plugin_list().name
