"""The cluster's folder: what lies where, and the record of what must be put back."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from clusterrig.errors import ClusterError

# A socket's path may have 107 characters, and the longest one here needs 40 of them.
_LONGEST = 60
# Laid over in the cluster's namespaces: what is below is not there.
_HIDDEN = ("/run", "/var", "/etc", "/opt")


@dataclass(frozen=True, slots=True)
class Record:
    """What `down` needs: the first process, and by ``started`` (ticks after boot) that it is it."""

    pid: int
    started: int
    sysctls: dict[str, str]


class Folder:
    """Where one cluster keeps everything."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        if len(str(self.path)) > _LONGEST:
            raise ClusterError(f"{self.path}: too long for sockets in it, take a shorter --dir")
        if str(self.path).startswith(tuple(f"{top}/" for top in _HIDDEN)):
            raise ClusterError(f"{self.path}: not below any of {', '.join(_HIDDEN)}, please")
        self.keys = self.path / "keys"
        self.kubeconfig = self.path / "kubeconfig"
        self.multus_kubeconfig = self.path / "multus.api.kubeconfig"
        self.kubelet_kubeconfig = self.path / "kubelet.kubeconfig"
        digest = hashlib.sha256(str(self.path).encode()).hexdigest()[:8]
        self.cgroup = f"/hwmgr-cluster-{digest}"
        self._record = self.path / "record.json"
        self._facts = self.path / "facts.json"

    def make(self) -> None:
        """Make it, empty; raises ClusterError when it is there."""
        try:
            self.path.mkdir(mode=0o700, parents=True)
        except FileExistsError as error:
            raise ClusterError(f"{self.path} is there: run `scripts/cluster down` first") from error
        (self.path / "log").mkdir()

    def log(self, name: str) -> Path:
        """Return the log file of one program."""
        return self.path / "log" / f"{name}.log"

    def write_record(self, record: Record) -> None:
        unfinished = self._record.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(record)))
        unfinished.rename(self._record)

    def record(self) -> Record | None:
        """Return the record, None when no cluster has been started here."""
        try:
            return Record(**json.loads(self._record.read_text()))
        except FileNotFoundError:
            return None

    def write_facts(self, **facts: str) -> None:
        self._facts.write_text(json.dumps(facts, indent=1))

    def facts(self) -> dict[str, str]:
        """Return what tests need to know of a cluster that is up."""
        found: dict[str, str] = json.loads(self._facts.read_text())
        return found


def started(pid: int) -> int:
    """Return when a process started, in ticks after boot; 0 when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # proc(5): field 22; the second one may have spaces and parentheses in it.
    return int(text.rpartition(")")[2].split()[19])


def first_child(pid: int) -> int | None:
    """Return the first child of a process, None when it has none (yet)."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(words[0]) if words else None


def cgroup_mounts() -> list[str]:
    """Return where the cgroup hierarchies of this machine are mounted."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines if line.split()[2] in ("cgroup", "cgroup2")]


def is_root() -> bool:
    return os.geteuid() == 0
