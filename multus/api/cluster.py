"""The objects of a cluster that attaching needs: pods, networks, devices; status and events back.

Reads, and the annotation, are tried again while the server cannot be reached or is overloaded,
within ``ApiLimits.whole``; what it refuses (401, 403, 404) is final at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from multus.api.clusterapi import (
    ApiConflictError,
    ApiError,
    ApiNameError,
    ApiNotFoundError,
    ApiNotServedError,
    ApiUnreachableError,
)
from multus.jsonfields import FieldError, Fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from multus.api.clusterapi import Api
    from multus.clock import Clock
    from multus.jsonfields import Json

    T = TypeVar("T")

_PASSING = frozenset((429, 500, 502, 503, 504))
# kube-apiserver 1.20 says 422 of a patch with another uid: it takes it for an attempt to change it.
_OTHER_UID = (409, 422)
_PATCH_TRIES = 5
_FIRST_WAIT = 0.01
_DRA = "/apis/resource.k8s.io"
# The server refuses longer ones (core/v1, ValidateEvent).
_LONGEST_EVENT = 1024
_LONGEST_NAME, _LONGEST_LABEL = 253, 63
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Seconds: one request, one read with all its tries, the time between two tries, one event."""

    request: float = 1.0
    whole: float = 2.5
    poll: float = 0.25
    event: float = 0.5


