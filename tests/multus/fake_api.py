"""An API server in this process: objects by path, failures on demand, what was written."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

from multus.api.clusterapi import (
    ApiConflictError,
    ApiError,
    ApiForbiddenError,
    ApiNotFoundError,
    ApiUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multus.jsonfields import Json

PODS = "/api/v1/namespaces/{namespace}/pods/{name}"
NADS = "/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions/{name}"
SEED_NETWORKS = "/apis/kubernetes.com/v1/namespaces/{namespace}/networks/{name}"
SECOND_NETWORKS = "/apis/kubernetes.cni.cncf.io/v1/namespaces/{namespace}/networks/{name}"

_ERRORS: dict[int | None, type[ApiError]] = {
    None: ApiUnreachableError,
    401: ApiForbiddenError,
    403: ApiForbiddenError,
    404: ApiNotFoundError,
    409: ApiConflictError,
}


class FakeApi:
    """Answers as an API server would; ``fail`` is the status of every answer, 0 for no answer."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {"/version": {"gitVersion": "v1.20.2"}}
        self.fail: int | None = None
        self.conflicts = 0
        self.requests: list[str] = []
        self.events: list[Json] = []

    def put(self, template: str, obj: Mapping[str, Any]) -> None:
        """Store an object where its metadata says."""
        meta = obj["metadata"]
        path = template.format(namespace=meta["namespace"], name=meta["name"])
        self.objects[path] = copy.deepcopy(dict(obj))

    def put_pod(self, annotations: Mapping[str, str] | None = None, **meta: Any) -> None:
        """Store a usual pod."""
        whole = {"namespace": "ns1", "name": "pod1", "uid": "uid1", **meta}
        whole["annotations"] = dict(annotations or {})
        self.put(PODS, {"metadata": whole, "spec": {"containers": []}})

    def put_nad(self, name: str, config: str | None, **meta: Any) -> None:
        """Store a NetworkAttachmentDefinition."""
        spec = {} if config is None else {"config": config}
        self.put(NADS, {"metadata": {"namespace": "ns1", "name": name, **meta}, "spec": spec})

    def annotations(self, namespace: str = "ns1", name: str = "pod1") -> dict[str, str]:
        """Return a pod's annotations."""
        pod: Any = self.objects[PODS.format(namespace=namespace, name=name)]
        found: dict[str, str] = pod["metadata"].get("annotations") or {}
        return found

    def get(self, path: str, *, timeout: float, query: Mapping[str, str] | None = None) -> Json:
        self._begin("GET", path)
        if path not in self.objects:
            raise self._error(path, 404)
        return copy.deepcopy(self.objects[path])

    def patch(
        self,
        path: str,
        body: object,
        *,
        timeout: float,
        kind: Literal["merge", "json", "strategic"] = "merge",
    ) -> Json:
        self._begin("PATCH", path)
        assert kind == "merge"
        assert isinstance(body, dict)
        path = path.removesuffix("/status")
        if path not in self.objects:
            raise self._error(path, 404)
        current: Any = self.objects[path]
        wanted = body["metadata"].get("uid")
        if self.conflicts or (wanted and wanted != current["metadata"]["uid"]):
            self.conflicts = max(self.conflicts - 1, 0)
            raise self._error(path, 409)
        annotations = current["metadata"].setdefault("annotations", {})
        annotations.update(body["metadata"]["annotations"])
        return copy.deepcopy(self.objects[path])

    def create(self, path: str, body: object, *, timeout: float) -> Json:
        self._begin("POST", path)
        assert isinstance(body, dict)
        self.events.append(body)
        return body

    def _begin(self, verb: str, path: str) -> None:
        self.requests.append(f"{verb} {path}")
        if self.fail is not None:
            raise self._error(path, self.fail or None)

    @staticmethod
    def _error(path: str, status: int | None) -> ApiError:
        return _ERRORS.get(status, ApiError)(path, f"fake failure {status}", status)
