"""One run of ``hwmgr``: its streams, options and node; showing progress."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from hwmgr.cli.output import Output
from hwmgr.cli.streams import standard_streams
from hwmgr.cli.terminal import Terminal
from hwmgr.errors import NoSuchDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hwmgr.node import Node

_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Session(Terminal):
    """What a command works with; ``make_node`` takes sysfs root, state directory, both or None,
    and a function that takes a line of the log. ``programs`` is where our other programs are."""

    make_node: Callable[[str | None, str | None, Callable[[str], None]], Node]
    environment: Mapping[str, str]
    stdout: TextIO
    stderr: TextIO
    sysfs: str | None = None
    state_dir: str | None = None
    output: Output = Output.TABLE
    verbose: bool = False
    program: str = "hwmgr"
    programs: str = field(default_factory=lambda: os.path.dirname(sys.executable))

    def node(self) -> Node:
        """Return the node that the options name. Raises ConfigError."""
        return self.make_node(self.sysfs, self.state_dir, self._log)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Say what is going on when the block takes longer than a second, on a terminal only."""
        if not self.stderr.isatty():
            yield
            return
        import threading

        said = threading.Event()

        def say() -> None:
            said.set()
            self.stderr.write(f"{what} …")
            self.stderr.flush()

        timer = threading.Timer(_PATIENCE_SECONDS, say)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if said.is_set():
                self.stderr.write("\r\x1b[K")
                self.stderr.flush()

    def _log(self, text: str) -> None:
        if self.verbose:
            self.complain(text)


def real_session() -> Session:
    """Return the session of this process on this machine."""

    def make_node(sysfs: str | None, state_dir: str | None, log: Callable[[str], None]) -> Node:
        from hwmgr import nodeconfig
        from hwmgr.node import real_node

        config = nodeconfig.load(os.environ)
        if sysfs and not os.path.isdir(f"{sysfs}/bus/pci"):
            raise NoSuchDevice(sysfs, "no sysfs tree is there; --sysfs names its root")
        return real_node(
            sysfs_root=sysfs or "/sys",
            state_dir=state_dir or config.state_dir,
            dpdk_tools=config.dpdk_tools,
            log=log,
        )

    return Session(make_node, os.environ, *standard_streams())
