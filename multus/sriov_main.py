"""The ``sriov`` executable: the hardware layer as a CNI plugin of its own.

A drop-in for sriov-cni (``deviceID`` …) and for the plugin of 2018 (``if0``, ``dpdk`` …).
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from multus.__main__ import answer_without_engine

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hwmgr.locks import Locks
    from multus.clock import Limits
    from multus.cnitypes import CmdArgs
    from multus.delegates import DelegateCall
    from multus.jsonfields import Json
    from multus.sriov import SriovPlugin


def main() -> int:
    """Answer the call that the environment describes; returns the exit status."""
    answered = answer_without_engine("sriov")
    if answered is not None:
        return answered
    from multus.wiring import serve_process

    return serve_process(_engine)


def _engine() -> SriovCommands:
    from hwmgr.locks import Locks
    from hwmgr.nodeconfig import load
    from hwmgr.store import StateDir
    from multus.clock import Limits
    from multus.hardware import sriov_plugin
    from multus.invoke import LOCK_HELD

    config = load(os.environ)
    plugin = sriov_plugin(os.environ, config)
    limits = Limits(config.add_seconds, config.delegate_seconds)
    held = os.environ.get(LOCK_HELD)
    return SriovCommands(plugin, Locks(StateDir(config.state_dir)), limits, held)


class SriovCommands:
    """The verbs of the protocol, each one call of the delegate under the container's lock."""

    def __init__(
        self, plugin: SriovPlugin, locks: Locks, limits: Limits, held: str | None = None
    ) -> None:
        self._plugin = plugin
        self._locks = locks
        self._limits = limits
        self._held = held

    def cmd_add(self, args: CmdArgs) -> Json:
        """Attach; returns the result to print."""
        with self._locked(args):
            return dict(self._plugin.add(self._call(args)))

    def cmd_del(self, args: CmdArgs) -> None:
        """Detach."""
        with self._locked(args):
            self._plugin.delete(self._call(args))

    def cmd_check(self, args: CmdArgs) -> None:
        """Verify."""
        with self._locked(args):
            self._plugin.check(self._call(args))

    def cmd_gc(self, args: CmdArgs) -> None:
        """Take back what stale containers hold."""
        self._plugin.gc(self._call(args))

    def cmd_status(self, args: CmdArgs) -> None:
        """Say whether an ADD could be served."""
        self._plugin.status(self._call(args))

    def _locked(self, args: CmdArgs) -> AbstractContextManager[None]:
        """Hold the container's lock, unless the multus that called us holds it already."""
        if args.container_id == self._held:
            return nullcontext()
        return self._locks.container(args.container_id)

    def _call(self, args: CmdArgs) -> DelegateCall:
        import time

        from multus.delegates import DelegateCall
        from multus.jsonfields import Fields, decode

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


if __name__ == "__main__":
    sys.exit(main())
