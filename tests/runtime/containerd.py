"""Containerd with its CRI plugin on one run folder, in a network namespace, made to be killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.runtime import leftovers
from tests.runtime.cri import Cri, CriError
from tests.runtime.image import PAUSE, TOOLS, write_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_START_SECONDS = 60.0
_LOOK_SECONDS = 0.05
# Inherited by all that it starts but the pods' own processes.
_MARK = "TEST_CONTAINERD"
# What this machine may lack, and nobody here needs.
_UNUSED = (
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.opt",
    "io.containerd.tracing.processor.v1.otlp",
)


class Containerd:
    """One containerd; leaving its ``with`` ends it and all that came of it.

    ``enter`` is the command that it is started with, as ``nsenter --net=…``: not ``ip netns exec``,
    which mounts a /sys without cgroups. ``env`` is what CNI plugins find in their environment.
    What is put into ``conf_dir`` before start() is the node's network; ``bin_dir`` has the plugins.
    """

    def __init__(
        self,
        *,
        enter: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        snapshotter: str = "native",
        patience: float = 1,
    ) -> None:
        # A socket's path may have 107 characters, fewer than pytest's folders need.
        self.folder = Path(tempfile.mkdtemp(prefix="hwmgr-ctd-"))
        self.conf_dir, self.bin_dir = self.folder / "conf", self.folder / "bin"
        self.socket = str(self.folder / "c.sock")
        self.log = self.folder / "containerd.log"
        self.cgroup = f"/{self.folder.name}"
        self.cri = Cri(
            self.socket,
            cgroup=self.cgroup,
            logs=str(self.folder / "pods"),
            seconds=60 * patience,
        )
        self._enter, self._snapshotter = tuple(enter), snapshotter
        self._seconds = _START_SECONDS * patience
        self._mark = f"{_MARK}={self.folder}"
        self._env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(env or {})}
        self._env[_MARK] = str(self.folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._orphans: list[int] = []
        for folder in (self.conf_dir, self.bin_dir):
            folder.mkdir()
        (self.folder / "config.toml").write_text(self._config())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it and wait until it answers; the first time it gets the pods' image too."""
        argv = [*self._enter, "containerd", "-c", str(self.folder / "config.toml")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd=self.folder,
                start_new_session=True,
            )
        self._wait("an answer", lambda: self.cri.conditions()["RuntimeReady"][0])
        if not self.cri.has_image(TOOLS):
            self._import_image()

    def kill(self, *, plugins: bool = False) -> None:
        """Kill it as the kernel does, without a warning; pods live on, and running plugins may."""
        process = self._process
        if process is not None:
            self._orphans += leftovers.children(process.pid)
            process.kill()
            process.wait()
            self._process = None
        if plugins:
            self._end_orphans()

    def kill_plugins(self) -> None:
        """Kill the CNI plugins that run for it now, and what they have started."""
        if self._process is not None:
            self._orphans += leftovers.children(self._process.pid)
            self._end_orphans()

    def close(self) -> None:
        """End it, its plugins, its pods; no mount, cgroup, socket or file stays."""
        self.kill(plugins=True)
        self.cri.close()
        sockets = leftovers.shim_sockets(self.folder / "state")
        leftovers.end_shims(self.socket)
        leftovers.end_marked(self._mark)
        leftovers.remove_cgroups(self.cgroup)
        leftovers.unmount_below(self.folder)
        leftovers.forget_results(str(self.folder))
        for socket in sockets:
            Path(socket).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_orphans(self) -> None:
        while self._orphans:
            leftovers.end(self._orphans.pop())

    def _import_image(self) -> None:
        archive = self.folder / "image.tar"
        write_archive(archive)
        ctr = ["ctr", "-a", self.socket, "-n", "k8s.io", "image", "import"]
        done = subprocess.run(
            [*ctr, "--snapshotter", self._snapshotter, str(archive)],
            env={"PATH": self._env["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"no image: {done.stderr}{self._said()}")
        # The CRI plugin learns of it by an event.
        self._wait("its image", lambda: all(map(self.cri.has_image, (PAUSE, TOOLS))))

    def _wait(self, what: str, there: Callable[[], bool]) -> None:
        """Wait for it, or for the process to end; asking is the only way to know."""
        process = self._process
        deadline = time.monotonic() + self._seconds
        while process is not None and time.monotonic() < deadline:
            try:
                if there():
                    return
            except CriError:
                pass
            try:
                process.wait(_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            break
        raise AssertionError(f"containerd without {what}{self._said()}")

    def _said(self) -> str:
        return "\n" + self.log.read_text(errors="replace")[-4000:]

    def _config(self) -> str:
        unused = ", ".join(f"'{name}'" for name in _UNUSED)
        return f"""\
version = 2
root = '{self.folder}/root'
state = '{self.folder}/state'
disabled_plugins = [{unused}]
[grpc]
  address = '{self.socket}'
[plugins.'io.containerd.grpc.v1.cri']
  sandbox_image = '{PAUSE}'
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.grpc.v1.cri'.containerd]
    snapshotter = '{self._snapshotter}'
    [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
        BinaryName = '{shutil.which("runc", path=os.defpath + ":/usr/sbin:/sbin")}'
        Root = '{self.folder}/runc'
        SystemdCgroup = false
  [plugins.'io.containerd.grpc.v1.cri'.cni]
    bin_dir = '{self.bin_dir}'
    conf_dir = '{self.conf_dir}'
    max_conf_num = 1
"""
