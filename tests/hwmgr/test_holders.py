"""What keeps a namespace alive is named: by a proc of our making and by the real one."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from hwmgr.holders import HeldBy, Holders, namespace_holders, process_name, sees_all_processes
from hwmgr.inuse import Namespaces
from hwmgr.locate import open_owner
from hwmgr.model import NetnsIdentity
from tests.fakes.namespaces import Namespace

if TYPE_CHECKING:
    from pathlib import Path

    from hwmgr.node import Node


def test_the_real_proc_names_our_own_descriptor_and_process() -> None:
    made = Namespace()
    try:
        (holder,) = namespace_holders("/proc")[made.key]
        assert holder.kind is HeldBy.DESCRIPTOR
        assert holder.path == made.path
        assert holder.text.startswith(f"descriptor {made.fd} of process {os.getpid()} (")
    finally:
        made.close()
    ours = os.stat("/proc/self/ns/net")
    held = namespace_holders("/proc")[ours.st_dev, ours.st_ino]
    assert f"/proc/{os.getpid()}/ns/net" in {h.path for h in held}
    assert HeldBy.PROCESS in {h.kind for h in held}


def test_mounts_come_first_and_files_of_other_kinds_are_not_touched(tmp_path: Path) -> None:
    made = Namespace()
    inode = made.key[1]
    proc = tmp_path / "proc"
    for pid, link in (("7", made.path), ("8", "/proc/self/ns/net")):
        (proc / pid / "ns").mkdir(parents=True)
        (proc / pid / "ns/net").symlink_to(link)
        (proc / pid / "comm").write_text("nginx\n")
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/ns/net").symlink_to("/proc/self/ns/net")
    (proc / "self/ns/mnt").symlink_to("/proc/self/ns/mnt")
    (proc / "self/mountinfo").write_text(
        f"45 42 0:4 net:[{inode}] /run/netns/a\\040b rw - nsfs nsfs rw\n"
        "46 42 0:4 / /proc rw - proc proc rw\nshort\n"
    )
    (proc / "8/fd").mkdir()
    (proc / "8/fd/3").symlink_to(tmp_path / "dead-server")
    try:
        held = namespace_holders(str(proc))[made.key]
        assert [h.text for h in held] == ["mount /run/netns/a b", "process 7 (nginx)"]
        assert held[0].path == "/run/netns/a b"
    finally:
        made.close()


def test_what_is_not_there_is_nobody(tmp_path: Path) -> None:
    assert namespace_holders(str(tmp_path / "none")) == {}
    assert process_name(str(tmp_path), "1") == "gone"
    assert not sees_all_processes(str(tmp_path))


def test_without_the_right_to_look_into_processes_not_all_are_seen(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/ns").symlink_to("/proc/self/ns")
    status = tmp_path / "self/status"
    status.write_text("Name:\tx\nCapEff:\t000001ffffffffff\n")
    initial = os.stat("/proc/self/ns/pid").st_ino == 0xEFFFFFFC
    assert sees_all_processes(str(tmp_path)) is initial
    status.write_text("Name:\tx\nCapEff:\t0000000000000000\n")
    assert not sees_all_processes(str(tmp_path))


def test_mount_points_with_blanks_and_more_than_ascii(tmp_path: Path) -> None:
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/net").symlink_to("/proc/self/ns/net")
    row = "1 1 0:4 net:[77] /run/a\\040b/é rw - nsfs nsfs rw\n"
    (tmp_path / "self/mountinfo").write_text(row, encoding="utf-8")
    (holders,) = namespace_holders(str(tmp_path)).values()
    assert [h.path for h in holders] == ["/run/a b/é"]


@pytest.mark.parametrize("end", ["\r", "\x0c", "\x1e", "\u0085", "\u2028"])
def test_a_mount_point_of_anybodys_forges_no_line(tmp_path: Path, end: str) -> None:
    """As ``fusermount`` lets a user have one; a blank in it is written as four characters."""
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/net").symlink_to("/proc/self/ns/net")
    (tmp_path / "1/ns").mkdir(parents=True)
    (tmp_path / "1/ns/net").symlink_to("/proc/self/ns/net")
    device = os.stat("/proc/self/ns/net").st_dev
    theirs = f"1 1 0:4 / /home/a{end}b{end}c rw - fuse x rw\n"
    pod = "2 1 0:4 net:[78] /run/netns/p rw - nsfs n rw\n"
    (tmp_path / "self/mountinfo").write_text(theirs + pod, encoding="utf-8", newline="")
    held = namespace_holders(str(tmp_path))
    assert [h.path for h in held[device, 78]] == ["/run/netns/p"]
    living = Namespaces(str(tmp_path))
    assert living.alive(NetnsIdentity("", device, 78))
    assert not living.alive(NetnsIdentity("", device, 79))
    node = SimpleNamespace(proc=str(tmp_path))
    assert open_owner(cast("Node", node), NetnsIdentity("", device, 79)) is None


def test_holders_are_looked_for_when_asked_and_then_no_more(tmp_path: Path) -> None:
    mounts = tmp_path / "self/mountinfo"
    mounts.parent.mkdir()
    holders = Holders(str(tmp_path))
    mounts.write_text("1 1 0:4 net:[7] /a rw - nsfs nsfs rw\n")
    (key,) = holders.all()
    mounts.write_text("")
    assert [h.path for h in holders.of(key)] == ["/a"]
    assert list(holders.of((0, 8))) == []
