"""Order, bounds, and clients that go away, at each moment of a call."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from hwmgr.frames import Call, encode_call
from multus.cnitypes import CNIError
from tests.multus.fake_daemon import SECONDS, front, in_loop


@in_loop
async def test_calls_for_one_container_come_in_order() -> None:
    async with front() as f:
        first = await f.at_work("ADD")
        waiting = [await f.call(verb) for verb in ("CHECK", "DEL")]
        other = await f.call("ADD", "c2")
        assert (await other.answer()).status == 0
        assert f.workshop.began == ["ADD c1", "ADD c2"]
        assert (f.dispatcher.busy, f.dispatcher.waiting) == (1, 2)
        first.let_go()
        for client in (first, *waiting):
            assert (await client.answer()).status == 0
        assert f.workshop.ended == ["ADD c2", "ADD c1", "CHECK c1", "DEL c1"]


@in_loop
async def test_no_more_than_the_workers_are_busy_and_a_waiting_container_takes_none() -> None:
    async with front(workers=2) as f:
        first = await f.at_work("ADD", "c1")
        waiting = [await f.call("DEL", "c1"), await f.call("DEL", "c1")]
        second = await f.at_work("ADD", "c2")
        waiting += [await f.call("ADD", "c3")]
        await f.true(lambda: f.dispatcher.waiting == 3)
        assert f.dispatcher.busy == 2
        assert "ADD c3" not in f.workshop.began
        second.let_go()
        await f.until("ADD c3")
        first.let_go()
        for client in (first, second, *waiting):
            assert (await client.answer()).status == 0


@pytest.mark.parametrize("verb", ["DEL", "GC", "STATUS"])
@in_loop
async def test_reserved_workers_are_there_while_adds_hang(verb: str) -> None:
    async with front(workers=2, reserved=1) as f:
        held = [await f.at_work("ADD", "c1"), await f.at_work("ADD", "c2")]
        waiting = [await f.call("ADD", "c3"), await f.call("CHECK", "c4")]
        await f.true(lambda: f.dispatcher.waiting == 2)
        for container in ("c5", "c6"):
            done = await (await f.call(verb, container)).answer()
            assert done.status == 0
        assert f.dispatcher.waiting == 2
        for busy in held:
            busy.let_go()
        for client in (*held, *waiting):
            assert (await client.answer()).status == 0
        assert (f.dispatcher.busy, f.dispatcher.waiting) == (0, 0)


@in_loop
async def test_an_undo_is_done_by_a_reserved_worker() -> None:
    async with front(workers=1, reserved=1) as f:
        client = await f.at_work("ADD")
        f.workshop.hold("c2")
        other = await f.call("ADD", "c2")
        await f.true(lambda: f.dispatcher.waiting == 1)
        await client.leave()
        client.let_go()
        await f.until("ADD c2")
        await f.true(lambda: "undo c1" in f.workshop.ended)
        other.close()


@in_loop
async def test_who_frees_may_use_all_workers_and_keeps_no_more_than_those() -> None:
    async with front(workers=1, reserved=1) as f:
        names = [f"c{number}" for number in range(3)]
        events = [f.workshop.hold(name) for name in names]
        clients = [await f.call("DEL", name) for name in names]
        await f.until("DEL c1")
        late = await f.call("ADD", "c9")
        await f.true(lambda: f.dispatcher.waiting == 2)
        assert f.dispatcher.busy == 2
        late.close()
        await f.true(lambda: f.dispatcher.waiting == 1)
        for event in events:
            event.set()
        for client in clients:
            assert (await client.answer()).status == 0
        assert (await (await f.call("ADD", "c9")).answer()).status == 0


@in_loop
async def test_a_nested_call_waits_for_nobody() -> None:
    async with front(workers=1) as f:
        outer = await f.at_work("ADD")
        inner = await f.call("ADD", HWMGR_LOCKED_CONTAINER="c1")
        assert (await inner.answer()).status == 0
        outer.let_go()
        assert (await outer.answer()).status == 0


@in_loop
async def test_a_lock_on_another_container_nests_nothing() -> None:
    async with front(workers=1) as f:
        outer = await f.at_work("ADD")
        other = await f.call("DEL", "c2", HWMGR_LOCKED_CONTAINER="c1")
        await f.true(lambda: f.dispatcher.waiting == 1)
        outer.let_go()
        assert (await other.answer()).status == 0
        outer.close()


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "STATUS"])
@pytest.mark.parametrize("where", ["container", "worker"])
@in_loop
async def test_who_goes_while_waiting_is_dropped(verb: str, where: str) -> None:
    async with front(workers=1) as f:
        first = await f.at_work("ADD")
        client = await f.call(verb, "c1" if where == "container" else "c2")
        await f.true(lambda: f.dispatcher.waiting == 1)
        client.close()
        await f.true(lambda: f.dispatcher.waiting == 0)
        first.let_go()
        assert (await first.answer()).status == 0
        assert f.workshop.began == ["ADD c1"]
        assert any(f"{verb} " in line and "dropped" in line for line in f.lines)
        again = await f.call("DEL", "c2")
        assert (await again.answer()).status == 0


@pytest.mark.parametrize(("verb", "runs"), [("ADD", False), ("CHECK", False), ("DEL", True)])
@pytest.mark.parametrize("nested", [False, True])
@in_loop
async def test_who_goes_at_once(verb: str, *, runs: bool, nested: bool) -> None:
    async with front() as f:
        held = {"HWMGR_LOCKED_CONTAINER": "c1"} if nested else {}
        client = await f.client()
        taken = f.desk.take

        def gone_before_the_task_begins(request: Any, connection: Any) -> None:
            taken(request, connection)
            connection._lost()

        f.take = gone_before_the_task_begins
        late = await f.call(verb, **held)
        await f.true(lambda: len(f.lines) == 1)
        assert f.workshop.began == ([f"{verb} c1"] if runs else [])
        assert (f.dispatcher.busy, f.dispatcher._containers) == (0, {})
        late.close()
        client.close()


@pytest.mark.parametrize("verb", ["DEL", "GC"])
@in_loop
async def test_a_delete_is_done_for_nobody_too(verb: str) -> None:
    async with front(workers=1) as f:
        first = await f.at_work("ADD")
        client = await f.call(verb, "c2")
        await f.true(lambda: f.dispatcher.waiting == 1)
        client.close()
        await f.true(lambda: client.connection.gone)
        first.let_go()
        assert (await first.answer()).status == 0
        await f.until(f"{verb} c2")


@in_loop
async def test_a_call_about_the_node_waits_for_no_container() -> None:
    async with front() as f:
        busy = await f.at_work("ADD")
        collecting = await f.call("GC", "c1")
        await f.until("GC c1")
        busy.let_go()
        for client in (busy, collecting):
            assert (await client.answer()).status == 0


@in_loop
async def test_an_add_at_work_learns_that_its_caller_is_gone() -> None:
    async with front() as f:
        client = await f.at_work("ADD")
        assert not client.caller.gone()
        await client.leave()
        client.let_go()
        await f.until("undo c1")
        await f.true(lambda: any("undone" in line for line in f.lines))


@in_loop
async def test_an_undo_comes_before_what_waits_for_the_container() -> None:
    async with front() as f:
        client = await f.at_work("ADD")
        follower = await f.call("CHECK")
        await client.leave()
        client.let_go()
        assert (await follower.answer()).status == 0
        assert f.workshop.began == ["ADD c1", "undo c1", "CHECK c1"]


@in_loop
async def test_an_add_that_failed_is_not_undone_again() -> None:
    async with front() as f:
        f.workshop.answers["ADD"] = (1, b'{"code": 11, "msg": "later"}', b"")
        client = await f.at_work("ADD")
        await client.leave()
        client.let_go()
        await f.true(lambda: any("failed with code 11" in line for line in f.lines))
        assert f.workshop.began == ["ADD c1"]


@in_loop
async def test_an_answer_that_is_not_read_undoes_the_add() -> None:
    async with front() as f:
        client = await f.call("ADD")
        await f.true(lambda: f.workshop.ended == ["ADD c1"])
        loop, lies_there = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(client.sock, lies_there.set)
        await lies_there.wait()
        loop.remove_reader(client.sock)
        client.close()
        await f.until("undo c1")
        await f.true(lambda: any("undone" in line for line in f.lines))


@in_loop
async def test_an_undo_that_fails_is_left_to_del_and_gc() -> None:
    async with front() as f:
        f.workshop.answers["undo"] = (1, b'{"code": 999, "msg": "held"}', b"")
        client = await f.at_work("ADD")
        await client.leave()
        client.let_go()
        await f.true(lambda: any("DEL or GC will finish it" in line for line in f.lines))


@in_loop
async def test_a_caller_that_only_stops_sending_gets_its_answer() -> None:
    async with front() as f:
        client = await f.at_work("ADD")
        client.sock.shutdown(socket.SHUT_WR)
        await f.true(lambda: client.connection._silent)
        assert not client.caller.gone()
        client.let_go()
        assert (await client.answer()).status == 0
        assert f.workshop.began == ["ADD c1"]


@in_loop
async def test_who_sends_no_call_is_closed() -> None:
    async with front() as f:
        f.seconds = 0.05
        silent, half = await f.client(), await f.client()
        await half.send(b"\x8eCNI\x01")
        slow = await f.client()
        await slow.send(b"POST /cni HTTP/1.1\r\n")
        assert await silent.read() == b""
        assert await half.read() == b""
        assert (await slow.read()).startswith(b"HTTP/1.1 408 ")
        assert len(f.lines) == 3


@pytest.mark.parametrize("data", [b"\x8eCNX" + bytes(20), b"\x8eCNI\x02" + bytes(20)])
@in_loop
async def test_what_is_no_call_is_closed(data: bytes) -> None:
    async with front() as f:
        client = await f.client()
        await client.send(data)
        assert await client.read() == b""
        assert "no call" in f.lines[0]


@in_loop
async def test_who_may_not_call_is_not_listened_to_for_long() -> None:
    async with front() as f:
        f.calls = False
        frame, body, small = await f.client(), await f.client(), await f.client()
        await frame.send(encode_call(Call("multus", {}, b""))[:16])
        assert await frame.read() == b""
        await body.send(b"POST /healthz HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        assert (await body.read()).startswith(b"HTTP/1.1 413 ")
        await small.send(b"POST /healthz HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
        assert (await small.read()).startswith(b"HTTP/1.1 200 ")


@in_loop
async def test_version_and_a_person_need_no_worker() -> None:
    async with front(workers=1) as f:
        busy = await f.at_work("ADD")
        version = await (await f.call("VERSION")).answer()
        assert b'"supportedVersions"' in version.stdout
        person = await (await f.call("")).answer()
        assert b"CNI plugin" in person.stderr
        busy.close()


@in_loop
async def test_a_bug_is_told_and_closes_the_connection() -> None:
    async with front() as f:
        f.workshop.error = CNIError(999, "not foreseen")
        client = await f.call("ADD")
        assert await client.read() == b""
        assert any(line.startswith("a bug: Traceback") for line in f.lines)
        f.workshop.error = None
        assert (await (await f.call("DEL")).answer()).status == 0


def test_metrics_that_hang_do_not_keep_the_daemon_from_ending() -> None:
    hanging, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def hang() -> dict[tuple[str, ...], float]:
        hanging.set()
        go_on.wait(SECONDS)
        done.set()
        return {}

    @in_loop
    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with front() as f:
            f.metrics.gauge("hanging", "Hangs.", hang)
            client = await f.client()
            await client.send(b"GET /metrics HTTP/1.1\r\n\r\n")
            await loop.run_in_executor(f.dispatcher._pool, hanging.wait, SECONDS)
            for task in f.desk.at_work:
                task.cancel()
            client.close()

    test()
    assert not done.is_set()
    go_on.set()


@in_loop
async def test_a_call_is_one_line() -> None:
    async with front() as f:
        pod = "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web"
        assert (await (await f.call("ADD", CNI_ARGS=pod)).answer()).status == 0
        await f.true(lambda: f.lines)
        assert f.lines[0].startswith("multus ADD c1 eth0 of ns/web ok in ")
        assert len(f.lines) == 1
        text = f.metrics.text().decode()
        assert 'multus_call_seconds_count{program="multus",verb="ADD",outcome="ok"} 1' in text
