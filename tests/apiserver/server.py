"""A stand-in for kube-apiserver: HTTP, enough of the API for any client, failures on demand."""

from __future__ import annotations

import json
import socket
import threading
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from tests.apiserver.faults import Fault, Faults
from tests.apiserver.handler import Handler
from tests.apiserver.store import BUILT_IN, NETWORKS, THIRD_PARTY, Store, dra

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from tests.apiserver import faults
    from tests.apiserver.handler import Request
    from tests.apiserver.store import Json


class ApiServer:
    """One server, from ``with`` to its end.

    ``networks``: the kinds of networks are there already, as if somebody had made their
    definitions. ``token``: requests without it are refused (401). ``tls``: serves by https.
    ``bookmarks``: seconds between two of them, a minute as kube-apiserver has it.
    """

    def __init__(
        self,
        *,
        networks: bool = True,
        token: str | None = None,
        dra_version: str = "v1",
        tls: ssl.SSLContext | None = None,
        bookmarks: float = 60.0,
    ) -> None:
        self.bookmarks = bookmarks
        kinds = [*BUILT_IN, THIRD_PARTY, *dra(dra_version), *(NETWORKS if networks else ())]
        self.store = Store(kinds)
        self.faults = Faults()
        self.token = token
        self.requests: list[Request] = []
        self.connections = 0
        self.ending = threading.Event()
        self._tls = tls
        self._address = ("127.0.0.1", 0)
        self._http: _Http | None = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self._address[1]}"

    def up(self) -> None:
        """Listen, after ``down`` at the same port."""
        if self._http is None:
            self.ending.clear()
            self._http = _Http(self._address, self, self._tls)
            self._address = self._http.server_address[:2]  # type: ignore[assignment]
            threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Break all connections; from now on they are refused."""
        http, self._http = self._http, None
        if http is not None:
            self.ending.set()
            with self.store.changed:
                self.store.changed.notify_all()
            http.end()

    def kubeconfig(self, path: Path, **user: Any) -> str:
        """Write a kubeconfig for this server, with the members of ``user``; returns its path."""
        if self.token is not None and not user:
            user = {"token": self.token}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "stand-in", "cluster": {"server": self.url}}],
            "users": [{"name": "node", "user": user}],
            "contexts": [{"name": "it", "context": {"cluster": "stand-in", "user": "node"}}],
            "current-context": "it",
        }
        path.write_text(json.dumps(config))
        return str(path)

    def fail(
        self,
        how: faults.Kind | int,
        path: str = "*",
        *,
        verb: str = "*",
        first: int = 1,
        times: int | None = None,
    ) -> Fault:
        """Let requests go wrong: those of a verb (or WATCH) and a path (shell pattern).

        From the ``first`` matching one on, ``times`` of them (None: all).
        """
        fault = Fault(verb, path, how, first, times)
        self.faults.add(fault)
        return fault

    def add(self, obj: Json) -> Json:
        """Create an object by its apiVersion and kind, past HTTP; namespace "default" if none."""
        kind = self.store.named(obj["kind"], obj.get("apiVersion", ""))
        namespace = obj["metadata"].get("namespace", "default") if kind.namespaced else ""
        return self.store.create(kind, namespace, obj)

    def read(self, kind: str, name: str, namespace: str = "default", group: str = "") -> Json:
        """Return an object, past HTTP."""
        found = self.store.named(kind, group)
        return self.store.find(found, namespace if found.namespaced else "", name)

    def change(self, kind: str, name: str, patch: Json, namespace: str = "default") -> Json:
        """Apply a merge patch, past HTTP."""
        found = self.store.named(kind)
        where = namespace if found.namespaced else ""
        return self.store.patch(found, where, name, patch, "merge")

    def remove(self, kind: str, name: str, namespace: str = "default") -> None:
        """Delete an object, past HTTP."""
        found = self.store.named(kind)
        self.store.delete(found, namespace if found.namespaced else "", name)

    def events(self) -> list[Json]:
        """Return all events, oldest first."""
        kind = self.store.named("Event")
        found = [obj for (each, _, _), obj in self.store.objects.items() if each == kind]
        return sorted(found, key=lambda obj: int(obj["metadata"]["resourceVersion"]))

    def asked(self) -> list[str]:
        """Return what was asked, as "VERB path", oldest first."""
        return [f"{request.verb} {request.path}" for request in list(self.requests)]


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], api: ApiServer, tls: ssl.SSLContext | None
    ) -> None:
        self.api, self._tls = api, tls
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the connection's own thread: a handshake waits for the client.
        if self._tls is not None:
            request = self._tls.wrap_socket(request, server_side=True)
        with self._lock:
            self._open.add(request)
            self.api.connections += 1
        try:
            super().finish_request(request, client_address)
        finally:
            with self._lock:
                self._open.discard(request)
            request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are part of the game."""

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was first
