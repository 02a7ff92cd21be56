"""The stand-in as a program: ``python -m tests.apiserver KUBECONFIG FILE…`` serves until ended.

Creates the objects of the YAML files, writes the kubeconfig, then says so on standard output.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import yaml

from tests.apiserver.server import ApiServer


def main(kubeconfig: str, *files: str) -> None:
    ended = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, ended)
    with ApiServer() as server:
        for name in files:
            for obj in yaml.safe_load_all(Path(name).read_text()):
                server.add(obj)
        server.kubeconfig(Path(kubeconfig))
        print(f"serving at {server.url}", flush=True)
        signal.sigwait(ended)


if __name__ == "__main__":
    main(*sys.argv[1:])
