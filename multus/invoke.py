"""Run a delegate's plugin as a program: find it, build its environment, read what it answers.

Specification sections 2 and 3; the mapping of a failed plugin follows libcni's invoke package.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from hwmgr.errors import RunError, RunTimeout
from multus import cnitypes
from multus.cnitypes import CNIError, PluginFailedError, PluginNotStartedError
from multus.jsonfields import FieldError, Fields, decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwmgr.run import Completed, Runner
    from multus.clock import Clock
    from multus.delegates import DelegateCall

# A plugin that an installer is still writing cannot be executed (ETXTBSY): wait, but not for long.
_BUSY_SECONDS = 6.0
_BUSY_FIRST_WAIT = 0.05
_EXCERPT = 200
# Our own plugin under another type name, run by us, must not wait for the lock that we hold.
LOCK_HELD = "HWMGR_LOCKED_CONTAINER"
# Whose container that is: a test beside a node's own multus may use the same ids.
STATE_DIR = "HWMGR_STATE_DIR"


class ExecPlugin:
    """Runs plugins as programs; ``env`` is inherited, the CNI variables are set for each call."""

    def __init__(self, runner: Runner, env: Mapping[str, str], clock: Clock) -> None:
        self._runner = runner
        self._env = env
        self._clock = clock

    def add(self, call: DelegateCall) -> Mapping[str, object]:
        """See PluginRunner.add. ``null`` is an empty result, as for libcni."""
        output = self._run(call).stdout
        if not output.strip():
            raise CNIError(cnitypes.INTERNAL, "the plugin succeeded but printed no result")
        try:
            value = decode(output, "the plugin's result")
        except FieldError as error:
            raise CNIError(cnitypes.INTERNAL, str(error), _excerpt(output)) from error
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise CNIError(
                cnitypes.INTERNAL, "the plugin's result is not a JSON object", _excerpt(output)
            )
        return value

    def check(self, call: DelegateCall) -> None:
        """See PluginRunner.check."""
        self._run(call)

    def delete(self, call: DelegateCall) -> None:
        """See PluginRunner.delete."""
        self._run(call)

    def gc(self, call: DelegateCall) -> None:
        """See PluginRunner.gc."""
        self._run(call)

    def status(self, call: DelegateCall) -> None:
        """See PluginRunner.status."""
        self._run(call)

    def _run(self, call: DelegateCall) -> Completed:
        name = call.plugin or Fields(call.conf, "the configuration").text("type")
        path = find_plugin(name, call.path)
        try:
            done = self._run_when_not_busy(path, call)
        except RunTimeout as error:
            raise CNIError(cnitypes.INTERNAL, f"time limit: {error.message}") from error
        except RunError as error:
            raise PluginNotStartedError(cnitypes.INTERNAL, error.message) from error
        if done.returncode != 0:
            failure = plugin_error(done)
            if done.returncode < 0:
                raise failure
            raise PluginFailedError(failure.code, failure.msg, failure.details)
        return done

    def _run_when_not_busy(self, path: str, call: DelegateCall) -> Completed:
        env = plugin_env(self._env, call)
        stdin = encode(call.conf)
        give_up = min(self._clock.monotonic() + _BUSY_SECONDS, call.deadline)
        wait = _BUSY_FIRST_WAIT
        while True:
            left = call.deadline - self._clock.monotonic()
            if left <= 0:
                raise PluginNotStartedError(
                    cnitypes.INTERNAL, f"time limit reached before {path} could run"
                )
            try:
                return self._runner.run([path], env=env, stdin=stdin, timeout=left)
            except RunError as error:
                if error.errno != errno.ETXTBSY or self._clock.monotonic() + wait > give_up:
                    raise
            # Nothing tells when a writer closes the file: inotify cannot see through an overlay.
            self._clock.sleep(wait)
            wait *= 2


def find_plugin(name: str, folders: tuple[str, ...]) -> str:
    """Return the path of the first executable regular file of that name.

    Only a plain file name is looked for, whoever wrote it: a network object must not be able to
    name a program elsewhere. Raises PluginNotStartedError.
    """
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise PluginNotStartedError(
            cnitypes.INVALID_CONFIG, f"plugin type {name!r} is not a plain file name"
        )
    for folder in folders:
        path = os.path.join(folder, name)
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode) and os.access(path, os.X_OK):
            return path
    where = ":".join(folders) or "an empty CNI_PATH"
    raise PluginNotStartedError(
        cnitypes.INTERNAL,
        f"plugin {name!r} is not an executable file in {where};"
        " install it there, or name its folder with binDir",
    )


def plugin_env(inherited: Mapping[str, str], call: DelegateCall) -> dict[str, str]:
    """Return the environment of a plugin: ours with the CNI variables of this call."""
    return {
        **inherited,
        "CNI_COMMAND": call.command,
        "CNI_CONTAINERID": call.container_id,
        "CNI_NETNS": call.netns,
        "CNI_IFNAME": call.ifname,
        "CNI_ARGS": call.args,
        "CNI_PATH": ":".join(call.path),
        LOCK_HELD: call.container_id,
    }


def plugin_error(done: Completed) -> CNIError:
    """Return the error of a plugin that failed, with the plugin's own code when it gave one."""
    how = f"exit status {done.returncode}"
    if done.returncode < 0:
        how = f"ended by signal {-done.returncode}"
    said = done.stderr.decode("utf-8", "replace").strip()
    if not done.stdout.strip():
        return CNIError(cnitypes.INTERNAL, f"{said[-_EXCERPT:] or 'no error message'} ({how})")
    try:
        fields = Fields(decode(done.stdout, "the plugin's error"), "the plugin's error")
        code, msg = fields.number("code"), fields.text("msg")
        details = fields.text("details")
    except FieldError as error:
        return CNIError(cnitypes.INTERNAL, f"{error} ({how})", _excerpt(done.stdout))
    if code is None and not msg:
        return CNIError(
            cnitypes.INTERNAL, f"the plugin printed no error ({how})", _excerpt(done.stdout)
        )
    # Code 0 means success to a runtime, so it cannot stand for a failure.
    return CNIError(code or cnitypes.INTERNAL, msg or f"no error message ({how})", details)


def _excerpt(output: bytes) -> str:
    return output[:_EXCERPT].decode("utf-8", "replace").strip()
