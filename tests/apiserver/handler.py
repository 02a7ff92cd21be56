"""One connection of the stand-in: requests by path, answers, watches, and what goes wrong."""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.apiserver import discovery
from tests.apiserver.store import Refusal, selection

if TYPE_CHECKING:
    from tests.apiserver.faults import Kind as FaultKind
    from tests.apiserver.server import ApiServer
    from tests.apiserver.store import Change, Json, Kind

_PATCHES = {
    "application/merge-patch+json": "merge",
    "application/json-patch+json": "json",
    "application/strategic-merge-patch+json": "strategic",
}
_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}
_DRIP = 0.05
_BEFORE_END = 2.0


@dataclass
class Request:
    """What a client asked; ``status`` is None while it has no answer."""

    verb: str
    path: str
    query: dict[str, str]
    body: Any
    content_type: str
    authorization: str
    status: int | None = None


@dataclass(frozen=True)
class Target:
    """What a path means: a kind, or one object of it, or a part of that."""

    kind: Kind
    namespace: str
    name: str
    part: str


class Bookmarks:
    """When a watch is told how far it is, if it wants to be.

    As kube-apiserver: every so often, and two seconds before the watch is over (the cacher's
    nextBookmarkTime), unless nothing has changed since it began.
    """

    def __init__(self, every: float, end: float, begun: int, query: dict[str, str]) -> None:
        self._every, self._end = every, end
        self._begun = begun
        wanted = query.get("allowWatchBookmarks", "").lower() in ("true", "1")
        self.due = self._after(time.monotonic()) if wanted else math.inf

    def due_at(self, now: float, kind: Kind, version: int) -> list[Json]:
        """Return the one that is due, if there is one."""
        if now < self.due:
            return []
        self.due = self._after(now)
        if version <= self._begun:
            return []
        meta = {"resourceVersion": str(version), "creationTimestamp": None}
        obj = {"kind": kind.name, "apiVersion": kind.api_version, "metadata": meta}
        return [{"type": "BOOKMARK", "object": obj}]

    def _after(self, now: float) -> float:
        last = self._end - _BEFORE_END
        return last if now < last < now + self._every else now + self._every


