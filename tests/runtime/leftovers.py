"""What a runtime leaves when it is killed: shims, pods, mounts, cgroups; found and taken away."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from pathlib import Path

_RESULTS = Path("/var/lib/cni/results")
_END_SECONDS = 30


def children(pid: int) -> list[int]:
    """Return descriptors of a process's children and theirs: none can be another one later."""
    found = list[int]()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            numbers = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for number in numbers:
            found += children(number) + _open(number)
    return found


def end(pidfd: int) -> None:
    """Kill a process, wait until it is gone and close its descriptor."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(_END_SECONDS * 1000)
    os.close(pidfd)


def end_shims(socket: str) -> None:
    """End the shims that a runtime has started: they are told its socket."""
    for pid in shims(socket):
        for pidfd in _open(pid):
            end(pidfd)


def end_marked(mark: str) -> None:
    """End what has that in its environment: plugins that have outlived their call."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            marked = mark.encode() in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        for pidfd in _open(int(folder.name)) if marked else []:
            end(pidfd)


def shims(socket: str) -> list[int]:
    """Return the ids of the shims of the runtime with that socket."""
    found = []
    wanted = f"\0-address\0{socket}\0".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if wanted in words and b"containerd-shim" in words.split(b"\0")[0]:
            found.append(int(folder.name))
    return found


def shim_sockets(state: Path) -> list[str]:
    """Return the sockets of the shims; they lie in /run/containerd, whatever the run folder is."""
    found = state.glob("io.containerd.runtime.v2.task/*/*/address")
    return [path.read_text().removeprefix("unix://") for path in found]


def remove_cgroups(name: str) -> None:
    """End what runs in a cgroup, in every hierarchy, and remove it with those below."""
    for top in (Path(mount + name) for mount in _mounts("cgroup", "cgroup2")):
        for folder in [Path(path) for path, _, _ in os.walk(top, topdown=False)]:
            for word in (folder / "cgroup.procs").read_text().split():
                for pidfd in _open(int(word)):
                    end(pidfd)
            folder.rmdir()


def unmount_below(folder: Path) -> None:
    """Unmount all below a folder, the last mount first."""
    for mount in reversed(_mounts()):
        if mount.startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)


def forget_results(mention: str) -> None:
    """Remove results that libcni has cached for pods of which it was never asked to let go."""
    for path in _RESULTS.glob("*"):
        try:
            if mention in path.read_text(errors="replace"):
                path.unlink()
        except OSError:
            continue


def _mounts(*kinds: str) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    fields = [line.split() for line in lines]
    return [each[1] for each in fields if not kinds or each[2] in kinds]


def _open(pid: int) -> list[int]:
    try:
        return [os.pidfd_open(pid)]
    except ProcessLookupError:
        return []
