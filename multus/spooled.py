"""Work off the DELs that a shim left while nobody could do them; see hwmgr.spool.

A call is worked off under its container's lock, and only if its file is still there once the lock
is held: whoever was faster has removed it, and the container may have been attached anew since.
"""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from hwmgr.errors import HwmgrError, LockTimeout, RecordTorn
from hwmgr.locks import Locks
from hwmgr.spool import LeftCall, Spool
from multus import cnitypes
from multus.cnitypes import CNIError
from multus.skel import Process, read_args
from multus.translate import to_cni

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmgr.frames import Call
    from hwmgr.store import StateDir
    from multus.clock import Clock
    from multus.cnitypes import CmdArgs

# Names the one call of the spool that a process was started for, see hwmgr.doctor.leftcalls.
LEFT_CALL = "HWMGR_LEFT_CALL"
_LOCK_SECONDS = 2.0
_T = TypeVar("_T")


class UnworkableError(CNIError):
    """A DEL that can never be done: its configuration is bad and no record knows the container."""


class Deleter(Protocol):
    """Does the DELs of one program."""

    def delete_held(self, args: CmdArgs) -> None:
        """DEL for a container whose lock the caller holds.

        A configuration that went bad is no reason to fail while a record tells what to do. Raises
        CNIError; UnworkableError when trying again is of no use.
        """


class LeftCalls:
    """The DELs that wait in a node's spool.

    ``make`` returns what does the DELs of a call's program, in the call's environment and within
    so many seconds. ``log`` takes one line for the administrator, ``checkpoint`` the name of each
    durable step. Deadlines are in seconds on the clock's monotonic time.
    """

    def __init__(
        self,
        state: StateDir,
        make: Callable[[Call, float], Deleter],
        clock: Clock,
        log: Callable[[str], None],
        *,
        checkpoint: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._state = state
        self._spool = Spool(state)
        self._make = make
        self._clock = clock
        self._log = log
        self._checkpoint = checkpoint

    def drain_held(self, container_id: str, deadline: float) -> None:
        """Work off what is left for a container whose lock the caller holds.

        Raises the first error: a DEL that could not be done now would later take away what the
        container is given meanwhile.
        """
        for name in self._spool.names(container_id):
            found = self._believed(name)
            if found is None or found.container_id != container_id:
                continue
            problem = self._work_off(found, deadline)
            if problem is not None:
                raise problem.within(f"a DEL that was left for later ({name})")

    def drain_all(self, deadline: float, untouched: float = 0.0) -> list[CNIError]:
        """Work off all that is left, oldest first; returns what failed, which stays left.

        No lock may be held. Calls whose container somebody is working on are passed over, and with
        ``untouched`` those that were left or tried less than so many seconds ago.
        """
        problems = []
        names = self._spool.names()
        for place, name in enumerate(names):
            # One in the future was left before the clock was set back.
            if untouched and 0 <= self._spool.untouched(name, time.time()) < untouched:
                continue
            if self._clock.monotonic() >= deadline:
                self._log(f"{len(names) - place} calls are still left for later: no time is left")
                break
            problem = self.work_off(name, deadline)
            if problem is not None:
                problems.append(problem)
        return problems

    def work_off(self, name: str, deadline: float) -> CNIError | None:
        """Work off one call; returns why it is still left, None when it is not."""
        try:
            found = self._believed(name)
            if found is None:
                return None
            left = max(min(_LOCK_SECONDS, deadline - self._clock.monotonic()), 0.0)
            with Locks(self._state, left).container(found.container_id):
                return self._work_off(found, deadline)
        except LockTimeout as error:
            self._log(f"{name} stays left for later: {error.message}")
            return None
        except HwmgrError as error:
            self._log(f"{name} stays left for later: {error.message}")
            return to_cni(error)

    def again_when_busy(self, attempt: Callable[[], _T], deadline: Callable[[], float]) -> _T:
        """Return what ``attempt`` does; when something is busy, once more after draining.

        What a DEL in the spool has not yet given back may be the very VF that is wanted.
        ``deadline`` says until when to drain. No lock may be held, and ``attempt`` must undo what
        it did when it fails.
        """
        try:
            return attempt()
        except CNIError as error:
            if error.code != cnitypes.TRY_AGAIN_LATER or not self._spool.count():
                raise
            self._log(f"{error.msg}; calls were left for later, they are worked off first")
        self.drain_all(deadline())
        return attempt()

    def forget_held(self, program: str, container_id: str, ifname: str) -> None:
        """Strike the DELs that one which succeeded makes needless; the caller holds the lock."""
        for name in self._spool.names(container_id):
            found = self._believed(name)
            if found is None:
                continue
            subject = (found.call.program, found.container_id, found.ifname)
            if subject == (program, container_id, ifname):
                self._spool.remove(name)

    def _believed(self, name: str) -> LeftCall | None:
        """Return a call that may be done, None for others: they are set aside, or gone."""
        try:
            found = self._spool.read(name)
        except RecordTorn as error:
            self._set_aside(name, error.reason)
            return None
        if found is not None and found.call.env.get("CNI_COMMAND") != "DEL":
            self._set_aside(name, "only a DEL can be left for later")
            return None
        return found

    def _work_off(self, found: LeftCall, deadline: float) -> CNIError | None:
        name = found.name
        if not self._spool.has(name):
            return None
        twins = self._spool.twins(found)
        try:
            self._delete(found, deadline)
        except UnworkableError as error:
            self._set_aside(name, error.msg)
            return None
        except (CNIError, HwmgrError, OSError, ValueError) as error:
            problem = to_cni(error)
            self._log(f"DEL {found.container_id}, left for later, fails: {problem.msg} ({name})")
            self._spool.tried(name)
            return problem
        self._checkpoint("left.done")
        for twin in twins:
            self._spool.remove(twin)
        self._checkpoint("left.removed")
        self._log(f"DEL {found.container_id} {found.ifname}: done, it was left for later ({name})")
        return None

    def _delete(self, found: LeftCall, deadline: float) -> None:
        left = max(deadline - self._clock.monotonic(), 1.0)
        streams = io.BytesIO(found.call.stdin), io.StringIO(), io.StringIO()
        try:
            args = read_args(Process(found.call.env, *streams))
        except CNIError as error:
            raise UnworkableError(error.code, error.msg) from error
        self._make(found.call, left).delete_held(args)

    def _set_aside(self, name: str, reason: str) -> None:
        self._log(f"{name} is set aside in spool-torn and not run: {reason}")
        self._spool.set_aside(name)
