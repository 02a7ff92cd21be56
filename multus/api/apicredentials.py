"""Credentials for an API server, as the client library's settings and as headers of a request."""

from __future__ import annotations

import os
import time
import weakref
from typing import TYPE_CHECKING, Any

from multus.api.clusterapi import ApiForbiddenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multus.api.access import Access


_UNAUTHORIZED = 401


class Credentials:
    """The library's settings for an access, made at the first request; the token is read anew."""

    def __init__(self, access: Access, env: Mapping[str, str]) -> None:
        self._access, self._env = access, env
        self._memory: list[weakref.finalize[..., Credentials]] = []

    def settings(self, configuration: Any) -> Any:
        """Return them, of the library's class that is given."""
        access = self._access
        settings = configuration(host=access.server)
        settings.verify_ssl = access.verify
        if not access.verify:
            # The administrator has said so; urllib3 would say so on stderr, at every request.
            from urllib3 import disable_warnings
            from urllib3.exceptions import InsecureRequestWarning

            disable_warnings(InsecureRequestWarning)
        settings.tls_server_name = access.server_name
        settings.ssl_ca_cert = self._path(access.authority)
        settings.cert_file = self._path(access.certificate)
        settings.key_file = self._path(access.key)
        settings.proxy, settings.no_proxy = _proxy(access, self._env)
        return settings

    def headers(self, path: str) -> dict[str, str]:
        """Return what proves who we are. Raises ApiForbiddenError for the request of ``path``."""
        expires = self._access.expires
        if expires is not None and time.time() >= expires:
            # The server would say the same; see multus.api.renewal.
            raise ApiForbiddenError(path, "the credentials have expired", _UNAUTHORIZED)
        token = self._token(path)
        if token is not None:
            # http.client would quote what it refuses, and the token with it.
            if not (token.isascii() and token.isprintable()):
                raise ApiForbiddenError(path, "the token has characters that no token has")
            return {"Authorization": f"Bearer {token}"}
        if self._access.login is not None:
            import base64

            pair = ":".join(self._access.login).encode()
            return {"Authorization": "Basic " + base64.b64encode(pair).decode()}
        return {}

    def close(self) -> None:
        """Let go of the memory that keys are in."""
        while self._memory:
            self._memory.pop()()

    def _token(self, path: str) -> str | None:
        name, fixed = self._access.token_file, self._access.token
        if name is None:
            return fixed
        try:
            with open(name, encoding="utf-8") as file:
                text = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            text, why = "", getattr(error, "strerror", None) or "not text"
        else:
            why = "empty"
        if text or fixed:
            return text or fixed
        raise ApiForbiddenError(path, f"no token in {name}: {why}")

    def _path(self, pem: str | bytes | None) -> str | None:
        """Return a path for the TLS library, which takes no content. It must not touch a disk."""
        if pem is None or isinstance(pem, str):
            return pem
        memory = os.memfd_create("pem")
        self._memory.append(weakref.finalize(self, os.close, memory))
        os.write(memory, pem)
        return f"/proc/self/fd/{memory}"


def _proxy(access: Access, env: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the proxy to use and the hosts that need none, as Go's clients find them.

    The variables are the container runtime's; its unit file often has them.
    """
    from urllib.parse import urlsplit

    def named(name: str) -> str | None:
        return env.get(name.upper()) or env.get(name)

    if access.proxy is not None:
        return access.proxy, None
    url = urlsplit(access.server)
    host = url.hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1":
        return None, None
    return named(f"{url.scheme}_proxy"), named("no_proxy")
