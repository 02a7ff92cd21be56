"""Calls of the real executables, as a container runtime makes them."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PLUGINS = os.path.join(os.path.dirname(__file__), "plugins")
CNI_PATH = f"{PLUGINS}:/usr/lib/cni"


@dataclass(frozen=True)
class Answer:
    """What one call printed, and its exit status."""

    status: int
    value: Any
    stderr: str


@dataclass(frozen=True)
class Pod:
    """A container id, a named namespace, and what the runtime says of the pod."""

    container_id: str
    netns: str
    args: str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod"

    @property
    def path(self) -> str:
        """The namespace as the runtime names it: a bind mount."""
        return f"/run/netns/{self.netns}"

    def call(
        self, program: str, verb: str, conf: dict[str, Any], *, netns: str | None = None
    ) -> Answer:
        """Run ``multus`` or ``sriov`` for one verb."""
        env = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.path if netns is None else netns,
            "CNI_IFNAME": "eth0" if program == "multus" else "net1",
            "CNI_PATH": CNI_PATH,
            "CNI_ARGS": self.args,
        }
        done = subprocess.run(
            [f"/usr/local/bin/{program}"],
            input=json.dumps(conf).encode(),
            env=env,
            capture_output=True,
            check=False,
            timeout=120,
        )
        value = json.loads(done.stdout) if done.stdout.strip() else None
        return Answer(done.returncode, value, done.stderr.decode())


@contextmanager
def pod() -> Iterator[Pod]:
    """Make a pod's namespace; it is gone after the block."""
    container_id = uuid.uuid4().hex * 2
    name = f"pod-{container_id[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield Pod(container_id, name)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
