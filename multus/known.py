"""What is known of a container: by the journal, else the scratch, else the configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwmgr.errors import RecordTorn
from multus.cniargs import parse_args_leniently
from multus.intents import Phase, Record, Step, StepState
from multus.plan import plan_configured, plan_saved

if TYPE_CHECKING:
    from multus.chain import Attachment
    from multus.cnitypes import CmdArgs
    from multus.config import NetConf
    from multus.doors import Doors
    from multus.intents import Intents
    from multus.savedstate import SavedState


@dataclass(frozen=True, slots=True)
class Known:
    """A container's record; ``certain`` is False when it had to be guessed from configuration."""

    record: Record
    certain: bool


def find(
    doors: Doors, intents: Intents, saved: SavedState, conf: NetConf, args: CmdArgs
) -> Known | None:
    """Return what is known of the call's container, None when nothing is.

    The attachments carry the CNI_NETNS of the call. A damaged record is no reason to forget what
    the container holds: the next source is asked instead, in the end the configured delegates.
    """
    torn = False
    try:
        record = intents.load(args.container_id)
        if record is not None:
            return Known(record, certain=True)
    except RecordTorn as error:
        doors.open_log(conf.log).problem(error.message)
        torn = True
    try:
        delegates = saved.load_scratch(args.container_id)
        if delegates is not None:
            items = plan_saved(conf, delegates, args, parse_args_leniently(args.args))
            return Known(_adopted(doors, saved, conf, args, items), certain=True)
    except RecordTorn as error:
        doors.open_log(conf.log).problem(error.message)
        torn = True
    if torn and conf.delegates:
        return Known(configured(doors, saved, conf, args), certain=False)
    return None


def configured(doors: Doors, saved: SavedState, conf: NetConf, args: CmdArgs) -> Record:
    """Return the record that an ADD with this configuration would have left."""
    pod = parse_args_leniently(args.args)
    items = plan_configured(conf, list(conf.delegates), args, pod)
    return _adopted(doors, saved, conf, args, items)


def _adopted(
    doors: Doors, saved: SavedState, conf: NetConf, args: CmdArgs, items: list[Attachment]
) -> Record:
    """Make a record of what somebody else attached."""
    return Record(
        container_id=args.container_id,
        ifname=args.ifname,
        network=conf.name,
        cni_dir=conf.cni_dir,
        boot_id=doors.boot_id,
        netns_path=args.netns,
        netns=None,
        since=doors.clock.now(),
        phase=Phase.ATTACHED,
        steps=tuple(
            Step(_with_cached_capabilities(saved, item), StepState.ADDED) for item in items
        ),
    )


def _with_cached_capabilities(saved: SavedState, item: Attachment) -> Attachment:
    """Take the capability arguments from libcni's record: the scratch does not keep them all."""
    name = item.delegate.conf_name
    cached = saved.load_result(name, item.container_id, item.ifname) if "/" not in name else None
    if cached is None or not cached.capability_args:
        return item
    return replace(item, capability_args=cached.capability_args)
