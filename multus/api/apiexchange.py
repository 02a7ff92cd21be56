"""One request to an API server and its answer, in bounded time, failures told apart."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from multus.api.clusterapi import (
    ApiConflictError,
    ApiError,
    ApiForbiddenError,
    ApiNotFoundError,
    ApiNotServedError,
    ApiUnreachableError,
)
from multus.jsonfields import FieldError, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from multus.api.apiworkers import Workers
    from multus.jsonfields import Json

_CHUNK = 1 << 16
_LONGEST_MESSAGE = 300


@dataclass(slots=True)
class Exchange:
    """A request by urllib3's pools.

    urllib3 bounds each wait for the next bytes, not their sum, and name resolution not at all: so
    the exchange runs in one of the ``workers``, which is left behind when the time is over.
    """

    workers: Workers
    pools: Callable[[], Any]
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout: float
    _outcome: tuple[int, bytes] | BaseException | None = None
    _response: Any = None
    _done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> tuple[int, bytes]:
        """Return status and body. Raises TimeoutError, and whatever urllib3 raises."""
        self.workers.begin(self._run, self._done.set)
        if not self._done.wait(self.timeout):
            self._abandon()
            raise TimeoutError
        outcome = self._outcome
        if isinstance(outcome, tuple):
            return outcome
        raise outcome or TimeoutError()

    def _run(self) -> None:
        try:
            self._outcome = self._talk()
        except BaseException as error:  # noqa: BLE001 - raised again where the request was made
            self._outcome = error

    def _talk(self) -> tuple[int, bytes]:
        from urllib3 import Timeout

        # Nobody but the caller may send a request again: only he knows what it may do twice.
        response = self._response = self.pools().request(
            self.method,
            self.url,
            body=self.body,
            headers=self.headers,
            timeout=Timeout(total=self.timeout),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            content = b"".join(response.stream(_CHUNK))
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return response.status, content

    def _abandon(self) -> None:
        """Wake the thread up, if it waits for the rest of an answer."""
        response = self._response
        if response is not None:
            try:
                response.shutdown()
            except (OSError, ValueError, RuntimeError):
                return  # it has just come to its end by itself


def failure(path: str, error: BaseException) -> ApiError | None:
    """Tell what an exception of an exchange means; None for one that is no failure of the API.

    The words are the system's: urllib3's own would have proxies with their passwords in them.
    """
    import ssl

    from urllib3 import exceptions

    if not isinstance(error, OSError | exceptions.HTTPError):
        return None
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ApiError(path, f"the server's certificate: {cause.verify_message}")
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return ApiUnreachableError(path, f"TLS: {cause.reason or 'handshake failed'}")
        if isinstance(cause, OSError) and cause.strerror:
            return ApiUnreachableError(path, cause.strerror)
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return ApiUnreachableError(path, "no whole answer in time")
    return ApiUnreachableError(path, f"the connection broke ({type(error).__name__})")


def judge(
    path: str, status: int, content: bytes, each: Callable[[Json], object] | None = None
) -> Json:
    """Return the object in an answer, see ``decode`` for ``each``. Raises ApiError."""
    try:
        value = decode(content, "the answer", each)
    except FieldError:
        value = None
    answer = value if isinstance(value, dict) else None
    if 200 <= status < 300:
        if answer is None:
            raise ApiUnreachableError(path, "the answer is cut off, or not from an API server")
        return answer
    message = _message(status, answer)
    if status in (401, 403):
        raise ApiForbiddenError(path, message, status)
    if status == 404 and (answer is None or answer.get("kind") != "Status"):
        raise ApiNotServedError(path, "nothing is served there; is its kind defined?", status)
    if status == 404:
        raise ApiNotFoundError(path, message, status)
    if status == 409:
        raise ApiConflictError(path, message, status)
    raise ApiError(path, message, status)


def _message(status: int, answer: Json | None) -> str:
    text = None if answer is None else answer.get("message")
    if not isinstance(text, str) or not text:
        return f"HTTP status {status}"
    return " ".join(text.split())[:_LONGEST_MESSAGE]


def _causes(error: BaseException) -> list[BaseException]:
    """Return an exception and those behind it, by every way that urllib3 keeps them."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop(0)
        if not isinstance(each, BaseException) or each in found:
            continue
        found.append(each)
        waiting += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]
    return found
