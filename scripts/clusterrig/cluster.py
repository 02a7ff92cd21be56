"""Starts a cluster, runs commands in it, and leaves nothing of it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from clusterrig import programs
from clusterrig.errors import ClusterError
from clusterrig.folder import Folder, Record, cgroup_mounts, first_child, is_root, started

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_FOLDER = Path("/tmp/hwmgr-cluster")
READY = "ready"
# What kubelet sets as it starts (pkg/kubelet/cm, setupKernelTunables), and kube-proxy's kin may.
_SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_END_SECONDS = 20.0
_LOOK_SECONDS = 0.05


def say(message: str) -> None:
    print(f"cluster: {message}", file=sys.stderr, flush=True)


def up(folder: Folder) -> None:
    """Start a cluster; returns when its node takes pods. Raises ClusterError, leaving nothing."""
    if not is_root():
        raise ClusterError("needs root: namespaces, mounts, cgroups")
    binaries = programs.ensure_programs()
    python = f"{programs.bootstrap('python', '--print')}/bin/python"
    folder.make()
    try:
        _start(folder, binaries, python)
    except BaseException:
        down(folder)
        raise


def _start(folder: Folder, binaries: Path, python: str) -> None:
    sysctls = {name: _sysctl(name).read_text().strip() for name in _SYSCTLS}
    folder.write_record(Record(0, 0, sysctls))
    for mount in cgroup_mounts():
        os.mkdir(mount + folder.cgroup)
    namespaces = ["--mount", "--propagation=private", "--net", "--pid", "--mount-proc", "--fork"]
    first_process = [python, "-P", "-m", "clusterrig.node", str(folder.path), str(binaries)]
    checkout = str(programs.CHECKOUT)
    with folder.log("node").open("ab") as log:
        process = subprocess.Popen(
            ["unshare", *namespaces, "--kill-child", *first_process],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C.UTF-8",
                "PYTHONPATH": f"{checkout}/scripts:{checkout}",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            cwd="/",
            start_new_session=True,
        )
    # Until its child has said something; it ends that when it is ended itself.
    folder.write_record(Record(process.pid, started(process.pid), sysctls))
    assert process.stdout is not None
    for line in process.stdout:
        first = first_child(process.pid)
        if first is not None:
            folder.write_record(Record(first, started(first), sysctls))
        if line.strip() == READY:
            return
        say(line.strip())
    raise ClusterError(_told(folder))


def down(folder: Folder) -> None:
    """End a cluster and put back what it has changed; nothing to do is fine."""
    record = folder.record()
    if record is not None:
        if record.pid and started(record.pid) == record.started:
            _end(record.pid, record.started)
        _remove_cgroups(folder.cgroup)
        for name, value in record.sysctls.items():
            if _sysctl(name).read_text().strip() != value:
                _sysctl(name).write_text(value)
    shutil.rmtree(folder.path, ignore_errors=True)


def command(folder: Folder, argv: Sequence[str]) -> list[str]:
    """Return a command line that runs one in the cluster's namespaces, from this folder."""
    record = folder.record()
    if record is None or not record.pid or started(record.pid) != record.started:
        raise ClusterError(f"no cluster runs in {folder.path}: start one by `scripts/cluster up`")
    enter = ["nsenter", f"--target={record.pid}", "--mount", "--net", "--pid"]
    return [*enter, f"--wd={os.getcwd()}", "--", *argv]


def run(folder: Folder, argv: Sequence[str]) -> int:
    """Run a command in the cluster's namespaces with KUBECONFIG set; return its status."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(folder.kubeconfig),
        "HWMGR_CLUSTER": str(folder.path),
    }
    return subprocess.run(command(folder, argv), env=environment, check=False).returncode


def _end(pid: int, since: int) -> None:
    """End the namespaces' first process, and with it, by the kernel, all that is in there."""
    pidfd = os.pidfd_open(pid)
    try:
        if started(pid) != since:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(pidfd, number)
            if select.select([pidfd], [], [], _END_SECONDS)[0]:
                return
        raise ClusterError(f"process {pid} does not end")
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def _remove_cgroups(name: str) -> None:
    """Remove a cgroup with those below, in every hierarchy, as soon as its processes are gone."""
    deadline = time.monotonic() + _END_SECONDS
    for top in (mount + name for mount in cgroup_mounts()):
        for path, _, _ in os.walk(top, topdown=False):
            while True:
                try:
                    os.rmdir(path)
                except FileNotFoundError:
                    break
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise ClusterError(f"{path}: {error.strerror}") from error
                    time.sleep(_LOOK_SECONDS)  # nothing tells when a cgroup of v1 is empty
                else:
                    break


def _sysctl(name: str) -> Path:
    return Path("/proc/sys") / name


def _told(folder: Folder) -> str:
    """Return the ends of the logs: the folder is about to go."""
    said = []
    for path in sorted((folder.path / "log").glob("*.log")):
        lines = path.read_text(errors="replace").splitlines()[-8:]
        said += [f"---- {path.name}", *lines]
    return "the cluster does not come up\n" + "\n".join(said)
