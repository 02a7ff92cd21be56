"""HTTP/1.1 as bytes: as much of RFC 9112 as one request and one answer on a connection need."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from io import BytesIO

LONGEST_HEAD = 64 << 10
# The largest input of a call in base64 with its environment, see hwmgr.frames.
LONGEST_BODY = 32 << 20


class HttpError(ValueError):
    """A request that is answered with a status of its own."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Head:
    """What comes before a request's body: ``size`` bytes; ``length`` bytes of body follow."""

    method: str
    path: str
    size: int
    length: int


def read_head(data: bytes) -> Head | None:
    """Read the head of a request, None while it is not complete. Raises HttpError."""
    end = data.find(b"\r\n\r\n", 0, LONGEST_HEAD)
    if end < 0:
        if len(data) >= LONGEST_HEAD:
            raise HttpError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long")
        return None
    line, _, rest = data[: end + 4].partition(b"\r\n")
    parts = line.decode("latin-1").split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise HttpError(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1")
    try:
        headers = parse_headers(BytesIO(rest))
    except HTTPException as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"headers: {error}") from error
    if headers.get("Transfer-Encoding"):
        raise HttpError(HTTPStatus.LENGTH_REQUIRED, "only a body with a Content-Length is taken")
    lengths = {value.strip() for value in headers.get_all("Content-Length", ["0"])}
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit()) or len(length) > 12:
        raise HttpError(HTTPStatus.BAD_REQUEST, "Content-Length is not one number")
    if int(length) > LONGEST_BODY:
        raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too long")
    return Head(parts[0], parts[1].partition("?")[0], end + 4, int(length))


def answer(status: HTTPStatus, body: bytes = b"", kind: str = "") -> bytes:
    """Return an answer as bytes; the connection is closed after it."""
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", f"Content-Length: {len(body)}"]
    if kind:
        lines.append(f"Content-Type: {kind}")
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body


def text_answer(status: HTTPStatus, text: str) -> bytes:
    """Return an answer of one line of text."""
    return answer(status, (text + "\n").encode("utf-8", "replace"), "text/plain; charset=utf-8")
