"""The state directory: whole records or none, on a full disk too; locks that tell their holder."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from hwmgr.errors import LockTimeout, RecordTorn, StateError
from hwmgr.locks import Locks
from hwmgr.store import StateDir

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(str(tmp_path / "state"))


def test_round_trip_and_modes(state: StateDir) -> None:
    assert state.read_json("a", "b") is None
    state.write_json({"x": [1, None]}, "a", "b")
    assert state.read_json("a", "b") == {"x": [1, None]}
    assert stat.S_IMODE(os.stat(state.path("a", "b")).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(state.path("a")).st_mode) == 0o700
    state.remove("a", "b")
    state.remove("a", "b")
    assert state.list("a") == []
    state.remove_folder_if_empty("a")
    assert state.list() == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0b"])
def test_names_that_could_lead_elsewhere(state: StateDir, name: str) -> None:
    for action in (
        lambda: state.read_bytes("x", name),
        lambda: state.write_bytes(b"", name),
        lambda: state.remove(name),
        lambda: state.list(name),
    ):
        with pytest.raises(StateError):
            action()


@pytest.mark.parametrize(
    "torn", [b"", b"[" * 100_000, b"{", b'{"a": 1}trailing', b"\xff\xfe", b"nul\0"]
)
def test_a_torn_record_is_named_and_kept(state: StateDir, torn: bytes) -> None:
    state.write_bytes(torn, "journal", "x")
    with pytest.raises(RecordTorn) as caught:
        state.read_json("journal", "x")
    assert caught.value.path == state.path("journal", "x")
    assert state.read_bytes("journal", "x") == torn


def test_a_disk_without_room_keeps_the_old_record(state: StateDir) -> None:
    """RLIMIT_FSIZE stands for the full disk: write(2) fails in the middle of the file."""
    state.write_json("old", "record")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StateError) as caught:
            state.write_bytes(b"x" * 100_000, "record")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert caught.value.errno == errno.EFBIG
    assert state.read_json("record") == "old"
    assert os.listdir(state.root) == ["record"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state = StateDir(str(tmp_path / "file" / "state"))
    with pytest.raises(StateError) as caught:
        state.writable()
    assert caught.value.errno == errno.ENOTDIR
    assert state.read_bytes("a") is None
    assert state.list() == []


def test_our_temporary_files_are_nobodys_records(state: StateDir) -> None:
    state.write_bytes(b"", "journal", ".x.123.456")
    assert state.list("journal") == []


def test_every_write_has_another_stamp(state: StateDir) -> None:
    assert state.stamps("journal") == {}
    seen = set()
    for number in range(5):
        state.write_json(number, "journal", "a.json")
        seen.add(state.stamps("journal")["a.json"])
    assert len(seen) > 1
    first = state.stamps("journal")
    assert state.stamps("journal") == first
    state.write_json(9, "journal", "a.json")
    assert state.stamps("journal") != first
    state.remove("journal", "a.json")
    assert state.stamps("journal") == {}


def test_long_names_still_have_room_for_the_temporary_file(state: StateDir) -> None:
    state.write_json(1, "n" * 255)
    assert state.read_json("n" * 255) == 1


def test_writers_at_once_leave_one_whole_record(state: StateDir) -> None:
    def write(number: int) -> None:
        for _ in range(10):
            state.write_json([number] * 500, "r")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    seen = set()
    while any(t.is_alive() for t in threads):
        value = state.read_json("r")
        if value is not None:
            assert isinstance(value, list)
            assert len(value) == 500
            seen.add(value[0])
    for thread in threads:
        thread.join()
    assert state.list() == ["r"]


def test_two_threads_exclude_each_other(state: StateDir) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(20):
            with state.lock("l", timeout=10):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def _hold(root: str, ready: multiprocessing.synchronize.Event, end: object) -> None:
    with StateDir(root).lock("locks", "l", timeout=1):
        ready.set()
        end.wait(20)  # type: ignore[attr-defined]


def test_the_holder_is_named_and_its_death_frees_the_lock(state: StateDir) -> None:
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(state.root, ready, end))
    holder.start()
    try:
        assert ready.wait(20)
        with pytest.raises(LockTimeout) as caught, state.lock("locks", "l", timeout=0):
            pass
        assert caught.value.holder == holder.pid
        assert str(holder.pid) in str(caught.value)
    finally:
        holder.kill()
        holder.join()
    with state.lock("locks", "l", timeout=1):
        pass


def test_a_lock_is_freed_by_an_error_inside(state: StateDir) -> None:
    with pytest.raises(KeyError), state.lock("l", timeout=0):
        raise KeyError
    with state.lock("l", timeout=0):
        pass


def test_the_functions_lock_is_sriov_cnis(state: StateDir) -> None:
    import fcntl

    with Locks(state).function("0000:01:10.0"):
        fd = os.open(f"{state.root}/pci/vf_lock/0000:01:10.0.lock", os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)
    with Locks(state).container("c" * 300):
        pass


@pytest.mark.parametrize("kind", ["folder", "fifo", "link", "loop", "endless"])
def test_what_none_of_us_wrote_is_torn_and_can_be_set_aside(state: StateDir, kind: str) -> None:
    """None of them may hold a reader up, or fill its memory."""
    state.write_bytes(b"", "journal", "other")
    path = state.path("journal", "x")
    if kind == "folder":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "endless":
        with open(path, "wb") as file:
            file.truncate(1 << 40)
    else:
        os.symlink("/etc/passwd" if kind == "link" else "x", path)
    with pytest.raises(RecordTorn):
        state.read_bytes("journal", "x")
    state.set_aside("journal", "x")
    assert state.list("journal") == ["other"]
    state.write_bytes(b"", "journal", "x")
    state.set_aside("journal", "x")
    assert state.list("journal-torn") == ["x", "x.1"]
