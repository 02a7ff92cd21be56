"""What the engine asks of a Kubernetes API server, and the ways in which it can fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from multus.jsonfields import Json


class ApiError(Exception):
    """The API server did not do what it was asked; ``status`` is None without a whole answer."""

    def __init__(self, path: str, message: str, status: int | None = None) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message
        self.status = status


class KubeconfigError(Exception):
    """The way to the API server cannot be read; ``path`` is the file that says it."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


class CredentialsError(KubeconfigError):
    """What a kubeconfig has its credentials from gave none; it may the next time."""


class ApiUnreachableError(ApiError):
    """No whole answer: refused, reset, too slow, cut off."""


class ApiForbiddenError(ApiError):
    """The credentials are not good (401), or not good enough (403)."""


class ApiNotFoundError(ApiError):
    """There is no such object (404)."""


class ApiNotServedError(ApiNotFoundError):
    """The server has nothing at all at this path: its kind was never defined there.

    Also what somebody else on the way says, a proxy; so it does not tell that a pod is gone.
    """


class ApiConflictError(ApiError):
    """The object is another by now (409): changed since it was read, or made anew."""


class ApiNameError(ApiError):
    """No object can have this name; nothing was asked."""


class Api(Protocol):
    """One API server; paths begin with a slash. Every method raises ApiError.

    ``timeout`` is in seconds and for the whole request.
    """

    def get(self, path: str, *, timeout: float, query: Mapping[str, str] | None = None) -> Json:
        """Return an object or a list."""

    def patch(
        self,
        path: str,
        body: object,
        *,
        timeout: float,
        kind: Literal["merge", "json", "strategic"] = "merge",
    ) -> Json:
        """Change an object (RFC 7386, RFC 6902, or Kubernetes' own kind); returns it."""

    def create(self, path: str, body: object, *, timeout: float) -> Json:
        """Post a new object; returns it."""


class Stream(Protocol):
    """The events of one watch, as {"type", "object"}; only ``close`` is for any thread.

    Iterating ends when the server ends the stream, or at ``close``; it raises ApiError when the
    stream breaks, also in the middle of an event, or is silent for too long.
    """

    def open(self) -> None:
        """Ask for the stream. Raises ApiError; what it says is read by iterating."""

    def __iter__(self) -> Iterator[Json]:
        """Return the events as they come."""

    def close(self) -> None:
        """Wake up whoever reads it; it ends."""

    def release(self) -> None:
        """Give the connection back, once nobody reads any more."""


class WatchApi(Api, Protocol):
    """An API server that also tells of changes, for as long as it is kept."""

    def list(
        self, path: str, *, timeout: float, query: Mapping[str, str], trim: Callable[[Json], Json]
    ) -> Json:
        """Return a list whose items were trimmed while it was read: whole ones are never all there.

        Items are known by their ``metadata`` and ``spec``; one without is left as it is.
        """

    def watch(
        self, path: str, *, timeout: float, silence: float, query: Mapping[str, str]
    ) -> Stream:
        """Return the stream of a list's changes, not yet open.

        ``timeout`` is for its beginning; it breaks when nothing comes for ``silence``. Seconds.
        """

    def close(self) -> None:
        """Close the kept connections and let go of threads and keys."""
