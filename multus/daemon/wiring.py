"""The engine inside the daemon: what lives as long as it, and what each call brings along.

A call of a program runs as if that program had been started with the call's environment, except
that the node's own settings are the daemon's.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwmgr.locks import Locks
from hwmgr.run import KernelRunner
from hwmgr.store import StateDir
from multus import cnitypes
from multus.chain import Chains
from multus.clock import Limits, SystemClock
from multus.cnitypes import CNIError
from multus.commands import Engine
from multus.daemon.calllog import Notes
from multus.daemon.measured import MeasuredPlugin
from multus.daemon.single import Single
from multus.devices.deviceinfo import DeviceInfo
from multus.doors import Doors
from multus.hardware import plugin_on
from multus.invoke import LOCK_HELD, STATE_DIR, ExecPlugin
from multus.jsonfields import FieldError
from multus.logs import NodeLog
from multus.namespaces import KernelNamespaces
from multus.orphans import KernelOrphans
from multus.routes import KernelRoutes
from multus.skel import Process, serve
from multus.spooled import LeftCalls
from multus.sriov_commands import SriovCommands
from multus.wiring import devices_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from hwmgr.frames import Call
    from hwmgr.node import Node
    from hwmgr.nodeconfig import NodeConfig
    from multus.api.cluster import Cluster
    from multus.cnitypes import CmdArgs
    from multus.config import LogConfig
    from multus.daemon.daemonconf import DaemonFile
    from multus.daemon.metrics import Metrics
    from multus.delegates import PluginRunner
    from multus.jsonfields import Json
    from multus.logs import Log
    from multus.skel import Commands
    from multus.spooled import Deleter

_OURS = "HWMGR_"
# What a program of a call with no environment to speak of (Go's /delegate) is started with.
_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who made a call: whether they still wait for it, and what is said meanwhile.

    ``call_id`` is in the record of what the call attaches.
    """

    notes: Notes
    gone: Callable[[], bool]
    call_id: str = ""


