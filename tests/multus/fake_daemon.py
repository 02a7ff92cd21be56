"""A daemon's front with a workshop that does what a test says, and clients on socket pairs."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, cast

from hwmgr.frames import Answer, Call, decode_answer, encode_call
from multus.clock import SystemClock
from multus.daemon.calllog import CallLog
from multus.daemon.connection import Connection
from multus.daemon.desk import Desk
from multus.daemon.dispatch import Dispatcher
from multus.daemon.metrics import Metrics
from multus.daemon.service import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from multus.daemon.wiring import Caller

SECONDS = 10.0
_WHOLE_TEST_SECONDS = 30.0
_P = ParamSpec("_P")


def in_loop(test: Callable[_P, Awaitable[None]]) -> Callable[_P, None]:
    """Run a test in an event loop of its own, which ends also when the test hangs."""

    @wraps(test)
    def run(*arguments: _P.args, **named: _P.kwargs) -> None:
        async def limited() -> None:
            async with asyncio.timeout(_WHOLE_TEST_SECONDS):
                await test(*arguments, **named)

        asyncio.run(limited())

    return run


class FakeWorkshop:
    """Notes which calls it gets; one whose container is in ``held`` waits until it is let go."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.callers: list[Caller] = []
        self.held: dict[str, threading.Event] = {}
        self.answers: dict[str, tuple[int, bytes, bytes]] = {}
        self.error: Exception | None = None
        self.wishes: list[Any] = []

    def hold(self, container_id: str) -> threading.Event:
        return self.held.setdefault(container_id, threading.Event())

    def run(
        self, call: Call, caller: Caller, wish: Any = None, *, take_back: bool = False
    ) -> tuple[int, bytes, bytes]:
        self.wishes.append(wish)
        verb, container = call.env["CNI_COMMAND"], call.env.get("CNI_CONTAINERID", "")
        if take_back:
            assert verb == "DEL"
            verb = "undo"
        self.callers.append(caller)
        self.began.append(f"{verb} {container}")
        if self.error is not None:
            raise self.error
        event = self.held.get(container)
        if event is not None and "HWMGR_LOCKED_CONTAINER" not in call.env:
            assert event.wait(SECONDS)
        self.ended.append(f"{verb} {container}")
        if verb == "ADD":
            return self.answers.get(verb, (0, b'{"cniVersion": "1.0.0"}', b""))
        return self.answers.get(verb, (0, b"", b""))


@dataclass
class Front:
    """What a test works with."""

    workshop: FakeWorkshop
    dispatcher: Dispatcher
    metrics: Metrics
    desk: Desk
    lines: list[str] = field(default_factory=list)
    ready: bool = True
    seconds: float = SECONDS
    calls: bool = True
    take: Any = None

    async def client(self) -> Client:
        """Connect."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        _, connection = await loop.connect_accepted_socket(
            lambda: Connection(
                lambda _sock: "",
                self.take or self.desk.take,
                self.lines.append,
                seconds=self.seconds,
                calls=self.calls,
            ),
            ours,
        )
        return Client(theirs, connection)

    async def call(self, verb: str, container: str = "c1", **env: str) -> Client:
        """Send a framed call."""
        client = await self.client()
        whole = {"CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_IFNAME": "eth0", **env}
        await client.send(encode_call(Call("multus", whole, b"{}")))
        return client

    async def at_work(self, verb: str, container: str = "c1") -> AtWork:
        """Send a call, and come back when it has begun; it goes on when it is let go."""
        self.workshop.hold(container)
        client = await self.call(verb, container)
        await self.until(f"{verb} {container}")
        return AtWork(self, client, f"{verb} {container}")

    async def until(self, what: str, times: int = 1) -> None:
        """Wait until a call has begun."""
        await self.true(lambda: self.workshop.began.count(what) >= times)

    async def true(self, what: Any) -> None:
        """Wait until something is true."""
        async with asyncio.timeout(SECONDS):
            while not what():
                await asyncio.sleep(0.005)


class Client:
    """The other end of a connection."""

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        self.sock = sock
        self.connection = connection

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read(self) -> bytes:
        """Read to the end."""
        parts = []
        async with asyncio.timeout(SECONDS):
            while part := await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16):
                parts.append(part)
        self.close()
        return b"".join(parts)

    async def answer(self) -> Answer:
        return decode_answer(await self.read())

    def close(self) -> None:
        self.sock.close()


class AtWork(Client):
    """The client of a call that a worker has."""

    def __init__(self, f: Front, client: Client, what: str) -> None:
        super().__init__(client.sock, client.connection)
        self._front = f
        self.caller = f.workshop.callers[f.workshop.began.index(what)]
        self._held = f.workshop.held[what.split()[1]]

    def let_go(self) -> None:
        """Let the call end."""
        self._held.set()

    async def leave(self) -> None:
        """Go away without the answer, and wait until the call can know."""
        self.close()
        await self._front.true(self.caller.gone)


@asynccontextmanager
async def front(workers: int = 4, reserved: int = 0) -> AsyncIterator[Front]:
    workshop, metrics = FakeWorkshop(), Metrics()
    dispatcher = Dispatcher(workers + reserved, reserved)
    lines: list[str] = []
    log = CallLog(lambda _severity, text: lines.append(text), lambda: "now")
    service = Service(dispatcher, log, metrics, SystemClock())
    made: Front
    desk = Desk(service, cast("Any", workshop), metrics, lambda: made.ready, lines.append)
    made = Front(workshop, dispatcher, metrics, desk, lines)
    try:
        yield made
    finally:
        for event in workshop.held.values():
            event.set()
        while desk.at_work:
            await asyncio.wait(list(desk.at_work), timeout=SECONDS)
