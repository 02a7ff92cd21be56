"""Kubernetes objects from files, answered as an API server would, for questions without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multus.clusterapi import ApiError, ApiNotFoundError
from multus.jsonfields import FieldError, Fields, Json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Literal

_PLURALS = {
    "Pod": "pods",
    "NetworkAttachmentDefinition": "network-attachment-definitions",
    "Network": "networks",
    "ResourceClaim": "resourceclaims",
}


def read_objects(path: str) -> list[Json]:
    """Return the objects of a YAML or JSON file, lists taken apart; raises FieldError."""
    import yaml

    try:
        with open(path, "rb") as file:
            documents = list(yaml.safe_load_all(file))
    except OSError as error:
        raise FieldError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise FieldError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    objects: list[Json] = []
    for document in documents:
        if document is None:
            continue
        fields = Fields(document, f"a document of {path}")
        items = fields.objects("items") if fields.text("kind").endswith("List") else None
        objects += [document] if items is None else items
    return objects


class ObjectFiles:
    """Implements multus.clusterapi.Api for reading; what has no namespace is in ``default``."""

    def __init__(self, objects: Iterable[Json]) -> None:
        self._objects = {_path_of(obj): obj for obj in objects}

    def get(self, path: str, *, timeout: float, query: Mapping[str, str] | None = None) -> Json:
        """See Api.get."""
        found = self._objects.get(path)
        if found is None:
            raise ApiNotFoundError(path, "no file has such an object", 404)
        return found

    def patch(
        self,
        path: str,
        body: object,
        *,
        timeout: float,
        kind: Literal["merge", "json", "strategic"] = "merge",
    ) -> Json:
        """Refuse: files are only read."""
        raise ApiError(path, "objects from files are not written")

    def create(self, path: str, body: object, *, timeout: float) -> Json:
        """Refuse: files are only read."""
        raise ApiError(path, "objects from files are not written")


def _path_of(obj: Json) -> str:
    fields = Fields(obj, "an object")
    meta = Fields(fields.mapping("metadata") or {}, "its metadata")
    version, kind = fields.text("apiVersion"), fields.text("kind")
    if kind not in _PLURALS:
        raise FieldError(f"an object of kind {kind!r}; known are {', '.join(_PLURALS)}")
    if not meta.text("name"):
        raise FieldError(f"an object of kind {kind} has no name")
    root = "/apis/" if "/" in version else "/api/"
    namespace = meta.text("namespace") or "default"
    return f"{root}{version}/namespaces/{namespace}/{_PLURALS[kind]}/{meta.text('name')}"
