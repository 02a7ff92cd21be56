"""From a request to its answer: who is asked, in which order, and what if nobody takes it."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from multus import version as versions
from multus.cniargs import parse_args_leniently
from multus.daemon.calllog import Entry, Notes
from multus.daemon.wiring import Caller
from multus.invoke import LOCK_HELD
from multus.jsonfields import FieldError, Fields, decode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hwmgr.frames import Answer, Call
    from multus.clock import Clock
    from multus.daemon.calllog import CallLog
    from multus.daemon.connection import Connection
    from multus.daemon.dispatch import Dispatcher
    from multus.daemon.metrics import Metrics

# Nobody misses the answer of these when the caller is gone; DEL and GC do what must be done anyway.
_ONLY_FOR_THE_CALLER = ("ADD", "CHECK", "STATUS")
# ADDs that hang on their plugins must not hold these up: they free, or say how the node is.
_BY_RESERVED = ("DEL", "GC", "STATUS")
_ABOUT_THE_NODE = ("GC", "STATUS")
_VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")


class _Gone(Exception):
    """The caller went away before its turn came."""


@dataclass(frozen=True, slots=True)
class Job:
    """A call and how it is run; ``undo`` is the call that takes an ADD back."""

    call: Call
    run: Callable[[Caller], Answer]
    undo: Callable[[Caller], Answer]

    @property
    def verb(self) -> str:
        """The verb, as the caller wrote it."""
        return self.call.env.get("CNI_COMMAND", "")

    @property
    def container_id(self) -> str:
        """The container that the call is about, "" for none."""
        if self.verb in _ABOUT_THE_NODE:
            return ""
        return self.call.env.get("CNI_CONTAINERID", "")

    @property
    def nested(self) -> bool:
        """Tell whether a plugin makes this call on behalf of another one that is at work."""
        held = self.call.env.get(LOCK_HELD, "")
        return bool(held) and (held == self.container_id or not self.container_id)


class Service:
    """Serves jobs for clients; one for the whole daemon."""

    def __init__(
        self, dispatcher: Dispatcher, log: CallLog, metrics: Metrics, clock: Clock
    ) -> None:
        self._dispatcher = dispatcher
        self._log = log
        self._metrics = metrics
        self._clock = clock

    async def serve(self, job: Job, client: Connection, render: Callable[[Answer], bytes]) -> None:
        """Run a job when its turn comes, and deliver the answer; an ADD nobody takes is undone."""
        begun = self._clock.monotonic()
        notes, outcome, status, waited = Notes(), "dropped", b"", 0.0
        task, may_drop = asyncio.current_task(), job.verb in _ONLY_FOR_THE_CALLER

        def drop() -> None:
            if task is not None and may_drop:
                task.cancel()

        def begins() -> None:
            nonlocal waited
            client.when_gone(None)
            waited = self._clock.monotonic() - begun
            if client.gone and may_drop:
                raise _Gone

        caller = Caller(notes, lambda: client.gone, os.urandom(8).hex())
        client.when_gone(drop)
        try:
            async with self._turn(job):
                answer = await self._work(job, caller, begins)
                outcome, status = ("failed" if answer.status else "ok"), answer.stdout
                delivered = await client.deliver(render(answer))
                if not delivered and job.verb == "ADD" and answer.status == 0:
                    outcome = "undone"
                    notes.complain("the caller went away before it took the answer")
                    undone = await self._undo(job, caller)
                    if undone.status:
                        outcome = "failed"
                        notes.complain("it cannot be undone now, DEL or GC will finish it")
        except (asyncio.CancelledError, _Gone):
            if not client.gone:
                raise  # the daemon ends
            notes.complain("the caller went away before its turn came")
        took = self._clock.monotonic() - begun
        verb = job.verb if job.verb in _VERBS else "other"
        self._metrics.calls.add((job.call.program, verb, outcome), took)
        self._metrics.waits.add((), waited)
        self._log.call(entry(job, outcome, status, took, waited, notes))

    @asynccontextmanager
    async def _turn(self, job: Job) -> AsyncIterator[None]:
        if job.nested:
            yield
            return
        async with self._dispatcher.turn(job.container_id):
            yield

    async def _work(self, job: Job, caller: Caller, begins: Callable[[], None]) -> Answer:
        if job.nested:
            begins()
            return await self._dispatcher.work_beside(lambda: job.run(caller))
        reserved = job.verb in _BY_RESERVED
        return await self._dispatcher.work(lambda: job.run(caller), begins, reserved=reserved)

    async def _undo(self, job: Job, caller: Caller) -> Answer:
        if job.nested:
            return await self._dispatcher.work_beside(lambda: job.undo(caller))
        return await self._dispatcher.work(lambda: job.undo(caller), lambda: None, reserved=True)


def taken_back(call: Call) -> Call:
    """Return the call that takes an ADD back."""
    return replace(call, env={**call.env, "CNI_COMMAND": "DEL"})


def version_answer() -> bytes:
    """Return what VERSION prints."""
    said = {"cniVersion": versions.CURRENT, "supportedVersions": list(versions.SUPPORTED)}
    return (json.dumps(said) + "\n").encode()


def entry(job: Job, outcome: str, stdout: bytes, took: float, waited: float, notes: Notes) -> Entry:
    """Return a call's line for the log."""
    env = job.call.env
    args = parse_args_leniently(env.get("CNI_ARGS", ""))
    pod = "/".join(filter(None, (args.pod_namespace, args.pod_name)))
    return Entry(
        verb=job.verb,
        program=job.call.program,
        container=job.container_id,
        ifname=env.get("CNI_IFNAME", ""),
        pod=pod,
        outcome=outcome,
        code=code_of(stdout) if outcome == "failed" else 0,
        took=took,
        waited=waited,
        message="; ".join(notes.lines),
    )


def code_of(stdout: bytes) -> int:
    """Return the code of an error document, 0 when it has none."""
    try:
        return Fields(decode(stdout, "the answer"), "the answer").number("code") or 0
    except FieldError:
        return 0
