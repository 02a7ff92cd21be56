"""The ``multus`` executable: what a container runtime starts for every verb.

VERSION is answered before anything else is imported: runtimes ask it often and it must cost next
to nothing.
"""

import os
import sys


def main() -> int:
    """Answer the call that the environment describes; returns the exit status."""
    answered = answer_without_engine("multus")
    if answered is not None:
        return answered
    from multus.wiring import run

    return run()


def answer_without_engine(name: str) -> int | None:
    """Answer VERSION, and a person who tries the plugin by hand; None for every other call."""
    command = os.environ.get("CNI_COMMAND", "")
    if command == "VERSION":
        return _version()
    if not command:
        from multus.version import SUPPORTED

        sys.stderr.write(f"{name}, a CNI plugin for CNI versions {', '.join(SUPPORTED)}\n")
        return 0
    return None


def _version() -> int:
    from multus.version import CURRENT, SUPPORTED

    supported = ", ".join(f'"{version}"' for version in SUPPORTED)
    answer = f'{{"cniVersion": "{CURRENT}", "supportedVersions": [{supported}]}}\n'
    try:
        sys.stdout.write(answer)
        sys.stdout.flush()
    except OSError:
        return _unread()
    return 0


def _unread() -> int:
    """Nobody reads stdout: point it elsewhere, or the interpreter complains when it flushes."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    return 1


if __name__ == "__main__":
    sys.exit(main())
