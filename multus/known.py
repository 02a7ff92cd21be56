"""What is known of a container: by the journal, else the scratch, else the configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwmgr.errors import RecordTorn
from multus.chain import Attachment
from multus.cniargs import parse_args_leniently
from multus.delegates import load_delegate
from multus.intents import Phase, Record, Step, StepState
from multus.jsonfields import FieldError
from multus.plan import plan_configured, plan_saved

if TYPE_CHECKING:
    from collections.abc import Callable

    from multus.delegates import Delegate
    from multus.savedstate import SavedState
    from multus.session import Session


@dataclass(frozen=True, slots=True)
class Known:
    """A container's record; ``certain`` is False when it had to be guessed from configuration."""

    record: Record
    certain: bool


def find(session: Session, rebuild: Callable[[], tuple[Delegate, ...]] = tuple) -> Known | None:
    """Return what is known of the call's container, None when nothing is.

    The attachments carry the CNI_NETNS of the call. A damaged record is no reason to forget what
    the container holds: the next source is asked instead, in the end ``rebuild``, which says what
    the pod would be given today, and the configured delegates.
    """
    args, log = session.args, session.log
    torn = False
    try:
        record = session.intents.load(args.container_id)
        if record is not None:
            return Known(record, certain=True)
    except RecordTorn as error:
        log.problem(error.message)
        torn = True
    try:
        delegates = session.saved.load_scratch(args.container_id)
        if delegates is not None:
            pod = parse_args_leniently(args.args)
            items = plan_saved(session.conf, delegates, args, pod)
            return Known(_adopted(session, items), certain=True)
    except RecordTorn as error:
        log.problem(error.message)
        torn = True
    if torn and (items := _of_results(session)):
        return Known(_adopted(session, items), certain=False)
    delegates_today = rebuild() or (session.conf.delegates if torn else ())
    if delegates_today:
        return Known(configured(session, delegates_today), certain=False)
    return None


def configured(session: Session, delegates: tuple[Delegate, ...]) -> Record:
    """Return the record that an ADD with these delegates would have left."""
    pod = parse_args_leniently(session.args.args)
    items = plan_configured(session.conf, list(delegates), session.args, pod)
    return _adopted(session, items)


def _of_results(session: Session) -> list[Attachment]:
    """Return the attachments that libcni's records tell of: each has its whole configuration."""
    found = []
    for cached in session.saved.results():
        if cached.container_id == session.args.container_id:
            try:
                delegate = load_delegate(cached.conf).completed(cached.network, "")
            except FieldError as error:
                session.log.problem(f"{cached.network} of {cached.container_id}: {error}")
                continue
            found.append(
                Attachment(
                    delegate=delegate,
                    container_id=cached.container_id,
                    netns=session.args.netns,
                    ifname=cached.ifname,
                    cni_args=cached.cni_args,
                    capability_args=cached.capability_args,
                )
            )
    return found


def _adopted(session: Session, items: list[Attachment]) -> Record:
    """Make a record of what somebody else attached."""
    args, conf = session.args, session.conf
    return Record(
        container_id=args.container_id,
        ifname=args.ifname,
        network=conf.name,
        cni_dir=conf.cni_dir,
        boot_id=session.doors.boot_id,
        netns_path=args.netns,
        netns=None,
        since=session.doors.clock.now(),
        phase=Phase.ATTACHED,
        steps=tuple(
            Step(_with_cached_capabilities(session.saved, item), StepState.ADDED) for item in items
        ),
    )


def _with_cached_capabilities(saved: SavedState, item: Attachment) -> Attachment:
    """Take the capability arguments from libcni's record: the scratch does not keep them all."""
    name = item.delegate.conf_name
    cached = saved.load_result(name, item.container_id, item.ifname) if "/" not in name else None
    if cached is None or not cached.capability_args:
        return item
    return replace(item, capability_args=cached.capability_args)
