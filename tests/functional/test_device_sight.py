"""An ADD in a container that really sees neither the host's processes nor its mounts."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.errors import HwmgrError
from hwmgr.holders import sees_all_processes
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, Kind, PciAddress
from hwmgr.netns import entered
from tests.fakes.tree import Nic
from tests.functional.harness import Bench, changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: namespaces and veth"),
]
NIC = Nic(vfs=1)
VF = PciAddress(NIC.vf(0))
_CLONE_NEWNS, _CLONE_NEWPID = 0x00020000, 0x20000000


@contextmanager
def named() -> Iterator[str]:
    name = f"sight-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield f"/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def in_a_container(unseen: str, work: Callable[[], object]) -> Any:
    """Do something as the first process of a container where a namespace's name is a plain file."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        if ctypes.CDLL(None).unshare(_CLONE_NEWNS | _CLONE_NEWPID) == 0:
            first = os.fork()
            if first == 0:
                _as_first(unseen, work, writing)
            os.waitpid(first, 0)
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)


def _as_first(unseen: str, work: Callable[[], object], writing: int) -> None:
    try:
        for command in (
            ("mount", "--make-rprivate", "/"),
            ("mount", "-t", "proc", "proc", "/proc"),
            ("umount", unseen),
        ):
            subprocess.run(command, check=True)
        found = work()
        os.write(writing, json.dumps(found).encode())
    finally:
        os._exit(0)


def test_it_takes_no_vf_whose_owner_it_cannot_see(tmp_path: Path) -> None:
    with named() as path, closing(Bench(str(tmp_path), NIC)) as bench, entered(bench.host.fd):
        new = bench.pod()

        def attach(path: str, container: str) -> None:
            request = AttachRequest(container, "net1", path, Kind.VF, device=VF)
            Manager(bench.node()).attach(request)

        def try_to() -> object:
            try:
                attach(f"/proc/self/fd/{new.fd}", "decade00" * 8)
            except HwmgrError as error:
                return [sees_all_processes("/proc"), str(error)]
            return [sees_all_processes("/proc"), ""]

        attach(path, "feedbeef" * 8)
        before = bench.snapshot()
        sees_all, said = in_a_container(path, try_to)
        assert sees_all is False
        assert "allocated to container feedbeef" in said
        assert "cannot be seen from here" in said
        assert changes(before, bench.snapshot()) == {}
        assert bench.names_in(new) == set()
        Manager(bench.node()).detach("feedbeef" * 8, "net1", path)
