"""Garbage collection: free what the runtime's list of valid attachments does not cover.

Specification 1.1.0, section 2 "GC". The runtime lists the attachments of multus, one a container;
each of multus' own networks of a listed container is valid with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hwmgr.errors import HwmgrError, LockTimeout, RecordTorn
from multus import known, podview
from multus import version as versions
from multus.api.clusterapi import ApiError
from multus.chain import Attachment
from multus.cnitypes import CNIError, valid_name
from multus.delegates import load_delegate
from multus.jsonfields import FieldError, Fields, Json
from multus.translate import to_cni
from multus.undo import namespace_to_clean

if TYPE_CHECKING:
    from multus.config import NetConf
    from multus.delegates import Delegate
    from multus.intents import Record
    from multus.session import Session

_KEY = "cni.dev/valid-attachments"
_KEY_OF_THE_FIRST_TEXT = "cni.dev/attachments"
_LOCK_SECONDS = 2.0
_USUAL_IFNAME = "eth0"


class Collection:
    """One GC call; ``valid`` maps container ids to the interface names that the runtime gave."""

    def __init__(self, session: Session, valid: dict[str, list[str]]) -> None:
        self._session = session
        self._valid = valid
        self._records: dict[str, Record] = {}
        self._networks: dict[str, Delegate] = {}
        self._busy: set[str] = set()
        self.freed = 0

    @classmethod
    def of(cls, session: Session) -> Collection | None:
        """Read the runtime's list, None when it gave none; raises CNIError 7 on a malformed one."""
        fields = Fields(session.conf.raw, "the configuration")
        key = _KEY if fields.present(_KEY) else _KEY_OF_THE_FIRST_TEXT
        valid: dict[str, list[str]] = {}
        try:
            items = fields.objects(key)
            for item in items or []:
                entry = Fields(item, f"an item of {key}")
                valid.setdefault(entry.text("containerID"), []).append(entry.text("ifname"))
        except FieldError as error:
            raise to_cni(error) from error
        return None if items is None else cls(session, valid)

    def delete_stale_containers(self) -> list[CNIError]:
        """DEL every container of this network that is not valid; returns what failed."""
        problems: list[CNIError] = []
        session = self._session
        journal = session.intents.containers()
        scratch = [name for name in session.saved.containers() if valid_name(name)]
        for container_id in dict.fromkeys([*journal, *scratch]):
            try:
                problems.extend(self._visit(container_id))
            except LockTimeout:
                # Somebody is at work on it this moment, so it is anything but garbage.
                self._busy.add(container_id)
                self._remember_busy(container_id)
            except (CNIError, HwmgrError, ValueError) as error:
                problems.append(to_cni(error).within(f"container {container_id}"))
        return problems

    def delete_stale_results(self) -> list[CNIError]:
        """DEL attachments that only libcni's records remember; returns what failed."""
        problems: list[CNIError] = []
        session = self._session
        networks = {delegate.conf_name or session.conf.name for delegate in session.conf.delegates}
        networks |= set(self._networks)
        results = session.saved.results()
        # A container with one network of ours has all of them from us.
        ours = {cached.container_id for cached in results if cached.network in networks}
        for cached in results:
            alive = cached.container_id in {*self._valid, *self._busy, *self._records}
            if alive or cached.container_id not in ours:
                continue
            try:
                delegate = load_delegate(cached.conf).completed(cached.network, "")
                item = Attachment(
                    delegate=delegate,
                    container_id=cached.container_id,
                    netns=namespace_to_clean(session.doors, None, cached.netns, late=True),
                    ifname=cached.ifname,
                    cni_args=cached.cni_args,
                    capability_args=cached.capability_args,
                )
                deadline = session.deadlines.for_undo(session.doors.clock.monotonic(), 4)
                result = session.undo.result_of(item)
                session.doors.chains.delete(item, session.path, deadline, result)
                session.saved.remove_result(cached.network, cached.container_id, cached.ifname)
            except (CNIError, HwmgrError, ValueError) as error:
                problems.append(to_cni(error).within(f"container {cached.container_id}"))
        return problems

    def tell_plugins(self) -> list[CNIError]:
        """Have the plugins of every network collect: the node's own, and those of any pod.

        Returns what failed.
        """
        problems: list[CNIError] = []
        session = self._session
        for name, delegate in self._all_networks().items():
            try:
                plugins = delegate.plugin_list()
                if plugins.disable_gc or not versions.knows(plugins.cni_version, "GC"):
                    continue
                deadline = session.deadlines.for_attach(session.doors.clock.monotonic())
                session.doors.chains.gc(delegate, self._valid_of(name), session.path, deadline)
            except (CNIError, HwmgrError, ValueError) as error:
                problems.append(to_cni(error))
        return problems

    def _all_networks(self) -> dict[str, Delegate]:
        """Return the networks by name: the node's own come first and win."""
        conf = self._session.conf
        version = conf.cni_version or versions.FALLBACK
        own = [delegate.completed(conf.name, version) for delegate in self._configured()]
        named = {delegate.plugin_list().name: delegate for delegate in own}
        return {**named, **{k: v for k, v in self._networks.items() if k not in named}}

    def _configured(self) -> list[Delegate]:
        session = self._session
        if session.conf.delegates:
            return list(session.conf.delegates)
        try:
            return [podview.default_network(session)]
        except (CNIError, ApiError) as error:
            # The records name the networks of every pod that there is; this one may have none.
            session.log.problem(f"GC without the default network: {to_cni(error).msg}")
            return []

    def _visit(self, container_id: str) -> list[CNIError]:
        session = self._session
        with session.locked(container_id, _LOCK_SECONDS):
            record = self._record(container_id)
            if record is None:
                return []
            self._note_networks(record)
            if container_id in self._valid or not self._ours(record):
                self._records[container_id] = record
                return []
            netns = namespace_to_clean(session.doors, record, record.netns_path)
            problems = session.undo.run(record, netns, session.deadlines, "gc").problems
        if not problems:
            self.freed += 1
        return [problem.within(f"container {container_id}") for problem in problems]

    def _remember_busy(self, container_id: str) -> None:
        """Have plugins told of what a container holds whose lock somebody has: it is valid."""
        try:
            record = self._session.intents.load(container_id)
        except RecordTorn:
            return
        if record is not None:
            self._records[container_id] = record
            self._note_networks(record)

    def _note_networks(self, record: Record) -> None:
        for step in record.steps:
            delegate = step.attachment.delegate
            self._networks[delegate.plugin_list().name] = delegate

    def _record(self, container_id: str) -> Record | None:
        """Return what is known of a container, None when nothing is."""
        session = self._session
        try:
            record = session.intents.load(container_id)
        except RecordTorn:
            record = None
        if record is not None:
            return record
        ifnames = self._valid.get(container_id) or [_USUAL_IFNAME]
        args = replace(
            session.args, container_id=container_id, ifname=ifnames[0], netns="", args=""
        )
        found = known.find(replace(session, args=args))
        return found.record if found else None

    def _ours(self, record: Record) -> bool:
        """Tell whether this call's list speaks of the record's network; others are not garbage."""
        conf = self._session.conf
        return (record.network, record.cni_dir) == (conf.name, conf.cni_dir)

    def _valid_of(self, network: str) -> list[Json]:
        """Return the valid attachments of one network, with its own interface names."""
        valid: list[Json] = []
        conf = self._session.conf
        for container_id in dict.fromkeys([*self._valid, *self._records, *sorted(self._busy)]):
            record = self._records.get(container_id)
            if record is None:
                places = [i for i, d in enumerate(conf.delegates) if _named(d, conf) == network]
                given = self._valid.get(container_id) or [_USUAL_IFNAME]
                names = [name for i in places for name in (given if i == 0 else [f"net{i}"])]
            else:
                items = [step.attachment for step in record.steps]
                names = [i.ifname for i in items if i.delegate.plugin_list().name == network]
            valid.extend({"containerID": container_id, "ifname": name} for name in names)
        return valid


def _named(delegate: Delegate, conf: NetConf) -> str:
    return delegate.conf_name or conf.name
