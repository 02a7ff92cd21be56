"""The multus executable, but killed at the checkpoint that CRASH_AT names.

CRASH_LOG names a file that gets every checkpoint passed.
"""

from __future__ import annotations

import os
import signal
import sys

from hwmgr import nodeconfig
from multus.clock import Limits
from multus.commands import Engine
from multus.wiring import real_doors, serve_process


def checkpoint(name: str) -> None:
    log = os.environ.get("CRASH_LOG")
    if log:
        with open(log, "a", encoding="utf-8") as file:
            file.write(name + "\n")
    if name == os.environ.get("CRASH_AT"):
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    config = nodeconfig.load(os.environ)
    seconds = float(os.environ.get("LIMIT_SECONDS", "90"))
    limits = Limits(whole=seconds, delegate=seconds * 2 / 3)
    doors = real_doors(os.environ, config, checkpoint=checkpoint, limits=limits)
    return serve_process(lambda: Engine(doors))


if __name__ == "__main__":
    sys.exit(main())
