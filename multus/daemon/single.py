"""One more network for a container that runs: POST /delegate of the daemon.

A controller that plugs interfaces into running pods asks for this. What it attaches is a step of
the container's own record, so the DEL of the pod, GC and CHECK know of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr.errors import HwmgrError
from multus import cnitypes, known
from multus.attach import cached
from multus.cniargs import parse_args_leniently
from multus.cnitypes import CNIError
from multus.config import load_conf
from multus.delegates import load_delegate
from multus.intents import Phase, Record, Step, StepState
from multus.jsonfields import FieldError, Fields, decode, encode
from multus.namespaces import OWN_NAMESPACE
from multus.plan import plan_attachments
from multus.session import Session
from multus.translate import to_cni
from multus.undo import namespace_to_clean

if TYPE_CHECKING:
    from multus.chain import Attachment
    from multus.cnitypes import CmdArgs
    from multus.doors import Doors
    from multus.jsonfields import Json
    from multus.result import Result

# The interface by which a runtime knows a container; kubelet's runtimes use no other.
_RUNTIMES_IFNAME = "eth0"


class Single:
    """Answers for one delegate, whose configuration is on stdin.

    ``wish`` is what the pod asks of it (ips, mac, cni-args), ``settings`` are the node's multus
    keys (cniDir, binDir, …). Holds nothing, as multus.commands.Engine.
    """

    def __init__(self, doors: Doors, wish: Json, settings: Json) -> None:
        self._doors = doors
        self._wish = wish
        self._settings = settings

    def cmd_add(self, args: CmdArgs) -> Json:
        """Attach; nothing is left of it when it fails."""
        session, item = self._begin(args)
        self._doors.chains.locate(item, session.path)

        def attempt() -> Result:
            with session.locked(args.container_id):
                return self._attach_held(session, item)

        result = self._doors.left.again_when_busy(attempt, session.for_others)
        session.log.did(f"ADD {args.container_id}: attached {item.where()} beside the others")
        return result.data

    def _attach_held(self, session: Session, item: Attachment) -> Result:
        """Attach, with the container's lock held."""
        args = session.args
        self._doors.left.drain_held(args.container_id, session.for_others())
        netns = self._doors.namespaces.identity(args.netns)
        own = self._doors.namespaces.identity(OWN_NAMESPACE)
        if netns.same_namespace(own) and not args.netns_override:
            raise CNIError(
                cnitypes.INVALID_NETNS, f"CNI_NETNS {args.netns} is the host's own namespace"
            )
        record = self._settled(session, item)
        if record.netns is None:
            record = replace(record, netns=netns, netns_path=args.netns)
        if self._doors.namespaces.has_interface(args.netns, item.ifname):
            raise CNIError(cnitypes.INTERNAL, f"{item.where()}: the interface exists already")
        return self._attach(session, record, item)

    def cmd_del(self, args: CmdArgs) -> None:
        """Detach, whether the record knows of it or not."""
        session, item = self._begin(args)
        with session.locked(args.container_id):
            record = self._known(session)
            index = None if record is None else _place(record, item)
            if record is None or index is None:
                netns = namespace_to_clean(self._doors, record, args.netns)
                step = Step(replace(item, netns=netns), StepState.ADDED)
                session.undo.delete(step, self._undo_deadline(session))
            else:
                self._detach(session, record, index)
        session.log.did(f"DEL {args.container_id}: detached {item.where()}")

    def take_back(self, args: CmdArgs) -> None:
        """See skel.Commands."""
        session, item = self._begin(args)
        with session.locked(args.container_id):
            record = session.intents.load(args.container_id)
            mine = record.made_by(self._doors.call_id) if record else []
            if record is None or not mine:
                session.log.did(f"ADD {args.container_id}: {item.where()} is gone already")
                return
            self._detach(session, record, mine[0])

    def cmd_check(self, args: CmdArgs) -> None:
        """Have the plugins check what they made."""
        session, item = self._begin(args)
        with session.locked(args.container_id):
            deadline = session.deadlines.for_attach(self._doors.clock.monotonic())
            result = session.undo.result_of(item)
            self._doors.chains.check(item, session.path, deadline, result)

    def cmd_gc(self, _args: CmdArgs) -> None:
        """Refuse: GC is about all attachments of a node."""
        raise CNIError(cnitypes.INVALID_ENVIRONMENT, "GC is not for one delegate; use /cni")

    def cmd_status(self, args: CmdArgs) -> None:
        """Have the plugins say whether they could attach."""
        session, item = self._begin(replace(args, ifname=_RUNTIMES_IFNAME, container_id="none"))
        deadline = session.deadlines.for_attach(self._doors.clock.monotonic())
        self._doors.chains.status(item.delegate, session.path, deadline)

    def _begin(self, args: CmdArgs) -> tuple[Session, Attachment]:
        pod = parse_args_leniently(args.args)
        try:
            conf = decode(args.stdin, "the delegate")
            name = Fields(conf, "the delegate").text("name")
            wish = {**self._wish, "interface": args.ifname}
            element: Json = {**wish, "namespace": pod.pod_namespace, "name": name}
            delegate = load_delegate(conf, element)
            settings = {**self._settings, "name": name, "delegates": [conf]}
            session = Session.begin(self._doors, args, load_conf(encode(settings)))
            (item,) = plan_attachments(session.conf, [delegate], args, pod)
        except FieldError as error:
            raise to_cni(error) from error
        return session, item

    def _known(self, session: Session) -> Record | None:
        """Return what is known of the container; it was made under the runtime's own name."""
        args = replace(session.args, ifname=_RUNTIMES_IFNAME)
        found = known.find(replace(session, args=args))
        return None if found is None else found.record

    def _settled(self, session: Session, item: Attachment) -> Record:
        """Return the record to add to, without what a killed call for this interface left."""
        record = self._known(session)
        if record is None:
            return replace(known.configured(session, ()), ifname=_RUNTIMES_IFNAME)
        if record.phase is not Phase.ATTACHED:
            raise CNIError(
                cnitypes.TRY_AGAIN_LATER,
                f"container {record.container_id} is being attached or deleted",
            )
        index = _place(record, item)
        if index is None:
            return record
        if record.steps[index].state is StepState.ADDED:
            raise CNIError(cnitypes.INTERNAL, f"{item.where()} is attached already")
        return self._detach(session, record, index)

    def _attach(self, session: Session, record: Record, item: Attachment) -> Result:
        record = replace(record, steps=(*record.steps, self._begun(item)))
        index = len(record.steps) - 1
        session.intents.save(record)
        doors = self._doors
        try:
            doors.checkpoint("add.single.started")
            deadline = session.deadlines.for_attach(doors.clock.monotonic())
            result = doors.chains.add(item, session.path, deadline, lambda _index: None)
            session.saved.save_result(cached(item, result))
            session.intents.save(record.marked(index, StepState.ADDED))
            doors.checkpoint("add.single.added")
        except Exception as error:
            failure = to_cni(error)
            try:
                self._detach(session, record, index)
            except (CNIError, HwmgrError) as left:
                failure = failure.also([to_cni(left)], "rollback incomplete, DEL will finish it")
            raise failure from error
        return result

    def _begun(self, item: Attachment) -> Step:
        return Step(item, StepState.STARTED, call_id=self._doors.call_id)

    def _detach(self, session: Session, record: Record, index: int) -> Record:
        """Undo one step and strike it; returns the record without it."""
        step = record.steps[index]
        if step.state is StepState.STARTED:
            self._doors.orphans.end(record.container_id)
        netns = namespace_to_clean(self._doors, record, session.args.netns)
        session.undo.delete(
            replace(step, attachment=replace(step.attachment, netns=netns)),
            self._undo_deadline(session),
        )
        record = record.without(index)
        if record.steps:
            session.intents.save(record)
        else:
            session.intents.remove(record.container_id)
        return record

    def _undo_deadline(self, session: Session) -> float:
        return session.deadlines.for_undo(self._doors.clock.monotonic(), 1)


def _place(record: Record, item: Attachment) -> int | None:
    """Return where the record has an attachment of that interface, None when it has none."""
    for index in record.held():
        if record.steps[index].attachment.ifname == item.ifname:
            return index
    return None
