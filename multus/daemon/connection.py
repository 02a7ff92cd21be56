"""One client of the daemon: its request comes in, its answer goes out, and it may go away."""

from __future__ import annotations

import asyncio
import select
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from hwmgr import frames
from multus.daemon import httpwire

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from hwmgr.frames import Call
    from multus.daemon.httpwire import HttpError

# A shim has its call ready when it connects.
SEND_SECONDS = 10.0
# How long an answer may lie unread before its reader is taken to have read it.
READ_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request in Go's form."""

    method: str
    path: str
    body: bytes


Request = frames.Call | HttpRequest


class Connection(asyncio.Protocol):
    """Reads one request, tells ``serve`` of it, and notices when nobody waits for the answer.

    ``admit`` looks at the client first: what it returns is why it may not speak to us, "" if it
    may. ``tell`` hears of clients that were turned away, ``received`` is done when the request is
    here, or none will come. A request must be whole within ``seconds``. Without ``calls`` only
    small requests in HTTP are taken: who may not call must not fill our memory.
    """

    def __init__(
        self,
        admit: Callable[[socket.socket], str],
        serve: Callable[[Request, Connection], None],
        tell: Callable[[str], None],
        received: asyncio.Future[None] | None = None,
        *,
        seconds: float = SEND_SECONDS,
        calls: bool = True,
    ) -> None:
        self._admit = admit
        self._serve = serve
        self._tell = tell
        self._received = received
        self._seconds = seconds
        self._calls = calls
        self._data = bytearray()
        self._head: frames.Head | httpwire.Head | None = None
        self._served = False
        self._answered = False
        self._transport: asyncio.Transport | None = None
        self._late: asyncio.TimerHandle | None = None
        self._closed: asyncio.Future[bool] | None = None
        self._when_gone: Callable[[], None] | None = None
        self._silent = False
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._closed = loop.create_future()
        refused = self._admit(transport.get_extra_info("socket"))
        if refused:
            self._tell(refused)
            self._transport.abort()
            return
        self._late = loop.call_later(self._seconds, self._too_late)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. What follows a request is nobody's."""
        if self._served:
            return
        self._data += data
        try:
            request = self._complete()
        except frames.FrameError as error:
            self._tell(f"a client sent no call: {error}")
            self._close()
        except httpwire.HttpError as error:
            self._refuse(error)
        else:
            if request is not None:
                self._served = True
                self._data = bytearray()
                self._serve(request, self)
                self._stop_waiting()

    def eof_received(self) -> bool:
        """See asyncio.Protocol. Only who has closed both ways can take no answer any more."""
        if not self._served:
            self._close()
        elif self._answered:
            self._end(read=True)
        elif self._hung_up():
            self._lost()
        self._silent = True
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop_waiting()
        if not self._answered:
            self._lost()
        self._end(read=error is None)

    def when_gone(self, tell: Callable[[], None] | None) -> None:
        """Have ``tell`` called when the client goes away from now on; None for nobody."""
        self._when_gone = tell

    async def deliver(self, data: bytes) -> bool:
        """Send the answer; tells whether the client took it.

        A client that closes with the answer unread resets the connection (unix(7)); one that stays
        is believed to have read it. So is one that had stopped sending before: nothing can be heard
        of its end.
        """
        if self.gone or self._transport is None or self._closed is None:
            return False
        if self._hung_up():
            self._lost()
            return False
        self._answered = True
        self._transport.write(data)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if not self._silent:
            await asyncio.wait([self._closed], timeout=READ_SECONDS)
        self._transport.close()
        return self._closed.result() if self._closed.done() else True

    def send(self, data: bytes) -> None:
        """Send an answer whose fate does not matter, and close."""
        self._answered = True
        if self._transport is not None:
            self._transport.write(data)
            self._transport.close()

    def finish(self) -> None:
        """Close, if that has not been done: nothing more will be answered."""
        self._close()

    def _complete(self) -> Request | None:
        """Return the request when all of it is here. Raises FrameError, HttpError."""
        data = self._data
        if data[:1] == frames.MAGIC[:1]:
            if not self._calls:
                raise frames.FrameError("calls are not taken here")
            return self._complete_frame()
        if self._head is None:
            self._head = httpwire.read_head(bytes(data))
        head = self._head
        if not isinstance(head, httpwire.Head):
            return None
        if not self._calls and head.length > httpwire.LONGEST_HEAD:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            raise httpwire.HttpError(status, "the body is too long")
        if len(data) < head.size + head.length:
            return None
        body = bytes(data[head.size : head.size + head.length])
        return HttpRequest(head.method, head.path, body)

    def _complete_frame(self) -> Call | None:
        data, start = self._data, frames.HEADER_BYTES
        if self._head is None and len(data) >= start:
            self._head = frames.read_head(bytes(data[:start]))
        head = self._head
        if not isinstance(head, frames.Head):
            return None
        end = start + head.env_bytes + head.stdin_bytes
        return None if len(data) < end else frames.read_body(head, bytes(data[start:end]))

    def _refuse(self, error: HttpError) -> None:
        self._served = True
        self._stop_waiting()
        self.send(httpwire.text_answer(error.status, error.text))

    def _too_late(self) -> None:
        self._tell(f"a client sent no whole call within {self._seconds:g} s")
        if self._data and self._data[:1] != frames.MAGIC[:1]:
            self.send(httpwire.text_answer(HTTPStatus.REQUEST_TIMEOUT, "the request is too slow"))
        self._close()

    def _hung_up(self) -> bool:
        """Tell whether the client has closed both ways: poll(2) says so, recv(2) does not."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(sock.fileno(), 0)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))

    def _lost(self) -> None:
        if self.gone:
            return
        self.gone = True
        if self._when_gone is not None:
            self._when_gone()
        self._close()

    def _end(self, *, read: bool) -> None:
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(read)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
        if self._received is not None and not self._received.done():
            self._received.set_result(None)

    def _close(self) -> None:
        self._stop_waiting()
        if self._transport is not None:
            self._transport.close()
