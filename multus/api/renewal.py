"""An API server whose credentials are read again when it does not take them any more (401)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal, TypeVar

from multus.api.clusterapi import ApiForbiddenError, CredentialsError, KubeconfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from multus.api.clusterapi import Stream, WatchApi
    from multus.clock import Clock
    from multus.jsonfields import Json

    T = TypeVar("T")

_UNAUTHORIZED = 401
# Credentials that are just no good cost a file and a handshake every so often, not at every call.
_PAUSE_SECONDS = 5.0


class RenewedApi:
    """See WatchApi. A request that is refused with 401 is sent once more with new credentials.

    It was not done, so it may be. An API server that was replaced is left to those who still use
    it; its connections end with it.
    """

    def __init__(self, api: WatchApi, reopen: Callable[[], WatchApi | None], clock: Clock) -> None:
        self._api, self._reopen, self._clock = api, reopen, clock
        self._lock = threading.Lock()
        self._again_at = clock.monotonic()

    def get(self, path: str, *, timeout: float, query: Mapping[str, str] | None = None) -> Json:
        """See Api.get."""
        return self._asking(lambda api: api.get(path, timeout=timeout, query=query))

    def patch(
        self,
        path: str,
        body: object,
        *,
        timeout: float,
        kind: Literal["merge", "json", "strategic"] = "merge",
    ) -> Json:
        """See Api.patch."""
        return self._asking(lambda api: api.patch(path, body, timeout=timeout, kind=kind))

    def create(self, path: str, body: object, *, timeout: float) -> Json:
        """See Api.create."""
        return self._asking(lambda api: api.create(path, body, timeout=timeout))

    def list(
        self, path: str, *, timeout: float, query: Mapping[str, str], trim: Callable[[Json], Json]
    ) -> Json:
        """See WatchApi.list."""
        return self._asking(lambda api: api.list(path, timeout=timeout, query=query, trim=trim))

    def watch(
        self, path: str, *, timeout: float, silence: float, query: Mapping[str, str]
    ) -> Stream:
        """See WatchApi.watch. A stream that is refused is followed by a list, which renews."""
        return self._api.watch(path, timeout=timeout, silence=silence, query=query)

    def close(self) -> None:
        """See WatchApi.close."""
        self._api.close()

    def _asking(self, ask: Callable[[WatchApi], T]) -> T:
        api = self._api
        try:
            return ask(api)
        except ApiForbiddenError as error:
            if error.status != _UNAUTHORIZED:
                raise
            try:
                renewed = self._renew(api)
            except CredentialsError as why:
                message = f"{error.message}; kubeconfig {why}"
                raise ApiForbiddenError(error.path, message, error.status) from why
            if not renewed:
                raise
        return ask(self._api)

    def _renew(self, refused: WatchApi) -> bool:
        """Read the credentials again, unless another has just done it; False: to no avail.

        Raises CredentialsError where what gives them is to blame.

        The lock is for one at a time. It holds up nobody but those who were refused, too, and no
        longer than ``reopen`` takes, which has a limit.
        """
        with self._lock:
            if self._api is not refused:
                return True
            if self._clock.monotonic() < self._again_at:
                return False
            try:
                api = self._reopen()
            except CredentialsError:
                raise
            except KubeconfigError:
                return False  # the file is being written; the server's refusal says enough
            finally:
                # From its end on: those who wait here for a program that hangs ask it no more.
                self._again_at = self._clock.monotonic() + _PAUSE_SECONDS
            if api is None:
                return False
            self._api = api
            return True
