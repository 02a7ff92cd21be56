"""The first process of the cluster's namespaces: starts all the others, and buries them.

Run by ``scripts/cluster up`` as `python -m clusterrig.node FOLDER PROGRAMS`, in new mount, network
and PID namespaces. It says on stdout what it has reached, and ``ready`` as the last line. When it
ends, the kernel ends all that it has started, pods included, and unmounts everything.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from clusterrig import certificates, daemons
from clusterrig.errors import ClusterError
from clusterrig.folder import Folder
from clusterrig.network import objects, write_default
from clusterrig.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.runtime.containerd import Containerd

READY = "ready"
_PATIENCE_SECONDS = 90.0
_LOOK_SECONDS = 0.1
# What programs find on every node and what they write there; /run has the sockets.
_OVERLAID = ("/var", "/etc", "/opt")


class Node:
    """All that runs in the namespaces."""

    def __init__(self, folder: Folder, programs: Path) -> None:
        self._folder, self._programs = folder, programs
        self._running: dict[int, str] = {}
        self._began = time.monotonic()

    def bring_up(self) -> None:
        """Start everything, each after what it needs; raises ClusterError."""
        folder = self._folder
        self._say("namespaces")
        _mount_private()
        _make_links()
        keys = certificates.Authority(folder.keys)
        keys.kubeconfig(folder.kubeconfig, certificates.ADMIN)
        keys.kubeconfig(folder.multus_kubeconfig, certificates.MULTUS)
        keys.kubeconfig(folder.kubelet_kubeconfig, certificates.node(daemons.NODE))
        self._start("etcd", daemons.etcd(self._programs, Path("/run/etcd")))
        self._start("apiserver", daemons.apiserver(self._programs, folder.keys))
        containerd = self._start_containerd()
        server = Server(folder.kubeconfig)
        self._wait("an API server", server.is_ready)
        self._start_kubelet(containerd)
        given = objects()
        for each in given:
            server.apply(each)
        kinds = [each for each in given if each["kind"] == "CustomResourceDefinition"]
        self._wait("every kind of network", lambda: all(map(server.serves, kinds)))
        self._wait("a node", lambda: server.node_is_ready(daemons.NODE))
        folder.write_facts(
            node=daemons.NODE,
            socket=containerd.socket,
            conf_dir=str(containerd.conf_dir),
            bin_dir=str(containerd.bin_dir),
            containerd_log=str(containerd.log),
        )

    def stay(self) -> NoReturn:
        """Bury what ends, until told to end."""
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                sys.exit("nothing runs any more")
            if pid in self._running:
                name, code = self._running.pop(pid), os.waitstatus_to_exitcode(status)
                print(f"{name} ended with status {code}", file=sys.stderr, flush=True)

    def _start_containerd(self) -> Containerd:
        from tests.runtime.containerd import Containerd
        from tests.runtime.rig import ROOT, fill_bin_dir

        containerd = Containerd(env={"PYTHONPATH": str(ROOT)})
        fill_bin_dir(containerd.bin_dir)
        _link("/etc/cni/net.d", containerd.conf_dir)
        _link("/opt/cni/bin", containerd.bin_dir)
        _link("/etc/kubernetes/admin.conf", self._folder.multus_kubeconfig)
        write_default(containerd.conf_dir, containerd.bin_dir, self._folder.multus_kubeconfig)
        containerd.start()
        _link("/run/containerd/containerd.sock", Path(containerd.socket))  # for ctr
        self._say("containerd answers")
        return containerd

    def _start_kubelet(self, containerd: Containerd) -> None:
        folder = self._folder
        resolv_conf = folder.path / "resolv.conf"
        resolv_conf.write_text("")
        settings = folder.path / "kubelet.json"
        settings.write_text(daemons.kubelet_settings(folder.cgroup, resolv_conf))
        argv = daemons.kubelet(
            self._programs, folder.kubelet_kubeconfig, settings, containerd.socket, "name=node1"
        )
        # Otherwise it waits for a cloud to answer before it begins.
        self._start("kubelet", argv, {**os.environ, "AWS_EC2_METADATA_DISABLED": "true"})

    def _start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        with self._folder.log(name).open("ab") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd="/",
                start_new_session=True,
            )
        self._running[process.pid] = name

    def _wait(self, what: str, there: Callable[[], bool]) -> None:
        """Wait until it is there, or one of the programs has ended: asking is the only way."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        watched = {os.pidfd_open(pid): name for pid, name in self._running.items()}
        try:
            while not there():
                ended, _, _ = select.select(list(watched), [], [], _LOOK_SECONDS)
                if ended:
                    raise ClusterError(f"{watched[ended[0]]} has ended: no {what.split()[-1]}")
                if time.monotonic() > deadline:
                    raise ClusterError(f"waited {_PATIENCE_SECONDS:.0f} s in vain for {what}")
        finally:
            for descriptor in watched:
                os.close(descriptor)
        self._say(f"{what}: ready")

    def _say(self, what: str) -> None:
        print(f"[{time.monotonic() - self._began:.0f}s] {what}", flush=True)


def _mount_private() -> None:
    """Lay memory over what a node's programs write to; the machine's own files stay as they are."""
    _call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for top in _OVERLAID:
        upper, work = (f"/run/overlay{top}/{end}" for end in ("upper", "work"))
        for path in (upper, work):
            os.makedirs(path)
        options = f"lowerdir={top},upperdir={upper},workdir={work}"
        _call("mount", "-t", "overlay", "-o", options, "overlay", top)
    shutil.rmtree(daemons.STATIC_PODS, ignore_errors=True)  # the machine's, as seen from here
    for path in ("/var/lib/kubelet", "/var/log/pods", "/var/log/containers", daemons.STATIC_PODS):
        os.makedirs(path, exist_ok=True)


def _link(usual: str, path: Path) -> None:
    """Let a usual path lead to one of ours; below an overlay, so the machine keeps its own."""
    if os.path.isdir(usual):
        shutil.rmtree(usual)
    elif os.path.lexists(usual):
        os.unlink(usual)
    os.makedirs(os.path.dirname(usual), exist_ok=True)
    os.symlink(path, usual)


def _make_links() -> None:
    """Give kubelet a link with an address and a default route, which lead nowhere."""
    for words in (
        "link set lo up",
        "link add node0 type bridge",
        f"addr add {daemons.NODE_ADDRESS}/24 dev node0",
        "link set node0 up",
        "route add default via 192.0.2.1 dev node0",
    ):
        _call("ip", *words.split())


def _call(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{' '.join(argv)}: {done.stderr.strip()}")


def main(path: str, programs: str) -> NoReturn:
    """Be the first process: bring all up, say so, stay until SIGTERM."""
    # The first process of a PID namespace gets only signals that it has a handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = Folder(Path(path))
    tempfile.tempdir = path
    node = Node(folder, Path(programs))
    try:
        node.bring_up()
    except (ClusterError, OSError, AssertionError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(READY, flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    node.stay()


if __name__ == "__main__":
    main(*sys.argv[1:])
