"""A simulated SR-IOV card in the cluster's network namespace, and a multus that finds it there."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.fakes.namespaces import Namespace
from tests.functional import rawlinks
from tests.functional.harness import VethPlant, VethSysfs
from tests.runtime.rig import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.node import ClusterNode
    from tests.fakes.tree import Nic

_POD_RESOURCES = "/var/lib/kubelet/pod-resources"
_DEVICE_INFO = "/run/k8s.cni.cncf.io/devinfo"


class Card:
    """Veth ends stand for the PF and its VFs, a folder for sysfs."""

    def __init__(self, folder: Path, nic: Nic) -> None:
        self._folder, self.nic = folder, nic
        self._wire = Namespace()
        self._host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        plant = VethPlant(self._host, self._wire.fd)
        self.sim = VethSysfs(str(folder), plant)
        plant.sim = self.sim
        self.sim.add_nic(nic)

    def close(self) -> None:
        # The kernel would end them with the other namespace, but some time later.
        for link in rawlinks.links():
            if link.group:
                subprocess.run(["ip", "link", "del", link.name], check=False, capture_output=True)
        self._wire.close()
        os.close(self._host)

    @contextmanager
    def serving(self, node: ClusterNode) -> Iterator[None]:
        """Let the node's multus be one that finds this card, for a while."""
        usual = (node.bin_dir / "multus").read_text()
        _put_program(node.bin_dir, self._program())
        try:
            yield
        finally:
            _put_program(node.bin_dir, usual)

    def _program(self) -> str:
        environment = {
            "PYTHONPATH": ROOT,
            "VETH_BASE": self._folder,
            "VETH_WIRE": self._wire.path,
            "KUBELET": _POD_RESOURCES,
            "DEVINFO": _DEVICE_INFO,
        }
        words = [*(f"{key}={value}" for key, value in environment.items()), sys.executable]
        command = shlex.join(["env", *words, str(ROOT / "tests/runtime/veth_main.py")])
        return f"#!/bin/sh\nexec {command}\n"

    def snapshot(self) -> dict[str, object]:
        """Return what the host can see of it: sysfs, netdevs, settings of VFs."""
        found: dict[str, object] = dict(self.sim.tree.snapshot())
        found["settings"] = self.sim.vf_side.get(self.nic.address)
        for link in rawlinks.links():
            if link.group:
                found[f"netdev {link.name}"] = (link.group, link.mac, link.mtu)
        return found


def _put_program(bin_dir: Path, text: str) -> None:
    """Replace multus, for calls that begin from now on."""
    unfinished = bin_dir / "unfinished"
    unfinished.write_text(text)
    unfinished.chmod(0o755)
    unfinished.rename(bin_dir / "multus")
