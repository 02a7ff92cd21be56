"""A daemon on the bench whose VFs are veth ends: forked by a process that has the bench."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from typing import TYPE_CHECKING

from hwmgr.netns import entered
from hwmgr.nodeconfig import load
from multus.daemon.daemonconf import DaemonFile
from multus.daemon.listener import Listener
from multus.daemon.main import serve
from tests.functional.daemon import RunningDaemon

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.functional.harness import Bench
    from tests.functional.node import Node


class VethDaemon(RunningDaemon):
    """See RunningDaemon. Made before there are threads, since it forks a process that forks on."""

    def __init__(self, node: Node, bench: Bench) -> None:
        super().__init__(node)
        self._pid = 0
        asks, self._ask = os.pipe()
        self._answers, answers = os.pipe()
        self._nursery = os.fork()
        if self._nursery == 0:
            os.close(self._ask)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            try:
                while os.read(asks, 1):
                    os.write(answers, f"{_fork(bench, self.started_with())}\n".encode())
            finally:
                os._exit(0)
        os.close(asks)
        os.close(answers)

    def launch(self, env: Mapping[str, str]) -> None:
        del env  # the nursery knows it
        os.write(self._ask, b"s")
        self._pid = int(os.read(self._answers, 32))

    @property
    def pid(self) -> int:
        return self._pid

    def kill(self) -> None:
        pidfd = os.pidfd_open(self._pid)
        os.kill(self._pid, signal.SIGKILL)
        _ended(pidfd, 10)
        self._pid = 0

    def stop(self, seconds: float = 30.0) -> int:
        pidfd = os.pidfd_open(self._pid)
        os.kill(self._pid, signal.SIGTERM)
        in_time = _ended(pidfd, seconds)
        self._pid = 0
        return 0 if in_time else 1

    def close(self) -> None:
        if self._pid:
            self.kill()
        if self._nursery:
            os.close(self._ask)
            os.close(self._answers)
            os.waitpid(self._nursery, 0)
            self._nursery = 0


def _fork(bench: Bench, env: Mapping[str, str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        config = load(env)
        with entered(bench.host.fd):
            listener = Listener.at(config.daemon.socket)
            code = not asyncio.run(serve(listener, bench.node(), config, DaemonFile(), env))
    finally:
        os._exit(code)


def _ended(pidfd: int, seconds: float) -> bool:
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(pidfd)
