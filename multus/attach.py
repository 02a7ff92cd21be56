"""Attach a container to its networks in order, and undo all of them if anything fails."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from multus import default_routes
from multus import version as versions
from multus.cnitypes import PluginFailedError, PluginNotStartedError
from multus.intents import Phase, Record, Step, StepState
from multus.jsonfields import Fields
from multus.report import info_path, write_status
from multus.result import Result, ResultError
from multus.savedstate import CachedResult
from multus.translate import to_cni

if TYPE_CHECKING:
    from hwmgr.model import NetnsIdentity
    from multus.chain import Attachment
    from multus.config import NetConf
    from multus.delegates import Delegate
    from multus.pods import Pod
    from multus.session import Session


def attach(
    session: Session, items: list[Attachment], netns: NetnsIdentity, pod: Pod | None
) -> list[Result]:
    """Run every delegate, set the pod's default routes, write its network-status.

    Returns the results in order, as they are after that. ``pod`` is None outside Kubernetes.

    The journal knows of each one before it runs. On failure those that began are undone, last
    first, and the first error is raised; what could not be undone stays in the journal and is
    named in the error's details.
    """
    record = _record(session, items, netns)
    try:
        # One write says both what is intended and that the first is about to begin.
        session.intents.save(record.marked(0, StepState.STARTED))
        session.doors.checkpoint("add.intended")
        session.saved.save_scratch(record.container_id, [item.delegate for item in items])
        session.doors.checkpoint("add.scratch")
        record = record.marked(0, StepState.STARTED)
        results = []
        last = Phase.ADDING if pod or default_routes.wanted(items) else Phase.ATTACHED
        for index, item in enumerate(items):
            results.append(_attach_one(session, item, index))
            record = _advanced(record, index, last)
            session.intents.save(record)
            session.doors.checkpoint(f"add.delegate.{index}.added")
        if last is Phase.ADDING:
            results = _finished(session, items, results, pod)
            session.intents.save(replace(record, phase=Phase.ATTACHED))
            session.doors.checkpoint("add.attached")
    except Exception as error:
        record = _as_far_as_it_came(record, error)
        undone = session.undo.run(
            record, session.args.netns, session.deadlines, "undo", begun_here=True
        )
        left = undone.problems + undone.excused
        raise to_cni(error).also(left, "rollback incomplete, DEL or GC will finish it") from error
    return results


def printed(conf: NetConf, master: Delegate, result: Result) -> Result:
    """Return the result in the version that the runtime expects.

    That is the version of multus' own configuration (specification 1.1.0, section 5); without one,
    the master's, and 0.1.0 when the master names none either.
    """
    named = master.cni_version or Fields(master.conf, "the delegate").value("cniVersions")
    target = conf.cni_version or (result.version if named else versions.OLDEST)
    try:
        return result.convert(target)
    except ResultError:
        # A link without addresses is attached all the same; 0.1.0 and 0.2.0 have no words for it.
        return Result(target, {"cniVersion": target, "dns": {}})


def _record(session: Session, items: list[Attachment], netns: NetnsIdentity) -> Record:
    args = session.args
    return Record(
        container_id=args.container_id,
        ifname=args.ifname,
        network=session.conf.name,
        cni_dir=session.conf.cni_dir,
        boot_id=session.doors.boot_id,
        netns_path=args.netns,
        netns=netns,
        since=session.doors.clock.now(),
        phase=Phase.ADDING,
        steps=tuple(Step(item, call_id=session.doors.call_id) for item in items),
    )


def _attach_one(session: Session, item: Attachment, index: int) -> Result:
    doors = session.doors
    deadline = session.deadlines.for_attach(doors.clock.monotonic())
    name = f"add.delegate.{index}"
    doors.checkpoint(f"{name}.started")
    _copy_device_info(session, item)
    item = _with_requests_as_args(item)
    result = doors.chains.add(
        item,
        session.path,
        deadline,
        lambda plugin: doors.checkpoint(f"{name}.plugin.{plugin}.ran"),
    )
    session.saved.save_result(cached(item, result))
    doors.checkpoint(f"{name}.cached")
    return result


def cached(item: Attachment, result: Result) -> CachedResult:
    """Return what is saved of a delegate's ADD, for its CHECK and DEL."""
    return CachedResult(
        container_id=item.container_id,
        ifname=item.ifname,
        network=item.delegate.plugin_list().name,
        netns=item.netns,
        conf=item.delegate.conf,
        cni_args=item.cni_args,
        capability_args=item.capability_args,
        result=result.data,
    )


def _with_requests_as_args(item: Attachment) -> Attachment:
    """Say MAC and addresses in CNI_ARGS too, for plugins from before there were capabilities.

    Only an ADD gets them, as with multus-cni; the values have been checked as addresses.
    """
    request = item.delegate.request
    pairs = (("MAC", request.mac), ("IP", ",".join(request.ips)))
    return replace(item, cni_args=item.cni_args + tuple(pair for pair in pairs if pair[1]))


def _copy_device_info(session: Session, item: Attachment) -> None:
    """Offer the plugin what the device plugin said of the device; it can do without."""
    delegate, path = item.delegate, info_path(item)
    if delegate.device_id and delegate.resource_name and path:
        problem = session.doors.device_info.begin(delegate.resource_name, delegate.device_id, path)
        if problem:
            session.log.problem(f"{item.where()}: {problem}")


def _finished(
    session: Session, items: list[Attachment], results: list[Result], pod: Pod | None
) -> list[Result]:
    """Do what needs all networks to be there; returns the results as they are after it."""
    doors = session.doors
    changed = default_routes.take(doors.routes, items, results)
    for item, before, after in zip(items, results, changed, strict=True):
        if after is not before:
            session.saved.save_result(cached(item, after))
    doors.checkpoint("add.routes")
    if pod is not None:
        write_status(pod, items, changed, doors.device_info, session.log)
        doors.checkpoint("add.status")
    return changed


def _as_far_as_it_came(record: Record, error: Exception) -> Record:
    """Say of the step at work what its error tells about it."""
    begun = [i for i, step in enumerate(record.steps) if step.state is StepState.STARTED]
    if begun and isinstance(error, PluginNotStartedError):
        # Its DEL could not start either, and there is nothing to delete.
        return record.marked(begun[0], StepState.INTENDED)
    if begun and isinstance(error, PluginFailedError):
        return record.failed(begun[0], error.index)
    return record


def _advanced(record: Record, index: int, last: Phase) -> Record:
    """Mark one step done and the next one begun in a single write; after the last, the whole."""
    record = record.marked(index, StepState.ADDED)
    if index + 1 < len(record.steps):
        return record.marked(index + 1, StepState.STARTED)
    return replace(record, phase=last)