class Handler(BaseHTTPRequestHandler):
    """Answers for the server that it belongs to."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server_version = "stand-in"
    _fault: FaultKind | int | None = None

    @property
    def api(self) -> ApiServer:
        return self.server.api  # type: ignore[attr-defined, no-any-return]

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet; the server has its list of requests."""

    def _serve(self) -> None:
        request = self._read()
        self._fault = self.api.faults.of(request.verb, request.path)
        self.api.requests.append(request)
        try:
            if self._fault in ("close", "reset", "hang"):
                self._say_nothing()
                return
            if isinstance(self._fault, int):
                text = f"the stand-in was told to answer {self._fault}"
                raise Refusal(self._fault, _REASONS.get(self._fault, "Unknown"), text)
            token = self.api.token
            if token is not None and request.authorization != f"Bearer {token}":
                raise Refusal(401, "Unauthorized", "Unauthorized")
            if request.verb == "WATCH":
                self._watch(request)
                return
            status, answer = self._answer(request)
        except Refusal as refusal:
            status, answer = refusal.code, refusal.body
        request.status = status
        self._send(status, answer)

    def _read(self) -> Request:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        try:
            body = json.loads(content) if content else None
        except ValueError:
            body = content
        watching = query.get("watch", "").lower() in ("true", "1")
        return Request(
            "WATCH" if watching else str(self.command),
            parts.path,
            query,
            body,
            (self.headers.get("Content-Type") or "").split(";")[0],
            self.headers.get("Authorization") or "",
        )

    def _target(self, path: str) -> Target | None:
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "v1"]:
            group, version, rest = "", "v1", parts[2:]
        elif parts[0] == "apis" and len(parts) > 3:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            return None
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        if not 1 <= len(rest) <= 3:
            return None
        kind = self.api.store.kind(group, version, rest[0])
        if kind is None or (bool(namespace) > kind.namespaced):
            return None
        name, part = (*rest[1:], "", "")[:2]
        if part not in ("", "status") or (part and not kind.status):
            return None
        return Target(kind, namespace, name, part)

    def _answer(self, request: Request) -> tuple[int, Any]:
        store, verb = self.api.store, request.verb
        target = self._target(request.path)
        if target is None:
            found = discovery.answer(request.path, store.kinds)
            return (404, "404 page not found\n") if found is None else (200, found)
        kind, namespace, name, part = target.kind, target.namespace, target.name, target.part
        if verb == "GET" and not name:
            return 200, _list(kind, *store.select(kind, namespace, request.query))
        if verb == "GET":
            return 200, store.find(kind, namespace, name)
        if verb == "POST" and not name:
            return 201, store.create(kind, namespace, _object(request))
        if verb == "PUT" and name:
            return 200, store.update(kind, namespace, name, lambda _: _object(request), part)
        if verb == "PATCH" and name:
            how = _PATCHES.get(request.content_type)
            if how is None:
                text = f"no patch: {request.content_type}"
                raise Refusal(415, "UnsupportedMediaType", text)
            return 200, store.patch(kind, namespace, name, request.body, how, part)
        if verb == "DELETE" and name:
            gone = store.delete(kind, namespace, name, request.body)
            if kind.name == "Pod":
                return 200, gone
            done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
            return 200, done | {"details": {"name": name, "uid": gone["metadata"]["uid"]}}
        raise Refusal(405, "MethodNotAllowed", f"{verb} is not for {request.path}")

    def _send(self, status: int, answer: Any) -> None:
        text = isinstance(answer, str)
        content = answer.encode() if text else json.dumps(answer).encode()
        kind = "text/plain" if text else "application/json"
        if self._fault == "lost":
            self.close_connection = True
            return
        if self._fault == "garbage":
            content, kind = b"<html><body>Welcome to the hotel's network</body></html>", "text/html"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if status == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        if self._fault == "slow":
            self._drip(content)
        elif self._fault == "truncate":
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            self.wfile.write(content)

    def _drip(self, content: bytes) -> None:
        for index in range(len(content)):
            self.wfile.write(content[index : index + 1])
            self.wfile.flush()
            if self.api.ending.wait(_DRIP):
                break
        self.close_connection = True

    def _say_nothing(self) -> None:
        self.close_connection = True
        if self._fault == "hang":
            self._wait_for_client()
        elif self._fault == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def _wait_for_client(self) -> None:
        """Return when the client gives up, or the server ends (which breaks the connection)."""
        try:
            self.connection.recv(1)
        except OSError:
            return

    def _watch(self, request: Request) -> None:
        target = self._target(request.path)
        if target is None:
            request.status = 404
            self._send(404, "404 page not found\n")
            return
        selection(target.kind, request.query)  # one that is no selector is refused at once
        begun = self.api.store.version
        request.status = 200
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        if self._fault == "silent":
            self._wait_for_client()
            return
        if self._fault == "error":
            refusal = Refusal(500, "InternalError", "the stand-in was told to say so")
            self._chunk([{"type": "ERROR", "object": refusal.body}])
        else:
            self._changes(target, request.query, begun)
        self.wfile.write(b"0\r\n\r\n")

    def _changes(self, target: Target, query: dict[str, str], begun: int) -> None:
        """Tell of changes until the time is over, or the version is one that nobody knows."""
        wanted = selection(target.kind, query)
        end = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
        store, version = self.api.store, query.get("resourceVersion") or "0"
        bookmarks = Bookmarks(self.api.bookmarks, end, begun, query)
        if version == "0":
            items, since = store.select(target.kind, target.namespace, query)
            self._chunk([{"type": "ADDED", "object": obj} for obj in items])
        else:
            since = int(version)
        while True:
            with store.changed:
                store.changed.wait_for(
                    lambda: self.api.ending.is_set() or store.version > since,  # noqa: B023
                    timeout=max(min(end, bookmarks.due) - time.monotonic(), 0),
                )
                expired = since < store.forgotten
                changes = [change for change in store.history if change.version > since]
                since = max(since, store.version)
            if expired:
                gone = Refusal(410, "Expired", "too old resource version")
                self._chunk([{"type": "ERROR", "object": gone.body}])
                break
            self._chunk([event for each in changes if (event := _event(each, target, wanted))])
            now = time.monotonic()
            self._chunk(bookmarks.due_at(now, target.kind, since))
            if self.api.ending.is_set() or now >= end:
                break

    def _chunk(self, events: list[Json]) -> None:
        for event in events:
            line = json.dumps(event).encode() + b"\n"
            if self._fault == "cut":
                half = line[: len(line) // 2]
                self.wfile.write(b"%x\r\n%s" % (len(line), half))
                self.wfile.flush()
                raise ConnectionAbortedError
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()


def _object(request: Request) -> Json:
    if not isinstance(request.body, dict):
        raise Refusal(400, "BadRequest", "the body is no object")
    return request.body


def _list(kind: Kind, items: list[Json], version: int) -> Json:
    return {
        "kind": f"{kind.name}List",
        "apiVersion": kind.api_version,
        "metadata": {"resourceVersion": str(version)},
        "items": items,
    }


def _event(change: Change, target: Target, wanted: Any) -> Json | None:
    """Return what a watch sees of a change: an object may enter or leave its selection."""
    some = change.after or change.before
    assert some is not None
    if change.kind != target.kind:
        return None
    if target.namespace not in ("", some["metadata"].get("namespace", "")):
        return None
    before = change.before is not None and wanted(change.before)
    after = change.after is not None and wanted(change.after)
    if after:
        return {"type": "MODIFIED" if before else "ADDED", "object": change.after}
    if before:
        return {"type": "DELETED", "object": change.after or change.before}
    return None
