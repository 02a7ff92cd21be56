"""The five verbs, each as the list of its steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr.errors import HwmgrError, RecordTorn
from multus import cnitypes, known, podview
from multus import version as versions
from multus.api.clusterapi import ApiError
from multus.attach import attach, printed
from multus.cniargs import ArgsError, parse_args
from multus.cnitypes import CNIError
from multus.collect import Collection
from multus.config import load_conf
from multus.intents import Intents, Phase
from multus.jsonfields import FieldError
from multus.namespaces import OWN_NAMESPACE
from multus.plan import plan_attachments
from multus.podview import PodGoneError
from multus.report import tell_attached
from multus.session import Session
from multus.spooled import UnworkableError
from multus.translate import to_cni
from multus.undo import namespace_to_clean

if TYPE_CHECKING:
    from hwmgr.model import NetnsIdentity
    from multus.chain import Attachment
    from multus.cniargs import K8sArgs
    from multus.cnitypes import CmdArgs
    from multus.config import NetConf
    from multus.doors import Doors
    from multus.intents import Record
    from multus.jsonfields import Json
    from multus.result import Result


class Engine:
    """Answers CNI calls. Holds no state of its own, so any number may run at once."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def cmd_add(self, args: CmdArgs) -> Json:
        """Attach the container to all its networks, or to none; returns the master's result."""
        session = self._begin(args)
        k8s = _k8s_args(args)
        session.wait_until_ready()
        try:
            view = podview.see(session, k8s)
        except PodGoneError:
            session.log.did(f"ADD {args.container_id}: its pod is gone, nothing is attached")
            return _nothing_attached(session.conf, args)
        items = plan_attachments(session.conf, list(view.selected.delegates), args, k8s)
        for item in items:
            self._doors.chains.locate(item, session.path)

        def attempt() -> list[Result]:
            with session.locked(args.container_id):
                self._doors.left.drain_held(args.container_id, session.for_others())
                netns = self._namespace(args)
                self._finish_earlier_call(session, netns)
                self._refuse_taken_names(args, items)
                return attach(session, items, netns, view.pod)

        results = self._doors.left.again_when_busy(attempt, session.for_others)
        if view.pod is not None:
            tell_attached(view.pod, items, results)
        names = ", ".join(f"{item.delegate.name} as {item.ifname}" for item in items)
        session.log.did(f"ADD {args.container_id} {args.netns}: attached {names}")
        return printed(session.conf, view.selected.delegates[0], results[0]).data

    def cmd_del(self, args: CmdArgs) -> None:
        """Detach the container from everything it holds; error if anything is still held."""
        session = self._begin_delete(args)
        with session.locked(args.container_id):
            self._delete(session)
            self._doors.left.forget_held("multus", args.container_id, args.ifname)

    def take_back(self, args: CmdArgs) -> None:
        """See skel.Commands. What was plugged in beside it meanwhile goes with it."""
        session = self._begin_delete(args)
        with session.locked(args.container_id):
            record = session.intents.load(args.container_id)
            if record is None or not record.made_by(self._doors.call_id):
                session.log.did(f"ADD {args.container_id}: what it attached is gone already")
                return
            self._delete(session)
            self._doors.left.forget_held("multus", args.container_id, args.ifname)

    def delete_held(self, args: CmdArgs) -> None:
        """See spooled.Deleter."""
        try:
            session = self._begin_delete(args)
        except CNIError as error:
            if args.container_id in Intents(self._doors.state).containers():
                raise
            self._doors.chains.release_container(args.container_id)
            raise UnworkableError(error.code, error.msg, error.details) from error
        self._delete(session, late=True)

    def _delete(self, session: Session, *, late: bool = False) -> None:
        args = session.args
        found = known.find(session, lambda: podview.delegates_for_delete(session))
        if found is not None and found.record.ifname != args.ifname:
            session.log.did(f"DEL {args.container_id}: not attached as {args.ifname}")
            return
        record = found.record if found else None
        netns = namespace_to_clean(
            self._doors, record, args.netns, override=args.netns_override, late=late
        )
        problems = []
        if record is not None:
            problems = session.undo.run(record, netns, session.deadlines, "del").problems
        if found is None or not found.certain:
            self._doors.chains.release_container(args.container_id)
        if problems:
            raise problems[0].also(problems[1:], "also still held")
        count = len(record.held()) if record else 0
        session.log.did(f"DEL {args.container_id} {args.ifname}: detached {count} networks")

    def cmd_check(self, args: CmdArgs) -> None:
        """Have every plugin of every network check what it made; the first objection ends it."""
        session = self._begin(args)
        with session.locked(args.container_id):
            self._doors.left.drain_held(args.container_id, session.for_others())
            record = self._record_to_check(session)
            for index in record.held():
                item = replace(record.steps[index].attachment, netns=args.netns)
                plugins = item.delegate.plugin_list()
                if plugins.disable_check or not versions.knows(plugins.cni_version, "CHECK"):
                    continue
                deadline = session.deadlines.for_attach(self._doors.clock.monotonic())
                result = session.undo.result_of(item)
                self._doors.chains.check(item, session.path, deadline, result)
        session.log.did(f"CHECK {args.container_id} {args.ifname}: as it should be")

    def cmd_gc(self, args: CmdArgs) -> None:
        """Free what belongs to no attachment that the runtime still has."""
        session = self._begin(args)
        problems = self._doors.left.drain_all(session.for_others())
        collection = Collection.of(session)
        if collection is None:
            session.log.did("GC: the runtime named no valid attachments, nothing to do")
            _refuse(problems)
            return
        session.wait_until_ready()
        problems += [
            *collection.delete_stale_containers(),
            *collection.delete_stale_results(),
            *collection.tell_plugins(),
        ]
        _refuse(problems)
        session.log.did(f"GC: freed {collection.freed} containers")

    def cmd_status(self, args: CmdArgs) -> None:
        """Return when an ADD could be served; raises CNIError 50 or the default network's own."""
        session = self._begin(args)
        for store in (self._doors.state, self._doors.open_state(session.conf.cni_dir)):
            try:
                store.writable()
            except HwmgrError as error:
                raise CNIError(cnitypes.NOT_AVAILABLE, error.message) from error
        try:
            delegate = podview.default_network(session)
        except (CNIError, ApiError) as error:
            failure = to_cni(error)
            raise CNIError(cnitypes.NOT_AVAILABLE, failure.msg, failure.details) from error
        session.require_ready()
        default = delegate.completed(
            session.conf.name, session.conf.cni_version or versions.FALLBACK
        )
        if versions.knows(default.plugin_list().cni_version, "STATUS"):
            deadline = session.deadlines.for_attach(self._doors.clock.monotonic())
            self._doors.chains.status(default, session.path, deadline)
        session.log.did("STATUS: ready")

    def _begin(self, args: CmdArgs) -> Session:
        try:
            return Session.begin(self._doors, args, load_conf(args.stdin))
        except FieldError as error:
            raise to_cni(error) from error

    def _begin_delete(self, args: CmdArgs) -> Session:
        """Begin a DEL even with a configuration that went bad, if the journal knows the container.

        An administrator who breaks the configuration must not thereby make pods undeletable.
        """
        try:
            return self._begin(args)
        except CNIError as error:
            conf = self._conf_of_record(args)
            if conf is None:
                raise
            session = Session.begin(self._doors, args, conf)
            session.log.problem(f"DEL {args.container_id} goes by the journal alone: {error.msg}")
            return session

    def _conf_of_record(self, args: CmdArgs) -> NetConf | None:
        from multus.jsonfields import encode

        try:
            record = Intents(self._doors.state).load(args.container_id)
        except RecordTorn:
            return None
        if record is None:
            return None
        minimal: Json = {
            "name": record.network,
            "cniDir": record.cni_dir,
            # Only its presence counts: what to delete is in the record.
            "delegates": [step.attachment.delegate.conf for step in record.steps[:1]],
        }
        return load_conf(encode(minimal))

    def _namespace(self, args: CmdArgs) -> NetnsIdentity:
        """Return which namespace to attach to; raises CNIError 8 when it is none, or our own."""
        netns = self._doors.namespaces.identity(args.netns)
        own = self._doors.namespaces.identity(OWN_NAMESPACE)
        if netns.same_namespace(own) and not args.netns_override:
            raise CNIError(
                cnitypes.INVALID_NETNS, f"CNI_NETNS {args.netns} is the host's own namespace"
            )
        return netns

    def _finish_earlier_call(self, session: Session, netns: NetnsIdentity) -> None:
        """Undo what a killed ADD or DEL of this container left, or an earlier boot."""
        args = session.args
        try:
            record = session.intents.load(args.container_id)
        except RecordTorn as error:
            raise to_cni(error) from error
        if record is None:
            return
        if self._is_attached(record, netns):
            raise CNIError(
                cnitypes.INTERNAL,
                f"container {args.container_id} is attached already as {record.ifname}; "
                "the runtime must DEL it first",
            )
        clean = namespace_to_clean(self._doors, record, record.netns_path)
        problems = session.undo.run(record, clean, session.deadlines, "undo").problems
        if problems:
            first = problems[0].also(problems[1:], "also still held")
            raise first.within("an earlier call for this container cannot be undone")

    def _is_attached(self, record: Record, netns: NetnsIdentity) -> bool:
        same = record.boot_id == self._doors.boot_id and netns.same_namespace(record.netns)
        return same and record.phase is Phase.ATTACHED

    def _refuse_taken_names(self, args: CmdArgs, items: list[Attachment]) -> None:
        """Refuse before anything runs, so that no rollback can touch an interface of others."""
        for item in items:
            if self._doors.namespaces.has_interface(args.netns, item.ifname):
                raise CNIError(
                    cnitypes.INTERNAL,
                    f"{item.where()}: an interface {item.ifname} exists already in {args.netns}",
                )

    def _record_to_check(self, session: Session) -> Record:
        args = session.args
        found = known.find(session)
        if found is None or found.record.ifname != args.ifname:
            return known.configured(session, session.conf.delegates)
        if found.record.phase is not Phase.ATTACHED:
            raise CNIError(
                cnitypes.INTERNAL,
                f"container {args.container_id} is not attached completely "
                f"({found.record.phase.value}); the runtime must DEL it",
            )
        return found.record


def _refuse(problems: list[CNIError]) -> None:
    if problems:
        raise problems[0].also(problems[1:], "also failing")


def _nothing_attached(conf: NetConf, args: CmdArgs) -> Json:
    """Return the result for a pod that is gone: the runtime wants one, and will DEL soon."""
    return {
        "cniVersion": conf.cni_version or versions.OLDEST,
        "interfaces": [{"name": args.ifname, "sandbox": args.netns}],
        "ips": [{"address": "0.0.0.0/0", "gateway": "0.0.0.0"}],  # noqa: S104 no socket
    }


def _k8s_args(args: CmdArgs) -> K8sArgs:
    try:
        return parse_args(args.args)
    except ArgsError as error:
        raise CNIError(cnitypes.INVALID_ENVIRONMENT, str(error)) from error
