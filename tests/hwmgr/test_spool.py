"""Calls that were left for later: in order, each believed only if it is what it says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from hwmgr import savedstate
from hwmgr.errors import RecordTorn, StateError
from hwmgr.frames import LONGEST_INPUT, Call, encode_call
from hwmgr.spool import Spool
from hwmgr.store import StateDir
from tests.fakes.left import leave

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENV = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0"}
NAME = "c1.eth0.1767323045000000001.42"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(StateDir(str(tmp_path)))


def put(root: Path, data: bytes, name: str = NAME) -> Path:
    path = root / "spool" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def frame(**env: str) -> bytes:
    return encode_call(Call("multus", {**ENV, **env}, b"{}"))


def test_nothing_is_left_where_there_is_no_folder(spool: Spool) -> None:
    assert (spool.names(), spool.count(), spool.has("x"), spool.read("x")) == ([], 0, False, None)


def test_calls_come_oldest_first_whatever_their_names(spool: Spool, tmp_path: Path) -> None:
    young = leave(tmp_path, {**ENV, "CNI_CONTAINERID": "a"}, {})
    old = leave(tmp_path, {**ENV, "CNI_CONTAINERID": "z"}, {}, age=9)
    (tmp_path / "spool/.c1.eth0.half-written").write_bytes(b"")
    assert spool.names() == [old.name, young.name]
    assert spool.names("z") == [old.name]
    assert spool.count() == 2


def test_a_call_is_read_as_it_was_left_and_removed(spool: Spool, tmp_path: Path) -> None:
    put(tmp_path, frame(CNI_NETNS="/run/netns/p"))
    found = spool.read(NAME)
    assert found is not None
    assert (found.container_id, found.ifname, found.call.program) == ("c1", "eth0", "multus")
    assert found.since == pytest.approx(1767323045)
    spool.remove(NAME)
    spool.remove(NAME)
    assert not spool.has(NAME)


def test_dots_in_names_are_told_apart_by_content(spool: Spool, tmp_path: Path) -> None:
    dotted = {**ENV, "CNI_CONTAINERID": "c1.x"}
    one = leave(tmp_path, dotted, {}, age=3)
    two = leave(tmp_path, {**ENV, "CNI_IFNAME": "x.eth0"}, {}, age=2)
    three = leave(tmp_path, dotted, {}, age=1)
    left = spool.read(one.name)
    assert left is not None
    assert left.container_id == "c1.x"
    assert spool.twins(left) == [one.name, three.name]
    assert spool.names("c1") == [one.name, two.name, three.name]


def torn(root: Path) -> None:
    put(root, frame()[:-1])


def empty(root: Path) -> None:
    put(root, b"")


def someone_elses_content(root: Path) -> None:
    put(root, frame(CNI_CONTAINERID="c2"))


def writable_by_others(root: Path) -> None:
    put(root, frame()).chmod(0o622)


def link(root: Path) -> None:
    target = root / "elsewhere"
    target.write_bytes(frame())
    (root / "spool").mkdir()
    (root / "spool" / NAME).symlink_to(target)


def pipe(root: Path) -> None:
    (root / "spool").mkdir()
    os.mkfifo(root / "spool" / NAME)


def folder(root: Path) -> None:
    (root / "spool" / NAME).mkdir(parents=True)


def huge(root: Path) -> None:
    os.truncate(put(root, frame()), LONGEST_INPUT * 2)


BAD = [torn, empty, someone_elses_content, writable_by_others, link, pipe, folder, huge]


@pytest.mark.parametrize("make", BAD)
def test_what_must_not_be_run_is_refused_and_can_be_set_aside(
    spool: Spool, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path)
    with pytest.raises(RecordTorn):
        spool.read(NAME)
    spool.set_aside(NAME)
    spool.set_aside(NAME)
    assert spool.names() == []
    assert os.path.lexists(tmp_path / "spool-torn" / NAME)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(spool: Spool, tmp_path: Path) -> None:
    os.chown(put(tmp_path, frame()), 12345, 12345)
    with pytest.raises(RecordTorn, match="user 12345"):
        spool.read(NAME)


@pytest.mark.parametrize("name", ["c1.eth0", "c1.eth0.1.2", "c1.eth0.176732304500000000x.1", "x"])
def test_a_name_of_no_call_is_refused(spool: Spool, tmp_path: Path, name: str) -> None:
    put(tmp_path, frame(), name)
    with pytest.raises(RecordTorn, match="name"):
        spool.read(name)


def test_names_never_lead_elsewhere(spool: Spool) -> None:
    for name in ("../journal", "..", "", "a/b"):
        with pytest.raises(StateError):
            spool.read(name)


def test_trying_a_call_is_noted(spool: Spool, tmp_path: Path) -> None:
    path = put(tmp_path, frame())
    os.utime(path, (1000, 1000))
    assert spool.untouched(NAME, 1060.0) == 60
    spool.tried(NAME)
    assert spool.untouched(NAME, path.stat().st_mtime) == 0
    path.unlink()
    spool.tried(NAME)
    assert spool.untouched(NAME, 1e12) == 0


def test_state_list_shows_them_and_nothing_of_their_content(tmp_path: Path) -> None:
    put(tmp_path, frame())
    put(tmp_path, b"junk", "c9.eth0.1767323045000000001.42")
    state = StateDir(str(tmp_path))
    Spool(state).set_aside("c9.eth0.1767323045000000001.42")
    put(tmp_path, b"junk", "c8.eth0.1767323045000000001.42")
    shown = {e.id: e for e in savedstate.all_entries(state)}
    assert set(shown) == {
        f"spool/{NAME}",
        "spool/c8.eth0.1767323045000000001.42",
        "spool-torn/c9.eth0.1767323045000000001.42",
    }
    good = shown[f"spool/{NAME}"]
    assert (good.container_id, good.ifname) == ("c1", "eth0")
    assert "left for later" in str(good.problem)
    assert savedstate.content(state, good) is None
