"""Kubernetes objects for questions that change nothing: from files, or from a server only read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multus.api.clusterapi import ApiError, ApiNotFoundError
from multus.jsonfields import FieldError, Fields, Json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Literal

    from multus.api.clusterapi import Api

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
        _check_names(documents, path)
    except OSError as error:
        raise FieldError(f"{path} cannot be read: {error.strerror}") from error
    except FieldError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FieldError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    objects: list[Json] = []
    for document in documents:
        if document is None:
            continue
        fields = Fields(document, f"a document of {path}")
        items = fields.objects("items") if fields.text("kind").endswith("List") else None
        objects += [document] if items is None else items
    return objects


class _Unwritten:
    """The half of multus.api.clusterapi.Api that writes: all of it is refused."""

    def patch(
        self,
        path: str,
        body: object,
        *,
        timeout: float,
        kind: Literal["merge", "json", "strategic"] = "merge",
    ) -> Json:
        """Refuse."""
        raise ApiError(path, "a question changes nothing")

    def create(self, path: str, body: object, *, timeout: float) -> Json:
        """Refuse."""
        raise ApiError(path, "a question changes nothing")


class ObjectFiles(_Unwritten):
    """Implements multus.api.clusterapi.Api for reading; what has no namespace is in ``default``."""

    def __init__(self, objects: Iterable[Json]) -> None:
        paths = ((_path_of(obj), obj) for obj in objects)
        self._objects = {path: obj for path, obj in paths if path is not None}

    def get(self, path: str, *, timeout: float, query: Mapping[str, str] | None = None) -> Json:
        """See Api.get."""
        found = self._objects.get(path)
        if found is None:
            raise ApiNotFoundError(path, "no file has such an object", 404)
        return found


class ReadOnly(_Unwritten):
    """Implements multus.api.clusterapi.Api by another one that is asked and never told anything."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def get(self, path: str, *, timeout: float, query: Mapping[str, str] | None = None) -> Json:
        """See Api.get."""
        return self._api.get(path, timeout=timeout, query=query)


def _check_names(value: object, path: str) -> None:
    """Raise FieldError for a member whose name is no text: YAML has such, Kubernetes does not."""
    if isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):
                raise FieldError(f"{path} has a member {name!r}; put quotes around the name")
            _check_names(member, path)
    elif isinstance(value, list):
        for item in value:
            _check_names(item, path)


def _path_of(obj: Json) -> str | None:
    """Return where a server would have the object, None for a kind that networks do not need."""
    fields = Fields(obj, "an object")
    meta = Fields(fields.mapping("metadata") or {}, "its metadata")
    version, kind = fields.text("apiVersion"), fields.text("kind")
    if kind not in _PLURALS:
        return None
    if not meta.text("name"):
        raise FieldError(f"an object of kind {kind} has no name")
    root = "/apis/" if "/" in version else "/api/"
    namespace = meta.text("namespace") or "default"
    return f"{root}{version}/namespaces/{namespace}/{_PLURALS[kind]}/{meta.text('name')}"
