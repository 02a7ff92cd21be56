"""What the subcommands of scripts/lab do: get a machine the quickest way, and use it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from labvm import machine, parcel
from labvm.cache import CHECKOUT, Image, ensure_image, locked
from labvm.errors import MachineError
from labvm.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GUEST_CHECKOUT = "/checkout"
PASSED_ON = ("HYPOTHESIS_PROFILE", "NO_COLOR", "PYTEST_ADDOPTS")


@dataclass(frozen=True, slots=True)
class Options:
    """How to run: `timeout` in seconds, `results` where the guest's $LAB_OUT goes.

    `taken` are files of the host that are put into the guest's checkout, in the folder `taken`.
    """

    numa: bool
    fresh: bool
    timeout: float
    results: Path
    taken: tuple[Path, ...] = ()


def say(text: str) -> None:
    """Tell the person at the terminal something; stdout is the command's."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def build(*, numa: bool) -> Image:
    """Make the image and the snapshot, if they are missing."""
    image = ensure_image()
    ensure_snapshot(image, numa=numa)
    return image


def ensure_snapshot(image: Image, *, numa: bool) -> Path:
    """Return the machine's snapshot, made first if it is missing."""
    snapshot = image.snapshot(machine.snapshot_key(image, numa=numa))
    if snapshot.exists():
        return snapshot
    with locked("snapshot"):
        if not snapshot.exists():
            started = time.monotonic()
            unfinished = snapshot.with_name(f"unfinished-{snapshot.name}")
            with Session(image, numa=numa) as session:
                session.boot()
                booted = time.monotonic()
                session.save(unfinished)
            unfinished.rename(snapshot)
            say(f"booted in {booted - started:.1f} s, saved in {time.monotonic() - booted:.1f} s")
    return snapshot


@contextmanager
def running(options: Options) -> Iterator[Session]:
    """Give a machine whose agent is ready."""
    image = ensure_image()
    if not options.fresh:
        try:
            snapshot = ensure_snapshot(image, numa=options.numa)
            session = Session(image, numa=options.numa)
            try:
                session.restore(snapshot)
            except MachineError:
                session.end()
                raise
        except MachineError as error:
            say(f"no use of the snapshot ({error}): booting instead")
        else:
            with session:
                yield session
            return
    with Session(image, numa=options.numa) as session:
        session.boot()
        yield session


def run(command: Sequence[str], options: Options) -> int:
    """Run a script or a command in the guest; return its exit status."""
    argv, script = resolve(command)
    started = time.monotonic()
    with running(options) as session:
        ready = time.monotonic()
        status, left_results = session.run(
            argv,
            environment=_environment(),
            parcel_length=parcel.write_parcel(session.disks.parcel, script, options.taken),
            timeout=options.timeout,
            streams={"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer},
        )
        done = time.monotonic()
        if left_results:
            names = parcel.read_results(session.disks.results, options.results)
            say(f"{len(names)} files from the guest's $LAB_OUT are in {options.results}")
    say(
        f"status {status}; machine ready after {ready - started:.1f} s,"
        f" command took {done - ready:.1f} s"
    )
    return status


def shell(options: Options) -> int:
    """Give a shell in the guest, on this terminal."""
    from labvm.terminal import raw_terminal

    with running(options) as session, raw_terminal(sys.stdin.fileno()):
        size = shutil.get_terminal_size()
        unbuffered: BinaryIO = sys.stdout.buffer
        status, left_results = session.run(
            ["bash", "-i"],
            environment=_environment(),
            parcel_length=parcel.write_parcel(session.disks.parcel, None),
            timeout=options.timeout,
            streams={"stdout": unbuffered, "stderr": sys.stderr.buffer},
            terminal=(size.lines, size.columns, os.environ.get("TERM", "dumb")),
            stdin=sys.stdin.buffer,
        )
        if left_results:
            parcel.read_results(session.disks.results, options.results)
    return status


def resolve(command: Sequence[str]) -> tuple[list[str], Path | None]:
    """Return what to run in the guest for what was asked for, and the file to take along for it.

    A file of the host is run in the guest, from wherever it is; one word with blanks is a shell
    command; anything else is a program of the guest with its arguments.
    """
    first, *rest = command
    path = Path(first).resolve()
    if not path.is_file():
        if not rest and len(first.split()) > 1:
            return ["bash", "-c", first], None
        return list(command), None
    if path.is_relative_to(CHECKOUT):
        inside, script = f"{GUEST_CHECKOUT}/{path.relative_to(CHECKOUT)}", None
    else:
        inside, script = f"{GUEST_CHECKOUT}/{parcel.SCRIPT}", path
    if os.access(path, os.X_OK):
        return [inside, *rest], script
    return ["python3" if path.suffix == ".py" else "bash", inside, *rest], script


def pytest(selection: Sequence[str], options: Options) -> int:
    """Run a selection of the tests in the guest; without one, the lab's own."""
    # The project's settings leave these tests out; the last -m wins.
    argv = ["python3", "-m", "pytest", "-p", "no:cacheprovider", "-m", "lab"]
    return run([*argv, *(selection or ["tests"])], options)


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}
