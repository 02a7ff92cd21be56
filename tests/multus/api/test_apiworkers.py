"""Threads for requests: as many as at one time, kept, ended."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from multus.api.apiworkers import Workers
from multus.api.k8sclient import connect
from multus.later import Later
from tests.apiserver.server import ApiServer

if TYPE_CHECKING:
    from pathlib import Path

LONG = 20.0
NODE = "/api/v1/nodes/node1"


def ended(threads: list[threading.Thread]) -> bool:
    for thread in threads:
        thread.join(LONG)
    return not any(thread.is_alive() for thread in threads)


def where(workers: Workers) -> threading.Thread:
    """Return the thread that the next thing is done in."""
    found: list[threading.Thread] = []
    done = threading.Event()
    workers.begin(lambda: found.append(threading.current_thread()), done.set)
    assert done.wait(LONG)
    return found[0]


def test_one_after_another_is_one_thread() -> None:
    workers = Workers(4)
    threads = [where(workers) for _ in range(100)]
    assert len(set(threads)) == 1
    workers.close()
    assert ended(threads[:1])


def test_as_many_as_at_one_time_and_only_some_are_kept() -> None:
    workers, go = Workers(2), threading.Event()
    running: list[threading.Thread] = []
    started = [threading.Event() for _ in range(5)]
    done = [threading.Event() for _ in range(5)]

    def work(number: int) -> None:
        running.append(threading.current_thread())
        started[number].set()
        assert go.wait(LONG)

    for number in range(5):
        workers.begin(lambda number=number: work(number), done[number].set)  # type: ignore[misc]
    assert all(each.wait(LONG) for each in started)
    assert len(set(running)) == 5
    go.set()
    assert all(each.wait(LONG) for each in done)
    end = time.monotonic() + LONG
    while sum(thread.is_alive() for thread in running) > 2:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert where(workers) in running
    workers.close()
    assert ended(running)


def test_after_closing_a_thread_ends_with_what_it_does() -> None:
    workers = Workers(4)
    workers.close()
    assert ended([where(workers)])


def test_an_api_server_that_nobody_has_any_more_keeps_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with ApiServer() as server:
        server.add({"kind": "Node", "metadata": {"name": "node1"}})
        api = connect(server.kubeconfig(tmp_path / "kubeconfig"), {})
        assert api is not None
        for _ in range(3):
            api.get(NODE, timeout=5)
        mine = [
            thread for thread in set(threading.enumerate()) - before if thread.name == "multus-api"
        ]
        assert len(mine) == 1
        del api
        gc.collect()
        assert ended(mine)


def test_requests_at_once_by_one_api_server(tmp_path: Path) -> None:
    with ApiServer() as server:
        server.add({"kind": "Node", "metadata": {"name": "node1"}})
        api = connect(server.kubeconfig(tmp_path / "kubeconfig"), {})
        assert api is not None
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: api.get(NODE, timeout=LONG), range(80)))
        assert len(found) == 80
        api.close()


def test_later_does_things_in_order_and_drops_what_is_too_much() -> None:
    later, go, begun = Later(3, "multus-events"), threading.Event(), threading.Event()
    done: list[int] = []

    def first() -> None:
        begun.set()
        assert go.wait(LONG)
        done.append(0)

    later.post(first)
    assert begun.wait(LONG)
    for number in range(1, 6):
        later.post(lambda number=number: done.append(number))  # type: ignore[misc]
    facts = later.facts()
    assert (facts.done, facts.dropped, facts.waiting) == (0, 2, 3)
    go.set()
    later.close(LONG)
    assert done == [0, 1, 2, 3]
    later.post(lambda: done.append(9))
    assert (later.facts().done, later.facts().dropped) == (4, 3)


def test_later_goes_on_after_something_that_fails() -> None:
    later, done = Later(3, "multus-events"), threading.Event()
    later.post(lambda: print(int("none")))
    later.post(done.set)
    assert done.wait(LONG)
    later.close(LONG)
    assert (later.facts().done, later.facts().dropped) == (1, 1)


def test_later_gives_up_at_the_end() -> None:
    later, go, begun = Later(3, "multus-events"), threading.Event(), threading.Event()

    def held_up() -> None:
        begun.set()
        go.wait(LONG)

    later.post(held_up)
    assert begun.wait(LONG)
    later.post(lambda: None)
    later.close(0.05)
    assert later.facts().dropped == 1
    go.set()
