"""The one door to the Kubernetes client library: objects by path, in bounded time.

Only the library's transport is used (TLS, proxies, kept connections) and, for credentials that a
program or a provider gives, its loader of kubeconfig files. Its typed objects would cost a fifth of
a second at every start, and lose members that they do not know, as ``plugin`` at the top level.
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

from multus import kubeconfig as kubeconfigs
from multus.apicredentials import Credentials
from multus.clusterapi import ApiForbiddenError, KubeconfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from multus.clusterapi import Api
    from multus.jsonfields import Json
    from multus.kubeconfig import Access

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
# More at a time than a daemon has workers: urllib3 warns, on stderr, of one that it cannot keep.
_KEPT_CONNECTIONS = 64
_PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


def connect(
    kubeconfig: str, env: Mapping[str, str], *, service_account: str = SERVICE_ACCOUNT
) -> Api | None:
    """Return the API server that a kubeconfig file names, or the one of the cluster we run in.

    None without either. Nothing is sent yet. Raises KubeconfigError.
    """
    if kubeconfig:
        access = kubeconfigs.read(kubeconfig)
    else:
        inside = kubeconfigs.of_pod(env, service_account)
        if inside is None:
            return None
        access = inside
    if access.by_plugin:
        # Before the whole package, which must not be imported while this one is.
        from multus.k8stransport import Configuration

        return _Server(access, _by_plugin(access, Configuration()))
    return _Server(access, Credentials(access, env))


class _PluginCredentials:
    """What the library's own loader made of a kubeconfig file; it refreshes them itself."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    def settings(self, configuration: Any) -> Any:  # noqa: ARG002
        return self._settings

    def headers(self, path: str) -> dict[str, str]:
        try:
            found = self._settings.auth_settings().values()
        except Exception as error:  # noqa: BLE001 - a provider's own kinds, unknown here
            reason = type(error).__name__
            raise ApiForbiddenError(path, f"no fresh credentials: {reason}") from None
        return {each["key"]: each["value"] for each in found if each["in"] == "header"}

    def close(self) -> None:
        """Leave its files to the library, which removes them when the process ends."""


class _Server:
    """One API server, by the library's transport."""

    def __init__(self, access: Access, credentials: Credentials | _PluginCredentials) -> None:
        self._server = access.server
        self._credentials = credentials
        self._lock = threading.Lock()
        self._pools: Any = None

    def get(self, path: str, *, timeout: float, query: Mapping[str, str] | None = None) -> Json:
        """See Api.get."""
        if query:
            from urllib.parse import urlencode

            path = f"{path}?{urlencode(query)}"
        return self._request("GET", path, timeout)

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

    def _request(
        self, method: str, path: str, timeout: float, body: object = None, kind: str | None = None
    ) -> Json:
        from multus.apiexchange import Exchange, failure, judge
        from multus.jsonfields import encode

        headers = {"Accept": "application/json", "User-Agent": "multus"}
        headers |= self._credentials.headers(path)
        if kind is not None:
            headers["Content-Type"] = kind
        data = None if kind is None else encode(body)
        url = self._server + path
        try:
            status, answer = Exchange(self._opened, method, url, headers, data, timeout).run()
        except Exception as error:
            known = failure(path, error)
            if known is None:
                raise
            raise known from None
        return judge(path, status, answer)

    def _opened(self) -> Any:
        with self._lock:
            if self._pools is None:
                from multus.k8stransport import Configuration, RESTClientObject

                settings = self._credentials.settings(Configuration)
                settings.connection_pool_maxsize = _KEPT_CONNECTIONS
                settings.socket_options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
                self._pools = RESTClientObject(settings).pool_manager
            return self._pools


def _by_plugin(access: Access, settings: Any) -> _PluginCredentials:
    """Let the library's loader ask the program or the provider. Raises KubeconfigError."""
    from kubernetes.config import ConfigException, kube_config

    path = str(access.kubeconfig)
    try:
        kube_config.load_kube_config(path, client_configuration=settings, persist_config=False)
    except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        # Its messages quote the user's part of the file.
        reason = type(error).__name__
        raise KubeconfigError(path, f"its credentials plugin failed ({reason})") from None
    if not settings.auth_settings() and not settings.cert_file:
        raise KubeconfigError(path, "its credentials plugin gave neither token nor certificate")
    return _PluginCredentials(settings)
