"""A node made of network namespaces: one is the host, one the pod; multus runs in the host's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
CNI_BIN = Path("/usr/lib/cni")
HERE = Path(__file__).parent


def ip(*args: str, netns: str = "") -> str:
    """Run iproute2, in a named namespace when one is given."""
    where = ["-n", netns] if netns else []
    done = subprocess.run(["ip", *where, *args], capture_output=True, text=True, check=True)
    return done.stdout


@dataclass
class Done:
    """How a call ended."""

    rc: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def environment(state_dir: Path, config: Path) -> dict[str, str]:
    """Return what our programs are started with."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HWMGR_STATE_DIR": str(state_dir),
        "HWMGR_CONFIG": str(config),
    }


def run(argv: Sequence[str], env: Mapping[str, str], stdin: str = "") -> Done:
    """Run a program to its end."""
    done = subprocess.run(argv, env=env, input=stdin, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


class Node:
    """Runs multus in the host namespace, for a container in the pod namespace."""

    def __init__(self, root: Path) -> None:
        tag = uuid.uuid4().hex[:8]
        self.root, self.host, self.pod = root, f"mh-{tag}", f"mp-{tag}"
        self.bin, self.cni_dir, self.state_dir = root / "bin", root / "cni", root / "state"
        self.leases = root / "leases"
        for folder in (self.bin, self.leases):
            folder.mkdir()
        for plugin in CNI_BIN.iterdir():
            (self.bin / plugin.name).symlink_to(plugin)
        for name in ("leasea", "leaseb", "leasec"):
            shutil.copy(HERE / "lease_plugin.sh", self.bin / name)
        for netns in (self.host, self.pod):
            ip("netns", "add", netns)
            ip("link", "set", "lo", "up", netns=netns)

    def close(self) -> None:
        for netns in (self.host, self.pod):
            subprocess.run(["ip", "netns", "del", netns], check=False, capture_output=True)

    @property
    def pod_path(self) -> str:
        return f"/run/netns/{self.pod}"

    @property
    def enter(self) -> list[str]:
        """The command that starts a program in the host's namespace."""
        return ["ip", "netns", "exec", self.host]

    def whole(self, conf: Mapping[str, Any]) -> dict[str, Any]:
        """Return multus' configuration with what every call on this node has in it."""
        return {"name": "mnet", "cniDir": str(self.cni_dir), "binDir": str(self.bin), **conf}

    def env(self, command: str, container_id: str, ifname: str) -> dict[str, str]:
        return {
            **environment(self.state_dir, self.root / "no-such-config.yaml"),
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": self.pod_path,
            "CNI_IFNAME": ifname,
            "CNI_PATH": str(self.bin),
            "LEASES": str(self.leases),
        }

    def cni(
        self,
        command: str,
        conf: Mapping[str, Any],
        *,
        container_id: str = "c1",
        ifname: str = "eth0",
        main: str = "-m multus",
        **env: str,
    ) -> Done:
        """Make one call as a runtime does: a process in the host's namespace."""
        argv = [*self.enter, sys.executable, *main.split()]
        whole = {**self.env(command, container_id, ifname), **env}
        return run(argv, whole, json.dumps(self.whole(conf)))

    def run(self, *argv: str) -> Done:
        """Run a Python program in the host's namespace, as the node's administrator."""
        return run([*self.enter, sys.executable, *argv], self.env("", "", ""))

    def crash(self, command: str, conf: Mapping[str, Any], at: str) -> Done:
        """Make a call in a process that is killed at a checkpoint."""
        return self.cni(command, conf, main=str(HERE / "crash_main.py"), CRASH_AT=at)

    def links(self, netns: str) -> dict[str, dict[str, Any]]:
        """Return the links of a namespace by name, with their addresses."""
        return {link["ifname"]: link for link in json.loads(ip("-j", "addr", netns=netns))}

    def saved(self) -> list[str]:
        """Return every file that multus or host-local keeps, without the lock files."""
        found = [
            path.relative_to(self.root).as_posix()
            for folder in (self.cni_dir, self.state_dir, self.leases, self.root / "ipam")
            for path in folder.rglob("*")
            if path.is_file() and path.name not in ("lock", "last_reserved_ip.0")
        ]
        return sorted(name for name in found if "/locks/" not in name)

    def log(self) -> list[str]:
        """Return what the lease plugins were asked, in order."""
        path = Path(f"{self.leases}.log")
        return path.read_text().splitlines() if path.exists() else []

    def tell(self, plugin: str, what: str, *, on: bool = True) -> None:
        """Have a lease plugin fail, hang or keep its lease; or stop it doing so."""
        path = Path(f"{self.leases}.{plugin}.{what}")
        path.touch() if on else path.unlink()

    def slow(self, plugin: str, gate: Path) -> None:
        """Have a lease plugin's ADD, once it has its lease, wait for a line in a pipe."""
        Path(f"{self.leases}.{plugin}.gate").symlink_to(gate)

    def assert_clean(self) -> None:
        """Assert that nothing is held any more: no link, no address, no lease, no record."""
        assert set(self.links(self.pod)) == {"lo"}
        veths = [name for name in self.links(self.host) if name.startswith("veth")]
        assert veths == []
        saved = self.saved()
        assert saved == [], saved

    def bridge(self, name: str = "br", subnet: str = "10.55.0.0/24", **more: Any) -> dict[str, Any]:
        """Return a bridge delegate with addresses from host-local."""
        ipam = {"type": "host-local", "subnet": subnet, "dataDir": str(self.root / "ipam")}
        return {
            "name": name,
            "type": "bridge",
            "bridge": f"{name}0",
            "cniVersion": "1.0.0",
            "ipam": ipam,
            **more,
        }


def make_node(root: Path) -> Iterator[Node]:
    """Yield a node and take it apart afterwards; skips where namespaces cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make network namespaces")
    if not (CNI_BIN / "bridge").exists():
        pytest.skip("needs the package containernetworking-plugins")
    node = Node(root)
    try:
        yield node
    finally:
        node.close()
