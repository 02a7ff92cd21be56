"""The verbs of the ``sriov`` executable, each one call of the delegate."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from multus.delegates import DelegateCall
from multus.jsonfields import FieldError, Fields, decode

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hwmgr.locks import Locks
    from multus.clock import Limits
    from multus.cnitypes import CmdArgs
    from multus.jsonfields import Json
    from multus.spooled import LeftCalls
    from multus.sriov import SriovPlugin


class SriovCommands:
    """The verbs of the protocol, under the container's lock.

    ``left`` are the DELs that a shim left for later. ``held`` names a container whose lock the
    multus that called us holds: it sees to what is left for that one, too.
    """

    def __init__(
        self,
        plugin: SriovPlugin,
        locks: Locks,
        limits: Limits,
        left: LeftCalls,
        held: str | None = None,
    ) -> None:
        self._plugin = plugin
        self._locks = locks
        self._limits = limits
        self._left = left
        self._held = held

    def cmd_add(self, args: CmdArgs) -> Json:
        """Attach; returns the result to print."""

        def attempt() -> Json:
            with self._locked(args):
                self._drain(args)
                return dict(self._plugin.add(self._call(args)))

        if args.container_id == self._held:
            return attempt()
        return self._left.again_when_busy(attempt, self._for_others)

    def cmd_del(self, args: CmdArgs) -> None:
        """Detach."""
        with self._locked(args):
            self._plugin.delete(self._call(args))
            self._left.forget_held("sriov", args.container_id, args.ifname)

    def take_back(self, args: CmdArgs) -> None:
        """See skel.Commands."""
        with self._locked(args):
            self._plugin.take_back(self._call(args))

    def delete_held(self, args: CmdArgs) -> None:
        """See spooled.Deleter. The hardware goes by its records, whatever the configuration is."""
        try:
            call = self._call(args)
        except FieldError:
            call = self._call(replace(args, stdin=b"{}"))
        if not self._plugin.has_record(call):
            # The path may be another pod's by now, and nothing tells.
            call = replace(call, netns="")
        self._plugin.delete(call)

    def cmd_check(self, args: CmdArgs) -> None:
        """Verify."""
        with self._locked(args):
            self._drain(args)
            self._plugin.check(self._call(args))

    def cmd_gc(self, args: CmdArgs) -> None:
        """Take back what stale containers hold."""
        problems = self._left.drain_all(self._for_others())
        self._plugin.gc(self._call(args))
        if problems:
            raise problems[0].also(problems[1:], "also failing")

    def cmd_status(self, args: CmdArgs) -> None:
        """Say whether an ADD could be served."""
        self._plugin.status(self._call(args))

    def _drain(self, args: CmdArgs) -> None:
        if args.container_id != self._held:
            self._left.drain_held(args.container_id, self._for_others())

    def _for_others(self) -> float:
        return time.monotonic() + self._limits.delegate / 4

    def _locked(self, args: CmdArgs) -> AbstractContextManager[None]:
        """Hold the container's lock, unless the multus that called us holds it already."""
        if args.container_id == self._held:
            return nullcontext()
        return self._locks.container(args.container_id)

    def _call(self, args: CmdArgs) -> DelegateCall:
        conf = decode(args.stdin, "the configuration on stdin")
        Fields(conf, "the configuration on stdin")
        return DelegateCall(
            conf=conf if isinstance(conf, dict) else {},
            command=args.command,
            container_id=args.container_id,
            netns=args.netns,
            ifname=args.ifname,
            args=args.args,
            path=tuple(folder for folder in args.path.split(":") if folder),
            deadline=time.monotonic() + self._limits.delegate,
        )
