"""A watch in good days and bad ones, against the stand-in by the real client."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from multus.api.k8sclient import connect
from multus.api.objectcache import ObjectCache, trim_definition
from multus.api.watch import Watch, WatchLimits
from multus.clock import SystemClock
from tests.apiserver.server import ApiServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATH = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions"
KIND = "NetworkAttachmentDefinition"
LIMITS = WatchLimits(
    request=2.0, stream=60.0, silence=5.0, settled=0.0, first_pause=0.02, longest_pause=0.1
)
LONG = 20.0


class Recorder(ObjectCache):
    """A cache that also keeps what it was told, and wakes whoever waits for that."""

    def __init__(self, silence: float = LIMITS.silence) -> None:
        super().__init__("definition", trim_definition, SystemClock(), silence)
        self.told: list[str] = []
        self._changed = threading.Condition()

    def _tell(self, what: str) -> None:
        with self._changed:
            self.told.append(what)
            self._changed.notify_all()

    def replace(self, objects: Any) -> None:
        super().replace(objects)
        self._tell("list")

    def opened(self, catching_up: float) -> None:
        super().opened(catching_up)
        self._tell("open")

    def apply(self, kind: str, obj: Any) -> None:
        super().apply(kind, obj)
        self._tell(f"{kind} {obj['metadata']['name']}")

    def lost(self, why: str) -> None:
        super().lost(why)
        self._tell("lost")

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, LONG), self.told

    def wait_until_fresh(self) -> None:
        """Wait for time to pass, which wakes nobody."""
        end = time.monotonic() + LONG
        while not self.fresh():
            assert time.monotonic() < end, self.facts()
            time.sleep(0.01)

    def wait_for(self, *what: str) -> None:
        """Wait until these were told at the end, in this order."""
        self.wait(lambda: self.told[-len(what) :] == list(what))


def network(name: str, config: str = "{}") -> Any:
    meta = {"name": name, "namespace": "default"}
    return {"kind": KIND, "apiVersion": "k8s.cni.cncf.io/v1", "metadata": meta,
            "spec": {"config": config}}  # fmt: skip


@pytest.fixture(name="server")
def _server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        server.add(network("first"))
        yield server


@contextmanager
def watching(
    server: ApiServer, folder: Path, limits: WatchLimits = LIMITS
) -> Iterator[tuple[Watch, Recorder]]:
    api = connect(server.kubeconfig(folder / "kubeconfig"), {})
    assert api is not None
    sink = Recorder(limits.silence)
    watch = Watch(api, PATH, {}, sink, SystemClock(), limits, chance=lambda: 0.0)
    watch.start()
    try:
        yield watch, sink
    finally:
        watch.close()
        assert watch.join(LONG)
        api.close()


def listed_again(sink: Recorder) -> bool:
    """Tell whether there was a list after the first stream; a slow start may need two before."""
    return "list" in sink.told[sink.told.index("open") :]


def lists(server: ApiServer) -> int:
    return server.asked().count(f"GET {PATH}")


def test_a_list_and_then_its_changes(server: ApiServer, tmp_path: Path) -> None:
    with watching(server, tmp_path) as (_, sink):
        sink.wait_for("list", "open")
        assert sink.fresh()
        server.add(network("second", '{"a": 1}'))
        server.change(KIND, "first", {"spec": {"config": '{"b": 1}'}})
        server.remove(KIND, "second")
        sink.wait_for("ADDED second", "MODIFIED first", "DELETED second")
        found: Any = sink.find("default", "first")
        assert found["spec"]["config"] == '{"b": 1}'
        assert sink.find("default", "second") is None
    assert server.requests[1].query["resourceVersion"] == "10"
    assert server.requests[1].query["allowWatchBookmarks"] == "true"
    assert not sink.fresh()


def test_a_stream_that_ends_in_time_is_taken_up_where_it_ended(
    server: ApiServer, tmp_path: Path
) -> None:
    with watching(server, tmp_path, replace(LIMITS, stream=1.0)) as (_, sink):
        sink.wait_for("list", "open", "lost", "open")
        assert not listed_again(sink)
        server.add(network("second"))
        sink.wait(lambda: "ADDED second" in sink.told)


def test_bookmarks_move_the_place_to_go_on_from(tmp_path: Path) -> None:
    limits = replace(LIMITS, stream=1.0)
    with ApiServer(bookmarks=0.1) as server, watching(server, tmp_path, limits) as (_, sink):
        sink.wait_for("list", "open")
        # Of another kind: only a bookmark can tell the watch of that version.
        server.add({"kind": "Node", "metadata": {"name": "node1"}})
        version = str(server.store.version)
        sink.wait_for("lost", "open")
        streams = [each for each in server.requests if each.verb == "WATCH"]
        assert streams[-1].query["resourceVersion"] == version
        assert not listed_again(sink)


def test_a_stream_cut_in_the_middle_of_a_line_loses_nothing(
    server: ApiServer, tmp_path: Path
) -> None:
    server.fail("cut", verb="WATCH", times=1)
    with watching(server, tmp_path) as (_, sink):
        sink.wait_for("list", "open")
        server.add(network("second"))
        sink.wait_for("lost", "open", "ADDED second")
        assert not listed_again(sink)
        assert sink.find("default", "second") is not None


def test_after_a_break_what_was_missed_comes_before_it_is_believed(
    server: ApiServer, tmp_path: Path
) -> None:
    server.fail("cut", verb="WATCH", times=1)
    with watching(server, tmp_path, replace(LIMITS, catching_up=1.0)) as (_, sink):
        sink.wait_for("list", "open")
        assert sink.fresh()
        server.add(network("second"))
        began = time.monotonic()
        sink.wait_for("lost", "open", "ADDED second")
        assert not sink.fresh() or time.monotonic() - began >= 1.0
        sink.wait_until_fresh()
        assert time.monotonic() - began >= 1.0


def test_a_forgotten_version_begins_with_a_list(server: ApiServer, tmp_path: Path) -> None:
    # The stream breaks and, before it is taken up again, the server forgets where it was.
    with watching(server, tmp_path) as (_, sink):
        sink.wait_for("list", "open")
        server.down()
        sink.wait(lambda: not sink.fresh())
        server.add(network("second"))
        server.remove(KIND, "first")
        server.store.compact()
        server.up()
        sink.wait(lambda: sink.fresh() and sink.told.count("list") == 2)
        assert sink.find("default", "first") is None
        assert sink.find("default", "second") is not None


@pytest.mark.parametrize("how", ["error", 410, 500, "garbage", "close"])
def test_a_stream_that_never_was_one_begins_with_a_list(
    server: ApiServer, tmp_path: Path, how: Any
) -> None:
    server.fail(how, verb="WATCH", times=2)
    with watching(server, tmp_path, replace(LIMITS, settled=LONG)) as (_, sink):
        sink.wait(lambda: sink.fresh() and lists(server) == 3)
        server.add(network("second"))
        sink.wait_for("ADDED second")


def test_an_expired_resume_lists_at_once(server: ApiServer, tmp_path: Path) -> None:
    server.fail("cut", verb="WATCH", times=1)
    server.fail(410, verb="WATCH", first=2, times=1)
    with watching(server, tmp_path) as (_, sink):
        sink.wait_for("list", "open")
        server.add(network("second"))
        sink.wait_for("lost", "lost", "list", "open")
        assert sink.find("default", "second") is not None


def test_silence_ends_trust_and_the_stream(server: ApiServer, tmp_path: Path) -> None:
    server.fail("silent", verb="WATCH", times=1)
    with watching(server, tmp_path, replace(LIMITS, silence=0.3, request=LONG * 2)) as (_, sink):
        sink.wait_for("list", "open")
        server.add(network("second"))
        assert "ADDED second" not in sink.told
        sink.wait(lambda: sink.told[2:4] == ["lost", "open"])
        sink.wait(lambda: "ADDED second" in sink.told)


def test_bookmarks_keep_a_quiet_stream_open(tmp_path: Path) -> None:
    limits = replace(LIMITS, silence=0.5)
    with ApiServer(bookmarks=0.1) as server, watching(server, tmp_path, limits) as (_, sink):
        sink.wait_for("list", "open")
        server.add({"kind": "Node", "metadata": {"name": "node1"}})
        time.sleep(1.2)  # the point is that nothing happens
        assert sink.told == ["list", "open"]
        assert sink.fresh()


def test_a_stream_may_be_quiet_for_longer_than_a_request(server: ApiServer, tmp_path: Path) -> None:
    with watching(server, tmp_path, replace(LIMITS, request=0.5, silence=LONG)) as (_, sink):
        sink.wait_for("list", "open")
        time.sleep(1.0)  # the point is that nothing happens
        assert sink.told == ["list", "open"]


def test_without_bookmarks_a_quiet_stream_is_begun_again(server: ApiServer, tmp_path: Path) -> None:
    with watching(server, tmp_path, replace(LIMITS, silence=0.2)) as (_, sink):
        sink.wait_for("list", "open", "lost", "open")
        assert lists(server) == 1


def test_the_server_goes_away_and_comes_back(server: ApiServer, tmp_path: Path) -> None:
    with watching(server, tmp_path) as (_, sink):
        sink.wait_for("list", "open")
        server.down()
        sink.wait(lambda: not sink.fresh())
        assert sink.facts().why
        server.up()
        sink.wait(sink.fresh)


def test_pauses_grow_and_are_not_in_step(server: ApiServer, tmp_path: Path) -> None:
    limits = replace(LIMITS, first_pause=1.0, longest_pause=8.0)
    api = connect(server.kubeconfig(tmp_path / "kubeconfig"), {})
    assert api is not None
    chances = iter([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    watch = Watch(api, PATH, {}, Recorder(), SystemClock(), limits, chance=lambda: next(chances))
    assert [watch._pause() for _ in range(6)] == [0.5, 2.0, 2.0, 8.0, 4.0, 8.0]
    api.close()


@pytest.mark.parametrize("how", [None, "silent", 503])
def test_closing_ends_the_thread_at_once(server: ApiServer, tmp_path: Path, how: Any) -> None:
    limits = replace(LIMITS, silence=LONG * 2, first_pause=LONG * 2, longest_pause=LONG * 2)
    if how is not None:
        server.fail(how, verb="WATCH")
    with watching(server, tmp_path, limits) as (watch, sink):
        sink.wait(lambda: len(sink.told) >= 2)
        began = time.monotonic()
        watch.close()
        assert watch.join(LONG)
        assert time.monotonic() - began < 2


def test_closing_while_the_server_says_nothing_is_bounded(
    server: ApiServer, tmp_path: Path
) -> None:
    server.fail("hang", verb="WATCH")
    with watching(server, tmp_path, replace(LIMITS, request=0.5)) as (watch, sink):
        sink.wait_for("list")
        began = time.monotonic()
        watch.close()
        assert watch.join(LONG)
        assert time.monotonic() - began < 2
