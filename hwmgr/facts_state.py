"""What the state directory holds, as facts for doctor: records, claims, files of killed writes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr import claims
from hwmgr.errors import LockTimeout, NamespaceError, RecordTorn, StateError
from hwmgr.journal import SCHEMA
from hwmgr.journal import decode as decode_record
from hwmgr.netns import identity
from hwmgr.pci import parse_address
from hwmgr.savedstate import all_entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.holders import NamespaceKey
    from hwmgr.model import Record
    from hwmgr.node import Node
    from hwmgr.savedstate import SavedEntry
    from hwmgr.store import StateDir

# StateDir.write_bytes(): ``.<name>.<pid>.<nanoseconds>``.
_TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)\.\d+$")
_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class RecordFile:
    """One file of the journal: ``problem`` says why it is no record, ``schema`` is its number.

    ``address`` is what its name says, None for a name that is no address as records have it.
    """

    name: str
    path: str
    address: str | None
    record: Record | None = None
    problem: str | None = None
    schema: object = SCHEMA

    @property
    def fits(self) -> bool:
        """Tell whether the record is of the function that the file is named after."""
        return self.record is not None and self.record.address == self.address


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim file: the path in it, and the namespace that this leads to, None when to none."""

    path: str
    key: NamespaceKey | None

    @property
    def live(self) -> bool:
        """Tell whether the path still is a namespace."""
        return self.key is not None


@dataclass(frozen=True, slots=True)
class Temporary:
    """A file that a write left when its process was killed."""

    path: str
    pid: str


@dataclass(frozen=True, slots=True)
class StateFacts:
    """All of the state directory that doctor looks at."""

    root: str
    mode: int
    files: tuple[RecordFile, ...]
    claims: dict[str, Claim]
    entries: tuple[SavedEntry, ...]
    temporaries: tuple[Temporary, ...]


def gather_state(node: Node, *, everything: bool = True) -> StateFacts:
    """Read the state directory; without ``everything`` only records and claims. Writes nothing."""
    state = node.state
    found = {
        address: Claim(path, _key(path))
        for address in claims.addresses(state)
        if (path := claims.claimed_by(state, address)) is not None
    }
    return StateFacts(
        root=state.root,
        mode=_mode(state.root),
        files=tuple(_record_files(state)),
        claims=found,
        entries=tuple(all_entries(state)) if everything else (),
        temporaries=tuple(_temporaries(node)) if everything else (),
    )


def is_busy(node: Node, address: str) -> bool:
    """Tell whether a call is working on a function; makes no lock file where there is none."""
    if not os.path.exists(node.state.path("pci", "vf_lock", address + ".lock")):
        return False
    try:
        with node.locks.function(address, timeout=0):
            return False
    except LockTimeout:
        return True
    except StateError:
        # A state directory that can only be read: looking is all that can be done there.
        return False


def _key(path: str) -> NamespaceKey | None:
    try:
        netns = identity(path)
    except NamespaceError:
        return None
    return netns.dev, netns.inode


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode & 0o7777
    except OSError:
        return 0o700


def _record_files(state: StateDir) -> Iterator[RecordFile]:
    for name in state.list("journal"):
        path = state.path("journal", name)
        if os.path.isdir(path):
            continue
        stem = name.removesuffix(_SUFFIX)
        address = parse_address(stem) if name == f"{parse_address(stem)}{_SUFFIX}" else None
        try:
            value = state.read_json("journal", name)
        except RecordTorn as error:
            yield RecordFile(name, path, address, problem=error.reason)
            continue
        schema = value.get("schema") if isinstance(value, dict) else SCHEMA
        try:
            record = decode_record(value, path)
        except RecordTorn as error:
            yield RecordFile(name, path, address, problem=error.reason, schema=schema)
            continue
        yield RecordFile(name, path, address, record)


def _temporaries(node: Node) -> Iterator[Temporary]:
    state = node.state
    folders = ["", "journal", "journal/containers", "journal-torn", "pci"]
    folders += [name for name in state.list() if name.isascii() and name.isdigit()]
    for folder in folders:
        home = os.path.join(state.root, folder) if folder else state.root
        try:
            names = sorted(os.listdir(home))
        except OSError:
            continue
        for name in names:
            found = _TEMPORARY.fullmatch(name)
            if found and not os.path.exists(f"{node.proc}/{found['pid']}"):
                yield Temporary(f"{home}/{name}", found["pid"])
