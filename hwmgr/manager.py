"""The device plane's front: attach, check, detach and collect, for many callers at once."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hwmgr import adopt
from hwmgr.attach import attach
from hwmgr.devicefiles import device_files
from hwmgr.driver import current_driver
from hwmgr.errors import CheckFailed, HwmgrError, NotAttached, UndoIncomplete
from hwmgr.locate import here, inside, open_owner
from hwmgr.model import Kind, Stage
from hwmgr.restore import give_up
from hwmgr.vfsettings import differences

if TYPE_CHECKING:
    from collections.abc import Collection

    from hwmgr.model import Attached, AttachRequest, Record
    from hwmgr.node import Node


class Manager:
    """Hands functions of one node to containers and takes them back.

    It has no state of its own: everything is in the node's state directory, so any number of
    managers, threads and processes may work on one node.
    """

    def __init__(self, node: Node) -> None:
        self.node = node

    def attach(self, request: AttachRequest) -> Attached:
        """Give a function to a container; see hwmgr.attach.attach for what it raises."""
        return attach(self.node, request)

    def held(self, container_id: str, ifname: str | None = None) -> list[Record]:
        """Return the records of what a container holds, of all its interfaces or of one."""
        return self.node.journal.owned_by(container_id, ifname)

    def detach(
        self,
        container_id: str,
        ifname: str,
        netns_path: str | None = None,
        saved_dir: str | None = None,
    ) -> bool:
        """Take back what a container holds as ``ifname``; tell whether there was anything.

        Where no record of ours says so, the state files of the 2018 plugin and of sriov-cni are
        asked (also in ``saved_dir``), so that pods which those attached can be deleted by us. A
        function that has a new owner by now is not touched. Raises UndoIncomplete; calling again
        goes on.
        """
        found = self.held(container_id, ifname)
        if not found:
            found = adopt.foreign_records(self.node, container_id, ifname, netns_path, saved_dir)
        problems: list[str] = []
        for record in found:
            try:
                self._detach_one(record, netns_path)
            except UndoIncomplete as error:
                problems += error.problems
            except HwmgrError as error:
                problems.append(str(error))
        if problems:
            raise UndoIncomplete(f"{ifname} of container {container_id[:13]}", problems)
        return bool(found)

    def detach_container(self, container_id: str) -> list[str]:
        """Take back all that a container holds; return what could not be, in words."""
        problems = []
        for ifname in sorted({r.owner.ifname for r in self.held(container_id)}):
            try:
                self.detach(container_id, ifname)
            except HwmgrError as error:
                problems.append(str(error))
        return problems

    def collect(self, valid: Collection[str], network: str | None = None) -> list[str]:
        """Take back what containers not in ``valid`` hold; return what could not be, in words.

        With ``network`` only what was attached to it: a list of valid attachments speaks of one
        network, and a container may be on others.
        """
        owners = [r.owner for r in self.node.journal.records()]
        stale = {
            (o.container_id, o.ifname)
            for o in owners
            if o.container_id not in valid and network in (None, o.network)
        }
        problems = []
        for container_id, ifname in sorted(stale):
            try:
                self.detach(container_id, ifname)
            except HwmgrError as error:
                problems.append(str(error))
        return problems

    def check(self, container_id: str, ifname: str) -> Record:
        """Raise CheckFailed unless the function is as it was left, NotAttached without a record."""
        found = self.held(container_id, ifname)
        if not found:
            raise NotAttached(container_id, ifname)
        findings: list[str] = []
        for record in found:
            findings += self._findings(record)
        if findings:
            raise CheckFailed(findings)
        return found[0]

    def _detach_one(self, record: Record, netns_path: str | None) -> None:
        node = self.node
        with ExitStack() as locks:
            locks.enter_context(node.locks.pf(record.pf_address))
            locks.enter_context(node.locks.function(record.address))
            now = node.journal.read(record.address)
            owner = record.owner
            if now is not None:
                # Between the look-up and the lock it may have been given to somebody else.
                if now.owned_by(owner.container_id, owner.ifname):
                    give_up(node, now, netns_path)
            elif record.note.get("foreign"):
                give_up(node, record, netns_path)

    def _findings(self, record: Record) -> list[str]:
        node, address = self.node, record.address
        findings = []
        if record.stage is not Stage.ATTACHED:
            findings.append(f"{address}: the attachment is unfinished ({record.stage})")
        if record.boot_id != node.boot_id:
            return [*findings, f"{address}: the node has been rebooted since it was attached"]
        driver = current_driver(node.sysfs, address)
        expected = record.driver or record.before.driver
        if driver != expected:
            findings.append(f"{address}: driver is {driver}, it was {expected}")
        if record.index is not None:
            findings += self._settings_findings(record)
        if record.kind is Kind.DPDK:
            if not device_files(node.sysfs, address, node.dev):
                findings.append(f"{address}: its device file is gone")
            return findings
        fd = open_owner(node, record.owner.netns)
        if fd is None:
            return [*findings, f"{address}: the container's namespace is gone"]
        try:
            names = {n.name for n in inside(node, fd, address)}
        finally:
            os.close(fd)
        if record.owner.ifname not in names:
            findings.append(f"{address}: {record.owner.ifname} is not in the container's namespace")
        return findings

    def _settings_findings(self, record: Record) -> list[str]:
        pf_netdevs = here(self.node, record.pf_address)
        if not pf_netdevs or record.index is None:
            return []
        with self.node.netlink.links() as links:
            now = links.vf_settings(pf_netdevs[0].index).get(record.index)
        if now is None:
            return [f"{record.address}: its PF does not list it any more"]
        change = differences(now, record.settings)
        return [
            f"{record.address}: {name} is {getattr(now, name)}, it was set to {value}"
            for name in ("mac", "vlan", "qos", "spoofchk", "trust", "link_state", "max_rate")
            if (value := getattr(change, name)) is not None
        ]