class Workshop:
    """Runs calls, any number at once; ``connect`` opens the cluster, see Doors.

    ``die`` ends the process: a thread that cannot leave a pod's namespace (hwmgr.netns) would work
    in it for the next call. The journal tells the next daemon what was begun.
    """

    def __init__(
        self,
        node: Node,
        config: NodeConfig,
        file: DaemonFile,
        *,
        connect: Callable[[str, float], Cluster | None],
        metrics: Metrics,
        die: Callable[[str], NoReturn],
    ) -> None:
        self._config = config
        self._file = file
        self._metrics = metrics
        self._die = die
        self._clock = SystemClock()
        self._limits = Limits(config.add_seconds, config.delegate_seconds)
        self._runner = KernelRunner()
        self.node = node
        self.left = LeftCalls(node.state, self._deleter, self._clock, node.log)
        self._connect = connect
        self._namespaces, self._routes = KernelNamespaces(), KernelRoutes()
        self._device_info = DeviceInfo()

    def run(
        self, call: Call, caller: Caller, wish: Json | None = None, *, take_back: bool = False
    ) -> tuple[int, bytes, bytes]:
        """Run a call; returns exit status, standard output and standard error.

        With a ``wish`` its input is one delegate's configuration, see multus.daemon.single. For
        ``take_back`` see skel.serve.
        """
        env = inherited(call.env)
        stdout, stderr = io.StringIO(), io.StringIO()
        stdin = self._stdin(call) if wish is None else call.stdin

        def commands() -> Commands:
            if wish is not None:
                return Single(self.doors(env, stderr, caller), wish, self._file.keys or {})
            if call.program == "multus":
                return Engine(self.doors(env, stderr, caller))
            return self._sriov_commands(env, self._limits, caller.call_id)

        process = Process(env, io.BytesIO(stdin), stdout, stderr)
        try:
            status = serve(process, commands, caller.notes.complain, take_back=take_back)
        except SystemExit as error:
            self._die(str(error))
        return status, _bytes(stdout), _bytes(stderr)

    def doors(self, env: Mapping[str, str], stderr: io.StringIO, caller: Caller) -> Doors:
        """Return the doors for one call, with what depends on its environment."""

        def checkpoint(name: str) -> None:
            if name.startswith("add.") and caller.gone():
                raise CNIError(cnitypes.TRY_AGAIN_LATER, "the caller of this ADD went away")

        def open_log(keys: LogConfig) -> Log:
            return NodeLog(keys, syslog=caller.notes.take, stderr=stderr, now=self._clock.now)

        plugins = ExecPlugin(self._runner, self._env(env), self._clock)
        return Doors(
            state=self.node.state,
            open_state=StateDir,
            chains=Chains(self._measured(plugins), {"sriov": lambda: self._sriov(env)}),
            namespaces=self._namespaces,
            connect=self._connect,
            devices=lambda pod: devices_of(pod, self._clock, self._config),
            device_info=self._device_info,
            routes=self._routes,
            orphans=KernelOrphans(env, self._config.state_dir),
            left=self.left,
            clock=self._clock,
            boot_id=self.node.boot_id,
            open_log=open_log,
            checkpoint=checkpoint,
            limits=self._limits,
            call_id=caller.call_id,
        )

    def _stdin(self, call: Call) -> bytes:
        if call.program != "multus":
            return call.stdin
        try:
            return self._file.over(call.stdin)
        except FieldError:
            return call.stdin  # the engine says what is wrong with it, in the words of CNI

    def _sriov_commands(
        self, env: Mapping[str, str], limits: Limits, call_id: str = ""
    ) -> SriovCommands:
        allowed = self._config.allowed_dirs
        plugin = plugin_on(self.node, self._runner, self._env(env), allowed, call_id)
        locks = Locks(self.node.state)
        return SriovCommands(plugin, locks, limits, self.left, env.get(LOCK_HELD))

    def _deleter(self, call: Call, seconds: float) -> Deleter:
        """Return what does a DEL that a shim left for later, see LeftCalls."""
        usual, env = self._limits, inherited(call.env)
        limits = Limits(min(usual.whole, seconds), min(usual.delegate, seconds))
        if call.program == "sriov":
            return self._sriov_commands(env, limits)
        caller = Caller(Notes(), gone=lambda: False)
        doors = replace(self.doors(env, io.StringIO(), caller), limits=limits)
        return _Overlaid(Engine(doors), self._file)

    def _sriov(self, env: Mapping[str, str]) -> PluginRunner:
        allowed = self._config.allowed_dirs
        return self._measured(plugin_on(self.node, self._runner, self._env(env), allowed))

    def _measured(self, runner: PluginRunner) -> PluginRunner:
        return MeasuredPlugin(runner, self._metrics.delegates, self._clock)

    def _env(self, env: Mapping[str, str]) -> dict[str, str]:
        return {**env, STATE_DIR: self._config.state_dir}


class _Overlaid:
    """Does DELs with the daemon's own keys over the configuration that came with the call."""

    def __init__(self, engine: Engine, file: DaemonFile) -> None:
        self._engine = engine
        self._file = file

    def delete_held(self, args: CmdArgs) -> None:
        """See spooled.Deleter."""
        # A DEL with a configuration that went bad goes by the journal.
        with suppress(FieldError):
            args = replace(args, stdin=self._file.over(args.stdin))
        self._engine.delete_held(args)


def inherited(env: Mapping[str, str]) -> dict[str, str]:
    """Return what plugins inherit of a caller: all but what would set up another node than ours.

    Whose container's lock the caller holds is told on: its call is a part of another one.
    """
    ours = {
        name: value
        for name, value in env.items()
        if not name.startswith(_OURS) or name == LOCK_HELD
    }
    ours.setdefault("PATH", os.environ.get("PATH") or _USUAL_PATH)
    return ours


def _bytes(text: io.StringIO) -> bytes:
    return text.getvalue().encode("utf-8", "backslashreplace")
