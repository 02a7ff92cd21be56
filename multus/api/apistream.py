"""One watch of an API server: events until it ends, breaks, falls silent or is closed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from multus.api.apiexchange import failure, judge
from multus.api.clusterapi import ApiUnreachableError
from multus.jsonfields import FieldError, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from multus.jsonfields import Json

_CHUNK = 1 << 16
# etcd takes no request above 1.5 MiB by default (--max-request-bytes), so no event is much longer.
_LONGEST_EVENT = 4 << 20
_LONGEST_REFUSAL = 1 << 16


@dataclass(slots=True)
class EventStream:
    """A watch by urllib3's pools; see ``clusterapi.Stream``.

    ``timeout`` bounds connecting and the answer's beginning, ``silence`` the time between two
    pieces of what follows; both are in seconds.
    """

    pools: Callable[[], Any]
    path: str
    url: str
    headers: Mapping[str, str]
    timeout: float
    silence: float
    _response: Any = None
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self) -> None:
        """See Stream.open."""
        try:
            response = self._ask()
            if response.status == 200:
                return
            status, content = response.status, response.read(_LONGEST_REFUSAL)
        except Exception as error:
            known = failure(self.path, error)
            if known is None:
                raise
            raise known from None
        judge(self.path, status, content)
        raise ApiUnreachableError(self.path, f"HTTP status {status} instead of a stream", status)

    def __iter__(self) -> Iterator[Json]:
        """See Stream."""
        rest = b""
        while data := self._read():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.strip():
                    yield self._event(line)
            if len(rest) > _LONGEST_EVENT:
                raise ApiUnreachableError(self.path, "an event without an end")
        if rest.strip() and not self._closed:
            raise ApiUnreachableError(self.path, "the stream ends in the middle of an event")

    def close(self) -> None:
        """See Stream.close."""
        with self._lock:
            self._closed = True
            response = self._response
        if response is not None:
            try:
                response.shutdown()
            except (OSError, ValueError, RuntimeError):
                return  # it has come to its end by itself

    def release(self) -> None:
        """See Stream.release."""
        response = self._response
        if response is not None:
            response.close()

    def _ask(self) -> Any:
        from urllib3 import Timeout

        response = self.pools().request(
            "GET",
            self.url,
            headers=self.headers,
            timeout=Timeout(connect=self.timeout, read=self.timeout),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        with self._lock:
            self._response = response
            if self._closed:
                raise ApiUnreachableError(self.path, "closed before it was open")
        connection = response.connection
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(self.silence)
        return response

    def _read(self) -> bytes:
        try:
            data: bytes = self._response.read1(_CHUNK)
        except Exception as error:
            if self._closed:
                return b""  # what a reader meets when its socket is shut down is all one
            known = failure(self.path, error)
            if known is None:
                raise
            raise known from None
        return data

    def _event(self, line: bytes) -> Json:
        try:
            value = decode(line, "the event")
        except FieldError as error:
            raise ApiUnreachableError(self.path, str(error)) from error
        if not isinstance(value, dict):
            raise ApiUnreachableError(self.path, "an event that is no JSON object")
        return value
