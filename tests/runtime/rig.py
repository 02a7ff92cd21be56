"""A node for tests with a real container runtime: its namespace, its plugins, what it has left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from hwmgr.netns import entered
from tests.fakes.namespaces import Namespace
from tests.functional import rawlinks
from tests.runtime.containerd import Containerd

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
CNI_BIN = Path("/usr/lib/cni")
RESULTS = Path("/var/lib/cni/results")
NETWORK = "mnet"
_CLEAN_SECONDS = 30
# The test opens one end of each fifo: it learns that the verb is under way, and lets it go on.
_GATE = """#!/bin/sh
cat > /dev/null
if [ "$CNI_COMMAND" = "$(cat "$GATE.verb")" ]; then
    echo "$CNI_CONTAINERID" > "$GATE.asked"
    read -r _ < "$GATE.open"
fi
[ "$CNI_COMMAND" = ADD ] || exit 0
printf '{"cniVersion": "1.0.0", "interfaces": [], "ips": []}'
"""
# Fails when told to by a file, having taken a lease; see tests/functional/lease_plugin.sh.
_LEASE = ROOT / "tests/functional/lease_plugin.sh"


class Host(Protocol):
    """The namespace that containerd runs in."""

    fd: int
    path: str

    def close(self) -> None:
        """Let go of it."""


class Rig:
    """A containerd in a namespace of its own with our plugins; everything is gone at the end.

    ``main`` is the program behind ``multus``, ``host`` the namespace; a new one if there is none.
    """

    # Whether a plugin goes on when the program is killed that the runtime has started.
    plugins_outlive_calls = False

    def __init__(
        self,
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        main: str = "scripts/launchers/multus",
        host: Host | None = None,
        patience: float = 1,
    ) -> None:
        self.folder, self.host = folder, host or Namespace()
        self.cni_dir, self.state_dir = folder / "multus", folder / "state"
        self.ipam, self.leases, self.gate = folder / "ipam", folder / "leases", folder / "gate"
        self.leases.mkdir()
        for end in ("asked", "open"):
            os.mkfifo(f"{self.gate}.{end}")
        self.stop_at("ADD")
        enter = ["nsenter", f"--net={self.host.path}"]
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        self.enter = enter
        facts = {
            "PYTHONPATH": str(ROOT),
            "HWMGR_STATE_DIR": str(self.state_dir),
            "HWMGR_CONFIG": str(folder / "no-such-config.yaml"),
            "LEASES": str(self.leases),
            "GATE": str(self.gate),
        }
        self.containerd = Containerd(enter=enter, env={**facts, **(env or {})}, patience=patience)
        self.cri = self.containerd.cri
        fill_bin_dir(self.containerd.bin_dir, main)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.containerd.close()
        self.host.close()

    def network(self, *delegates: Mapping[str, Any], version: str = "1.0.0", **more: Any) -> None:
        """Write the node's one network, multus with delegates; containerd reads it as it starts."""
        multus = {
            "type": "multus",
            "capabilities": {"portMappings": True},
            "cniDir": str(self.cni_dir),
            "binDir": str(self.containerd.bin_dir),
            "delegates": delegates,
            **more,
        }
        whole = {"cniVersion": version, "name": NETWORK, "plugins": [multus]}
        (self.containerd.conf_dir / "00-multus.conflist").write_text(json.dumps(whole))

    def bridge(self, name: str = "br", subnet: str = "10.55.0.0/24", **more: Any) -> dict[str, Any]:
        """Return a bridge delegate with addresses from host-local."""
        return self._delegate(name, "bridge", subnet, bridge=f"{name}0", **more)

    def ptp(self, name: str = "p2p", subnet: str = "10.66.0.0/24") -> dict[str, Any]:
        """Return a point-to-point delegate with addresses from host-local."""
        return self._delegate(name, "ptp", subnet)

    def stop_at(self, verb: str) -> None:
        """Have the delegate ``gate`` wait in a verb; in the others it does nothing."""
        Path(f"{self.gate}.verb").write_text(verb)

    def wait_at_gate(self) -> str:
        """Wait until a call waits in the delegate ``gate``; return its container id."""
        with open(f"{self.gate}.asked") as asked:
            return asked.readline().strip()

    def open_gate(self) -> None:
        """Let the call that waits in ``gate`` go on."""
        with open(f"{self.gate}.open", "w") as gate:
            gate.write("go on\n")

    def plain(self, plugin: str) -> dict[str, Any]:
        """Return a delegate that is a plugin of the tests, ``gate`` or ``leasea``."""
        return {"name": plugin, "type": plugin, "cniVersion": "1.0.0"}

    def ipam_conf(self, subnet: str) -> dict[str, Any]:
        return {"type": "host-local", "subnet": subnet, "dataDir": str(self.ipam)}

    def addresses(self, sandbox: str) -> dict[str, list[str]]:
        """Return the links of a running sandbox, with their IPv4 addresses."""
        return addresses_in(self.cri.netns(sandbox))

    def left(self) -> dict[str, list[str]]:
        """Return all that attachments leave until they are detached; empty when they are.

        What a killed writer leaves half-written begins with a dot, and nobody reads it.
        """
        below = str(self.containerd.folder)
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        found = {
            "files": [
                path.relative_to(self.folder).as_posix()
                for top in (self.cni_dir, self.state_dir, self.ipam, self.leases)
                for path in top.rglob("*")
                if path.is_file()
                if path.name != "lock" and not path.name.startswith((".", "last_reserved_ip."))
                if "/locks/" not in str(path) and not path.name.endswith(".lock")
            ],
            "links": [name for name in self.host_links() if name.startswith("veth")],
            "results": [path.name for path in RESULTS.glob("*") if below in path.read_text()],
            "namespaces": [mount for mount in mounts if mount.startswith(f"{below}/state")],
        }
        return {what: sorted(names) for what, names in found.items() if names}

    def wait_until_clean(self) -> None:
        """Wait until nothing is left; AssertionError with what is. Nobody tells when it is time."""
        deadline = time.monotonic() + _CLEAN_SECONDS
        while left := self.left():
            if time.monotonic() > deadline:
                raise AssertionError(f"left after {_CLEAN_SECONDS} s: {left}")
            time.sleep(0.05)

    def host_links(self) -> set[str]:
        """Return the names of the host's links."""
        with entered(self.host.fd):
            return {link.name for link in rawlinks.links()}

    def nat_rules(self) -> str:
        argv = [*self.enter, "iptables-save", "-t", "nat"]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def _delegate(self, name: str, kind: str, subnet: str, **more: Any) -> dict[str, Any]:
        ipam = self.ipam_conf(subnet)
        return {"name": name, "type": kind, "cniVersion": "1.0.0", "ipam": ipam, **more}


def fill_bin_dir(folder: Path, main: str = "scripts/launchers/multus") -> None:
    """Put the distribution's plugins, our two and the tests' own into a runtime's bin_dir."""
    for plugin in CNI_BIN.iterdir():
        (folder / plugin.name).symlink_to(plugin)
    for name, source in (("multus", main), ("sriov", "scripts/launchers/sriov")):
        text = (ROOT / source).read_text().removeprefix("#!python\n")
        _write_program(folder / name, f"#!{sys.executable}\n{text}")
    _write_program(folder / "gate", _GATE)
    shutil.copy(_LEASE, folder / "leasea")


def addresses_in(netns: str) -> dict[str, list[str]]:
    """Return the links of a namespace but lo, with their IPv4 addresses."""
    argv = ["nsenter", f"--net={netns}", "ip", "-j", "addr"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return {
        link["ifname"]: [a["local"] for a in link["addr_info"] if a["family"] == "inet"]
        for link in json.loads(done.stdout)
        if link["ifname"] != "lo"
    }


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
