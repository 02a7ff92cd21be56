"""The one door to the Kubernetes client library: objects by path, in bounded time.

Only the library's transport is used (TLS, proxies, kept connections) and, for credentials that an
``auth-provider`` gives, its loader of kubeconfig files. Its typed objects would cost a fifth of
a second at every start, and lose members that they do not know, as ``plugin`` at the top level.
"""

from __future__ import annotations

import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any

from multus.api import kubeconfig as kubeconfigs
from multus.api.apicredentials import Credentials
from multus.api.apiworkers import Workers
from multus.api.clusterapi import CredentialsError, KubeconfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Literal

    from multus.api.access import Access
    from multus.api.clusterapi import Stream, WatchApi
    from multus.jsonfields import Json

CREDENTIALS_SECONDS = 10.0
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
# More at a time than a daemon has workers: urllib3 warns, on stderr, of one that it cannot keep.
KEPT_CONNECTIONS = 64
# A peer that is gone without a word is noticed after 5 s and three questions, 14 s in all; a watch
# may have nothing to say for longer than that.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
_PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


def connect(
    kubeconfig: str,
    env: Mapping[str, str],
    *,
    service_account: str = SERVICE_ACCOUNT,
    workers: Workers | None = None,
    credentials_seconds: float = CREDENTIALS_SECONDS,
) -> WatchApi | None:
    """Return the API server that a kubeconfig file names, or the one of the cluster we run in.

    None without either. Nothing is sent to it yet, but what gives its credentials is asked. Its
    requests run in ``workers``, by default in some of its own that end with it. Raises
    KubeconfigError.
    """
    access = kubeconfigs.find(kubeconfig, env, service_account)
    if access is None:
        return None
    if access.program is not None:
        from hwmgr.run import KernelRunner
        from multus.api.credentialsprogram import ask

        access = ask(access, KernelRunner(), env, credentials_seconds)
    elif access.provider:
        # Before the whole package, which must not be imported while this one is.
        from multus.api.k8stransport import Configuration

        made = _by_provider(access, Configuration(), credentials_seconds)
        return _Server(access, made, workers)
    return _Server(access, Credentials(access, env), workers)


class _ProviderCredentials:
    """What the library's own loader made of a kubeconfig file, at one time."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        found = settings.auth_settings().values()
        self._headers = {each["key"]: each["value"] for each in found if each["in"] == "header"}

    def settings(self, configuration: Any) -> Any:  # noqa: ARG002
        return self._settings

    def headers(self, path: str) -> dict[str, str]:  # noqa: ARG002
        return self._headers

    def close(self) -> None:
        """Leave its files to the library, which removes them when the process ends."""


class _Server:
    """One API server, by the library's transport."""

    def __init__(
        self,
        access: Access,
        credentials: Credentials | _ProviderCredentials,
        workers: Workers | None,
    ) -> None:
        self._server = access.server
        self._workers = workers or Workers(KEPT_CONNECTIONS)
        self._end = None if workers else weakref.finalize(self, self._workers.close)
        self._credentials = credentials
        self._lock = threading.Lock()
        self._pools: Any = None

    def get(self, path: str, *, timeout: float, query: Mapping[str, str] | None = None) -> Json:
        """See Api.get."""
        return self._request("GET", _with_query(path, query), timeout)

    def list(
        self, path: str, *, timeout: float, query: Mapping[str, str], trim: Callable[[Json], Json]
    ) -> Json:
        """See WatchApi.list."""

        def each(obj: Json) -> Json:
            return trim(obj) if "metadata" in obj and "spec" in obj else obj

        return self._request("GET", _with_query(path, query), timeout, each=each)

    def watch(
        self, path: str, *, timeout: float, silence: float, query: Mapping[str, str]
    ) -> Stream:
        """See WatchApi.watch."""
        from multus.api.apistream import EventStream

        url = self._server + _with_query(path, {**query, "watch": "true"})
        return EventStream(self._opened, path, url, self._headers(path), timeout, silence)

    def patch(
        self,
        path: str,
        body: object,
        *,
        timeout: float,
        kind: Literal["merge", "json", "strategic"] = "merge",
    ) -> Json:
        """See Api.patch."""
        return self._request("PATCH", path, timeout, body, _PATCHES[kind])

    def create(self, path: str, body: object, *, timeout: float) -> Json:
        """See Api.create."""
        return self._request("POST", path, timeout, body, "application/json")

    def close(self) -> None:
        """Close the kept connections."""
        with self._lock:
            if self._pools is not None:
                self._pools.clear()
                self._pools = None
            self._credentials.close()
        if self._end is not None:
            self._end()

    def _headers(self, path: str) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "multus"}
        return headers | self._credentials.headers(path)

    def _request(
        self,
        method: str,
        path: str,
        timeout: float,
        body: object = None,
        kind: str | None = None,
        each: Callable[[Json], Json] | None = None,
    ) -> Json:
        from multus.api.apiexchange import Exchange, failure, judge
        from multus.jsonfields import encode

        headers = self._headers(path)
        if kind is not None:
            headers["Content-Type"] = kind
        data = None if kind is None else encode(body)
        url = self._server + path
        try:
            ask = Exchange(self._workers, self._opened, method, url, headers, data, timeout)
            status, answer = ask.run()
        except Exception as error:
            known = failure(path, error)
            if known is None:
                raise
            raise known from None
        return judge(path, status, answer, each)

    def _opened(self) -> Any:
        with self._lock:
            if self._pools is None:
                from multus.api.k8stransport import Configuration, RESTClientObject

                settings = self._credentials.settings(Configuration)
                settings.connection_pool_maxsize = KEPT_CONNECTIONS
                settings.socket_options = [
                    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
                    *_KEEPALIVE,
                ]
                self._pools = RESTClientObject(settings).pool_manager
            return self._pools


def _with_query(path: str, query: Mapping[str, str] | None) -> str:
    if not query:
        return path
    from urllib.parse import urlencode

    return f"{path}?{urlencode(query)}"


def _by_provider(access: Access, settings: Any, seconds: float) -> _ProviderCredentials:
    """Let the library's loader ask the provider, which has no limit. Raises KubeconfigError."""
    path = str(access.kubeconfig)
    found: list[_ProviderCredentials | KubeconfigError] = []
    asking = threading.Thread(
        target=lambda: found.append(_loaded(path, settings)), name="multus-provider", daemon=True
    )
    asking.start()
    asking.join(seconds)
    if not found:
        message = f"its auth-provider did not answer within {seconds:g} s; use exec instead"
        raise CredentialsError(path, message)
    if isinstance(found[0], KubeconfigError):
        raise found[0]
    return found[0]


def _loaded(path: str, settings: Any) -> _ProviderCredentials | KubeconfigError:
    from kubernetes.config import kube_config

    try:
        kube_config.load_kube_config(path, client_configuration=settings, persist_config=False)
        made = _ProviderCredentials(settings)
    except Exception as error:  # noqa: BLE001 - a provider's own kinds, unknown here
        # Its messages quote the user's part of the file.
        return KubeconfigError(path, f"its auth-provider failed ({type(error).__name__})")
    if not made.headers("") and not settings.cert_file:
        return KubeconfigError(path, "its auth-provider gave neither token nor certificate")
    return made
