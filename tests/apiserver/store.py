"""What the stand-in keeps: kinds, objects, and the history that watches read."""

from __future__ import annotations

import copy
import itertools
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.apiserver import patches, selectors

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]
_ANY_KIND = frozenset(("metadata.name", "metadata.namespace"))
_OWN = ("uid", "resourceVersion", "creationTimestamp", "generation", "selfLink")


class Refusal(Exception):
    """What the server answers instead of an object: a Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }


@dataclass(frozen=True)
class Kind:
    """One kind of objects; ``status`` tells whether it has that subresource."""

    group: str
    version: str
    plural: str
    name: str
    namespaced: bool = True
    status: bool = False
    custom: bool = False
    selectable: frozenset[str] = frozenset()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


@dataclass(frozen=True)
class Change:
    """One entry of the history."""

    version: int
    kind: Kind
    before: Json | None
    after: Json | None


_EVENT_FIELDS = frozenset(
    f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion")
)
BUILT_IN = (
    Kind("", "v1", "pods", "Pod", status=True,
         selectable=frozenset(("spec.nodeName", "status.phase", "status.podIP"))),
    Kind("", "v1", "nodes", "Node", namespaced=False, status=True),
    Kind("", "v1", "namespaces", "Namespace", namespaced=False, status=True),
    Kind("", "v1", "events", "Event",
         selectable=_EVENT_FIELDS | frozenset(("reason", "type", "source"))),
    Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
         namespaced=False, status=True),
)  # fmt: skip
NETWORKS = (
    Kind("k8s.cni.cncf.io", "v1", "network-attachment-definitions",
         "NetworkAttachmentDefinition", custom=True),
    Kind("kubernetes.com", "v1", "networks", "Network", custom=True),
    Kind("kubernetes.cni.cncf.io", "v1", "networks", "Network", custom=True),
)  # fmt: skip
THIRD_PARTY = Kind(
    "extensions", "v1beta1", "thirdpartyresources", "ThirdPartyResource", namespaced=False
)


def dra(version: str) -> tuple[Kind, ...]:
    """Return the kinds of dynamic resource allocation, in one of their versions."""
    group = "resource.k8s.io"
    selectable = frozenset(("spec.nodeName", "spec.driver"))
    return (
        Kind(group, version, "resourceclaims", "ResourceClaim", status=True),
        Kind(group, version, "resourceslices", "ResourceSlice", False, selectable=selectable),
    )


@dataclass
class Store:
    """All objects of one server. Every method is safe to call from any thread."""

    kinds: list[Kind] = field(default_factory=list)
    objects: dict[tuple[Kind, str, str], Json] = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    forgotten: int = 9  # as kube-apiserver, whose own first objects are older than any client's
    _versions: itertools.count[int] = field(default_factory=lambda: itertools.count(10))
    version: int = 9

    def find(self, kind: Kind, namespace: str, name: str) -> Json:
        with self.changed:
            found = self.objects.get((kind, namespace, name))
            if found is None:
                raise Refusal(404, "NotFound", f'{kind.resource} "{name}" not found')
            return copy.deepcopy(found)

    def select(self, kind: Kind, namespace: str, query: dict[str, str]) -> tuple[list[Json], int]:
        """Return the objects of a list and the version that it is of."""
        wanted = selection(kind, query)
        with self.changed:
            items = [
                copy.deepcopy(obj)
                for (each, where, _), obj in sorted(self.objects.items(), key=lambda i: i[0][1:])
                if each == kind and namespace in ("", where) and wanted(obj)
            ]
            return items, self.version

    def create(self, kind: Kind, namespace: str, obj: Json) -> Json:
        obj = copy.deepcopy(obj)
        meta = obj.setdefault("metadata", {})
        if obj.get("kind", kind.name) != kind.name:
            raise Refusal(400, "BadRequest", f"{obj.get('kind')} is not a {kind.name}")
        if kind.namespaced and meta.setdefault("namespace", namespace) != namespace:
            raise Refusal(400, "BadRequest", "the namespace of the object is not the request's")
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
        name = meta.get("name")
        if not name:
            raise Refusal(422, "Invalid", f"{kind.name}: name or generateName is required")
        meta |= {"uid": meta.get("uid") or str(uuid.uuid4())}
        meta["creationTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        obj |= {"apiVersion": kind.api_version, "kind": kind.name}
        with self.changed:
            if (kind, namespace, name) in self.objects:
                raise Refusal(409, "AlreadyExists", f'{kind.resource} "{name}" already exists')
            if kind.name == "Pod":
                obj.setdefault("status", {}).setdefault("phase", "Pending")
            self._note(kind, namespace, name, None, obj)
            self._declare(obj)
            return copy.deepcopy(obj)

    def update(
        self, kind: Kind, namespace: str, name: str, change: Callable[[Json], Json], part: str = ""
    ) -> Json:
        """Change an object by a function; ``part`` is "status" for that subresource."""
        with self.changed:
            old = self.find(kind, namespace, name)
            new = change(copy.deepcopy(old))
            _compare(kind, name, old, new.get("metadata") or {})
            new.setdefault("metadata", {})
            for key in _OWN:
                if key in old["metadata"]:
                    new["metadata"][key] = old["metadata"][key]
            kept = [key for key in old if key not in ("metadata", "status")] if part else ["status"]
            if part or kind.status:
                new = {key: value for key, value in new.items() if key not in kept}
                new |= {key: old[key] for key in kept if key in old}
            if (new["metadata"].get("name"), new["metadata"].get("namespace", namespace)) != (
                name, namespace,
            ):  # fmt: skip
                raise Refusal(400, "BadRequest", "the name of the object is not the request's")
            new |= {"apiVersion": kind.api_version, "kind": kind.name}
            if new != old:
                self._note(kind, namespace, name, old, new)
            return copy.deepcopy(new)

    def patch(
        self, kind: Kind, namespace: str, name: str, body: Any, how: str, part: str = ""
    ) -> Json:
        """Change an object by a patch; ``how`` is merge, json or strategic."""
        if how == "strategic" and kind.custom:
            raise Refusal(415, "UnsupportedMediaType", "custom objects take no strategic patch")
        apply = {
            "merge": patches.merge,
            "json": patches.json_patch,
            "strategic": patches.strategic,
        }[how]

        def change(old: Json) -> Json:
            try:
                new = apply(old, body)
            except patches.PatchError as error:
                raise Refusal(422, "Invalid", str(error)) from error
            if not isinstance(new, dict):
                raise Refusal(422, "Invalid", "the patch leaves no object")
            if (new.get("metadata") or {}).get("uid") != old["metadata"]["uid"]:
                raise Refusal(422, "Invalid", "metadata.uid: field is immutable")
            return new

        return self.update(kind, namespace, name, change, part)

    def delete(self, kind: Kind, namespace: str, name: str, options: Json | None = None) -> Json:
        with self.changed:
            old = self.find(kind, namespace, name)
            _compare(kind, name, old, (options or {}).get("preconditions") or {})
            self._note(kind, namespace, name, old, None)
            return old

    def kind(self, group: str, version: str, plural: str) -> Kind | None:
        """Return a kind by the parts of its path."""
        with self.changed:
            for each in self.kinds:
                if (each.group, each.version, each.plural) == (group, version, plural):
                    return each
        return None

    def named(self, name: str, api_version: str = "") -> Kind:
        """Return a kind by its name, as tests call it."""
        for each in self.kinds:
            if each.name == name and api_version in ("", each.api_version):
                return each
        raise KeyError(name)

    def compact(self) -> None:
        """Forget the history: a watch that wants to go on from before is told 410."""
        with self.changed:
            self.history.clear()
            self.forgotten = self.version

    def _note(
        self, kind: Kind, namespace: str, name: str, before: Json | None, after: Json | None
    ) -> None:
        self.version = next(self._versions)
        last = copy.deepcopy(before if after is None else after)
        assert last is not None
        last["metadata"]["resourceVersion"] = str(self.version)
        if after is None:
            del self.objects[kind, namespace, name]
            self.history.append(Change(self.version, kind, last, None))
        else:
            after["metadata"]["resourceVersion"] = str(self.version)
            self.objects[kind, namespace, name] = last
            self.history.append(Change(self.version, kind, before, last))
        self.changed.notify_all()

    def _declare(self, obj: Json) -> None:
        """Serve what a definition defines, from now on."""
        if obj["kind"] == "CustomResourceDefinition":
            spec = obj["spec"]
            for version in spec["versions"]:
                self._serve(Kind(
                    spec["group"], version["name"], spec["names"]["plural"],
                    spec["names"]["kind"], spec["scope"] == "Namespaced",
                    "status" in (version.get("subresources") or {}), custom=True,
                ))  # fmt: skip
            accepted = {"type": "Established", "status": "True", "reason": "InitialNamesAccepted"}
            stored = self.objects[self.named(obj["kind"]), "", obj["metadata"]["name"]]
            obj["status"] = stored["status"] = {"conditions": [accepted]}
        elif obj["kind"] == "ThirdPartyResource":
            # network.kubernetes.com: kind Network, plural networks (Kubernetes 1.2 to 1.7).
            name, _, group = obj["metadata"]["name"].partition(".")
            title = "".join(part.capitalize() for part in name.split("-"))
            for version in obj["versions"]:
                plural = name.replace("-", "") + "s"
                self._serve(Kind(group, version["name"], plural, title, custom=True))

    def _serve(self, kind: Kind) -> None:
        if self.kind(kind.group, kind.version, kind.plural) is None:
            self.kinds.append(kind)


def selection(kind: Kind, query: dict[str, str]) -> Callable[[Json], bool]:
    """Return the test that the selectors of a request make together."""
    try:
        by_label = selectors.labels(query.get("labelSelector", ""))
        by_field = selectors.fields(query.get("fieldSelector", ""), _ANY_KIND | kind.selectable)
    except selectors.SelectorError as error:
        raise Refusal(400, "BadRequest", str(error)) from error
    return lambda obj: by_label(obj) and by_field(obj)


def _compare(kind: Kind, name: str, old: Json, wanted: Json) -> None:
    """Refuse what was meant for an object of another uid or version."""
    for key in ("uid", "resourceVersion"):
        if wanted.get(key) not in (None, "", old["metadata"][key]):
            raise Refusal(
                409, "Conflict",
                f'Operation cannot be fulfilled on {kind.resource} "{name}": the object has been '
                f"modified; please apply your changes to the latest version and try again ({key})",
            )  # fmt: skip
