"""Namespaces that have lost their name, really: found by what holds them, and emptied by it."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from hwmgr.doctor import examination as doctor
from hwmgr.doctor import repair
from hwmgr.inuse import OpenFiles
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, Kind, PciAddress
from hwmgr.netns import entered
from tests.fakes.tree import Nic
from tests.functional.harness import Bench, changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hwmgr.doctor.findings import Finding

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: namespaces and veth"),
]
NIC = Nic(vfs=5)
VF = PciAddress(NIC.vf(2))
HEALTHY = PciAddress(NIC.vf(0))
CONTAINER = "feedbeef" * 8


@contextmanager
def named() -> Iterator[str]:
    """Give a namespace with a name; whatever holds it afterwards has let go by then."""
    name = f"doctor-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield f"/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(str(tmp_path), NIC)
    try:
        yield made
    finally:
        made.close()


def attach(bench: Bench, address: PciAddress, path: str, container: str = CONTAINER) -> None:
    Manager(bench.node()).attach(AttachRequest(container, "net1", path, Kind.VF, device=address))


def unname(path: str) -> None:
    subprocess.run(["ip", "netns", "del", os.path.basename(path)], check=True)


def by_process(stack: ExitStack, path: str) -> str:
    inode = os.stat(path).st_ino
    child = subprocess.Popen(
        ["ip", "netns", "exec", os.path.basename(path), "sh", "-c", "echo in; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    stack.callback(child.communicate)
    assert child.stdout is not None
    assert child.stdout.readline() == b"in\n"
    assert os.stat(f"/proc/{child.pid}/ns/net").st_ino == inode
    return f"process {child.pid} ("


def by_descriptor(stack: ExitStack, path: str) -> str:
    fd = os.open(path, os.O_RDONLY)
    stack.callback(os.close, fd)
    return f"descriptor {fd} of process {os.getpid()} ("


def by_mount(stack: ExitStack, path: str) -> str:
    kept = f"/run/kept-{os.getpid()}"
    with open(kept, "w"):
        stack.callback(os.unlink, kept)
    subprocess.run(["mount", "--bind", path, kept], check=True)
    stack.callback(subprocess.run, ["umount", kept], check=True)
    return f"mount {kept}"


HOLDERS = (by_process, by_descriptor, by_mount)


@pytest.mark.parametrize("record", [True, False], ids=["with record", "by the alias alone"])
@pytest.mark.parametrize("holder", HOLDERS, ids=[h.__name__ for h in HOLDERS])
def test_a_nameless_namespace_is_named_and_gives_its_vf_back(
    bench: Bench, holder: Callable[[ExitStack, str], str], record: bool
) -> None:
    with entered(bench.host.fd), ExitStack() as stack:
        healthy = bench.pod()
        attach(bench, HEALTHY, healthy.path, "c0ffee00" * 8)
        node = bench.node()
        assert doctor.examine(node) == []
        before, untouched = bench.snapshot(), links(bench, healthy.fd)
        path = stack.enter_context(named())
        attach(bench, VF, path)
        held = holder(stack, path)
        if not record:
            made = node.journal.read(VF)
            assert made is not None
            for file in made.saved_files:
                os.unlink(file)
            node.journal.remove(VF)
            node.state.remove("pci", VF)
        unname(path)

        (found,) = doctor.examine(node)
        assert held in found.finding or held in facts(found)
        if record:
            assert (found.id, found.subject) == ("netns-nameless", VF)
        elif holder is by_mount:
            # A mount is a name that somebody has given it: its owner may well live.
            assert found.id == "record-missing"
            repair.carry_out(node, repair.plan(node))
            assert doctor.examine(node) == []
            Manager(node).detach(CONTAINER, "net1")
        else:
            assert found.id == "vf-lost-nameless"
        outcomes = repair.carry_out(node, repair.plan(node))
        assert [o.problems for o in outcomes if o.problems] == []
        assert doctor.examine(node) == []
        assert changes(before, bench.snapshot()) == {}
        assert links(bench, healthy.fd) == untouched


def test_a_namespace_in_flight_is_nobodys_and_the_driver_is_bound_anew(bench: Bench) -> None:
    with entered(bench.host.fd), ExitStack() as stack:
        path = stack.enter_context(named())
        node = bench.node()
        attach(bench, VF, path)
        left, right = socket.socketpair(socket.AF_UNIX)
        stack.callback(right.close)
        fd = os.open(path, os.O_RDONLY)
        socket.send_fds(left, [b"x"], [fd])
        os.close(fd)
        left.close()
        unname(path)
        (found,) = doctor.examine(node)
        assert (found.id, found.subject) == ("vf-leaked", VF)
        outcomes = repair.carry_out(node, repair.plan(node))
        assert [o.problems for o in outcomes if o.problems] == []
        assert doctor.examine(node) == []


def facts(found: Finding) -> str:
    return " ".join(e.fact for e in found.evidence)


def links(bench: Bench, fd: int) -> object:
    with bench.node().netlink.links(fd) as there:
        return there.list()


def test_a_device_file_of_a_virtual_machine_in_a_container_is_known_by_its_number(
    tmp_path: Path,
) -> None:
    """Its /dev is a file system of its own, in a mount namespace of its own."""
    ours, theirs = tmp_path / "vfio", tmp_path / "private"
    ours.mkdir()
    theirs.mkdir()
    number = os.makedev(1, 7)
    os.mknod(ours / "42", stat.S_IFCHR | 0o600, number)
    script = f"mount -t tmpfs none {theirs} && mkdir {theirs}/vfio && cd {theirs}/vfio && " + (
        "mknod 42 c 1 7 && exec 3<42 && exec cat"
    )
    child = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"it is cat that answers\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"it is cat that answers\n"
        assert os.readlink(f"/proc/{child.pid}/fd/3") != str(ours / "42")
        assert OpenFiles("/proc").holder(str(ours / "42")) == f"process {child.pid} (cat)"
    finally:
        child.communicate()
    assert OpenFiles("/proc").holder(str(ours / "42")) is None
