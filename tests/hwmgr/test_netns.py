"""Which namespace a path stands for, and that entering one moves nobody else."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from hwmgr.deadline import within
from hwmgr.errors import NamespaceError
from hwmgr.netns import entered, has_interface, identity, open_namespace
from tests.fakes.namespaces import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

root_only = pytest.mark.skipif(os.getuid() != 0, reason="entering a namespace needs root")


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    yield made
    made.close()


def test_identity_is_of_the_namespace_not_of_the_path(namespace: Namespace) -> None:
    first = identity(namespace.path)
    again = identity(f"/proc/self/fd/{namespace.fd}")
    assert first.path != again.path
    assert first.same_namespace(again)
    assert (first.dev, first.inode) == namespace.key
    assert not first.same_namespace(identity("/proc/self/ns/net"))
    assert not first.same_namespace(None)


def test_what_is_no_namespace(tmp_path: Path) -> None:
    empty = tmp_path / "leftover"
    empty.write_text("")
    for path, code in (
        (str(empty), errno.EINVAL),
        (str(tmp_path), errno.EINVAL),
        ("/proc/self/ns/mnt", errno.EINVAL),
        (str(tmp_path / "gone"), errno.ENOENT),
        ("/dev/null", errno.EINVAL),
        ("a\0b", errno.EINVAL),
    ):
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(NamespaceError) as caught:
            open_namespace(path)
        assert caught.value.errno == code, path
        assert len(os.listdir("/proc/self/fd")) == before, "a descriptor is left open"


def test_what_is_no_namespace_is_not_even_opened(tmp_path: Path) -> None:
    """A FIFO waits for its writer, /dev/watchdog reboots the node; a pod can have us look at it."""
    path = str(tmp_path / "ns")
    os.mkfifo(path)

    def look() -> int:
        try:
            identity(path)
        except NamespaceError as error:
            return error.errno
        return 0

    assert within(20, look) == errno.EINVAL


def test_a_closed_namespace_has_no_path(namespace: Namespace) -> None:
    path = namespace.path
    namespace.close()
    with pytest.raises(NamespaceError):
        identity(path)


@root_only
def test_entering_moves_this_thread_alone(namespace: Namespace) -> None:
    home = os.stat("/proc/thread-self/ns/net").st_ino
    seen: list[int] = []
    with entered(namespace.fd):
        other = threading.Thread(
            target=lambda: seen.append(os.stat("/proc/self/task").st_ino and _main_thread_ns())
        )
        assert os.stat("/proc/thread-self/ns/net").st_ino == namespace.key[1]
        other.start()
        other.join()
    assert os.stat("/proc/thread-self/ns/net").st_ino == home
    with pytest.raises(KeyError), entered(namespace.fd):
        raise KeyError
    assert os.stat("/proc/thread-self/ns/net").st_ino == home


def _main_thread_ns() -> int:
    return os.stat("/proc/self/ns/net").st_ino


@root_only
def test_two_threads_in_two_namespaces(namespace: Namespace) -> None:
    second = Namespace()
    barrier = threading.Barrier(2)
    seen: dict[int, int] = {}

    def work(space: Namespace) -> None:
        for _ in range(20):
            with entered(space.fd):
                barrier.wait(10)
                seen[space.key[1]] = os.stat("/proc/thread-self/ns/net").st_ino
                barrier.wait(10)

    threads = [threading.Thread(target=work, args=(s,)) for s in (namespace, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {s.key[1]: s.key[1] for s in (namespace, second)}
    second.close()


@root_only
def test_interfaces_of_a_namespace(namespace: Namespace) -> None:
    assert has_interface(namespace.fd, "lo")
    assert not has_interface(namespace.fd, "eth0")
    assert not has_interface(namespace.fd, "a-name-longer-than-the-kernel-takes")