class Cluster:
    """One cluster for one call; every method but ``event`` raises ApiError.

    ``deadline`` is when the call must be done with asking, on the monotonic clock: a pod may name
    any number of networks, and kubelet does not wait for them.
    """

    def __init__(
        self,
        api: Api,
        clock: Clock,
        limits: ApiLimits | None = None,
        deadline: float = math.inf,
    ) -> None:
        self._api, self._clock = api, clock
        self._deadline = deadline
        self._limits = ApiLimits() if limits is None else limits

    def pod(self, namespace: str, name: str, uid: str = "") -> Json:  # noqa: ARG002
        """Return a pod. ApiNotFoundError: the server says that it is gone.

        ``uid`` is the one that the runtime has told; what is returned may have another.
        """
        return self._pod(_pod_path(namespace, name))

    def network_attachment(self, namespace: str, name: str) -> Json:
        """Return a NetworkAttachmentDefinition of the NPWG standard."""
        kind = "network-attachment-definitions"
        return self._get(_path("/apis/k8s.cni.cncf.io/v1", namespace, kind, name))

    def network(self, namespace: str, name: str, group: str = "kubernetes.com") -> Json:
        """Return a Network object of 2018; a third-party resource has the same path."""
        _check_name(group, group)
        return self._get(_path(f"/apis/{group}/v1", namespace, "networks", name))

    def resource_claim(self, namespace: str, name: str) -> Json:
        """Return a ResourceClaim, in the version that the server prefers."""
        return self._get(_path(self._dra(), namespace, "resourceclaims", name))

    def resource_slices(self, node: str, driver: str) -> list[Json]:
        """Return what a DRA driver has published of a node."""
        _check_name(node, _DRA)
        _check_name(driver, _DRA)
        path = f"{self._dra()}/resourceslices"
        found = self._get(path, {"fieldSelector": f"spec.nodeName={node},spec.driver={driver}"})
        try:
            return Fields(found, "the list").objects("items") or []
        except FieldError as error:
            raise ApiError(path, str(error)) from error

    def annotate(self, namespace: str, name: str, uid: str, key: str, text: str) -> bool:
        """Set one annotation of a pod, False when that pod is gone or another has its name.

        The uid in the patch is the precondition: nothing is written to a pod of another uid.
        """
        path = _pod_path(namespace, name)
        body = {"metadata": {"uid": uid, "annotations": {key: text}}}

        def write(timeout: float) -> Json:
            return self._api.patch(f"{path}/status", body, timeout=timeout)

        wait = _FIRST_WAIT
        for last in (False,) * (_PATCH_TRIES - 1) + (True,):
            try:
                self._trying(write)
            except ApiNotServedError:
                raise
            except ApiNotFoundError:
                return False
            except ApiError as error:
                if error.status not in _OTHER_UID:
                    raise
                if not self._is_still(path, uid):
                    return False
                if last or not isinstance(error, ApiConflictError):
                    raise
            else:
                return True
            self._clock.sleep(wait)
            wait *= 2
        return False

    def event(self, pod: Json, kind: str, reason: str, message: str) -> None:
        """Post an event about a pod; ``kind`` is Normal or Warning. Best effort, never raises."""
        if self._clock.monotonic() >= self._deadline:
            return
        try:
            about = Fields(Fields(pod, "the pod").mapping("metadata") or {}, "its metadata")
            namespace, name = about.text("namespace"), about.text("name")
            path = _path("/api/v1", namespace, "events")
            _check_name(name, path)
            now = self._clock.now()
            body = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"generateName": f"{name}.", "namespace": namespace},
                "involvedObject": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "namespace": namespace,
                    "name": name,
                    "uid": about.text("uid"),
                    "resourceVersion": about.text("resourceVersion"),
                },
                "type": kind,
                "reason": reason,
                "message": message[:_LONGEST_EVENT],
                "source": {"component": "multus"},
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            }
            self._api.create(path, body, timeout=self._limits.event)
        except (ApiError, FieldError):
            return  # an event is a courtesy: the same facts are in the log and in the status

    def ready(self) -> None:
        """Ask the server something that needs it, and credentials that it takes."""
        self._get("/version")

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        return self._trying(lambda timeout: self._api.get(path, timeout=timeout, query=query))

    def _trying(self, ask: Callable[[float], T]) -> T:
        """Ask until there is an answer, for as long as the limits say."""
        limits = self._limits
        end = min(self._clock.monotonic() + limits.whole, self._deadline)
        while True:
            left = end - self._clock.monotonic()
            if end == self._deadline and left <= 0:
                raise ApiUnreachableError("API server", "the time limit of the call is reached")
            try:
                return ask(min(limits.request, max(left, limits.poll)))
            except ApiError as error:
                passing = isinstance(error, ApiUnreachableError) or error.status in _PASSING
                if not passing or self._clock.monotonic() + limits.poll >= end:
                    raise
            self._clock.sleep(limits.poll)

    def _pod(self, path: str) -> Json:
        try:
            return self._get(path)
        except ApiNotServedError as error:
            # Every API server has pods, so this is none; nothing follows for the pod.
            raise ApiUnreachableError(path, "not an API server") from error

    def _is_still(self, path: str, uid: str) -> bool:
        try:
            pod = self._pod(path)
        except ApiNotFoundError:
            return False
        metadata = pod.get("metadata")
        return isinstance(metadata, dict) and metadata.get("uid") == uid

    def _dra(self) -> str:
        """Return the path of the DRA group in the version that the server prefers."""
        group = self._get(_DRA)
        try:
            preferred = Fields(group, "the group").mapping("preferredVersion") or {}
            version = Fields(preferred, "its version").text("version")
        except FieldError as error:
            raise ApiError(_DRA, str(error)) from error
        _check_name(version, _DRA)
        return f"{_DRA}/{version}"


def _pod_path(namespace: str, name: str) -> str:
    return _path("/api/v1", namespace, "pods", name)


def _path(prefix: str, namespace: str, plural: str, name: str | None = None) -> str:
    """Return the path of an object, or of all of its kind. Raises ApiNameError."""
    path = f"{prefix}/namespaces/{namespace}/{plural}"
    if not _is_label(namespace):
        raise ApiNameError(prefix, f"{namespace!r} is no name of a namespace")
    if name is None:
        return path
    _check_name(name, path)
    return f"{path}/{name}"


def _check_name(name: str, path: str) -> None:
    """Raise ApiNameError unless it is a DNS subdomain of RFC 1123, as objects' names must be."""
    if len(name) > _LONGEST_NAME or not all(_is_label(part, None) for part in name.split(".")):
        raise ApiNameError(path, f"{name!r} is no name of an object")


def _is_label(text: str, longest: int | None = _LONGEST_LABEL) -> bool:
    if not text or (longest is not None and len(text) > longest):
        return False
    return {text[0], text[-1]} <= _LETTERS and set(text) <= _LETTERS | {"-"}
