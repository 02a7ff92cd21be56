"""Objects of one kind, trimmed to what the engine reads, and whether they may be believed now.

Each is kept encoded: it takes a fraction of the memory that the parsed object would, and every
call gets one of its own, which it cannot spoil for others.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multus.jsonfields import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from multus.clock import Clock
    from multus.jsonfields import Json

    Key = tuple[str, str]

# What a pod's networks are written in, in every generation, and where kubelet has a pod from. The
# status that we write ourselves is long, and nobody reads it here.
_ANNOTATIONS = ("k8s.v1.cni.cncf.io/", "v1.multus-cni.io/", "kubernetes.v1.cni.cncf.io/",
                "kubernetes.io/config.")  # fmt: skip
_SEED_ANNOTATION = "networks"
_STATUS_ANNOTATIONS = ("/network-status", "/networks-status")


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """A cache for /readyz and metrics.

    ``fresh``: calls are answered from it. ``size`` is in bytes. ``heard`` is how many seconds ago
    the server last said something, None before it ever did. ``lists`` counts complete lists,
    ``changes`` events. ``why`` says why it is not fresh, in the words of the last failure.
    """

    kind: str
    fresh: bool
    objects: int
    size: int
    heard: float | None
    lists: int
    changes: int
    why: str


class ObjectCache:
    """A sink of a watch that others read. Only the watch's thread writes."""

    def __init__(
        self, kind: str, trim: Callable[[Json], Json], clock: Clock, silence: float
    ) -> None:
        self.kind, self.trim = kind, trim
        self._clock, self._silence = clock, silence
        self._objects: dict[Key, bytes] = {}
        self._open_since: float | None = None
        self._heard: float | None = None
        self._lists = self._changes = 0
        self._why = "not asked for yet"

    def fresh(self) -> bool:
        """Tell whether changes come in: the stream is open and not silent for too long."""
        since, heard = self._open_since, self._heard
        if since is None or heard is None:
            return False
        return self._age(since) >= 0 and self._age(heard) <= self._silence

    def find(self, namespace: str, name: str) -> Json | None:
        """Return an object as it was last told, fresh or not; None without one."""
        content = self._objects.get((namespace, name))
        if content is None:
            return None
        import json

        found: Json = json.loads(content)
        return found

    def facts(self) -> CacheFacts:
        """Return how it is doing."""
        kept = list(self._objects.items())
        size = sys.getsizeof(self._objects) + sum(
            sum(map(sys.getsizeof, (content, key, key[1]))) for key, content in kept
        )
        heard, fresh = self._heard, self.fresh()
        return CacheFacts(
            self.kind,
            fresh,
            len(kept),
            size,
            None if heard is None else self._age(heard),
            self._lists,
            self._changes,
            "" if fresh else self._why or "silent, or catching up",
        )

    def replace(self, objects: Iterable[Json]) -> None:
        """See Sink.replace."""
        self._objects = dict(each for obj in objects if (each := self._entry(obj)) is not None)
        self._lists += 1
        self.heard()

    def opened(self, catching_up: float) -> None:
        """See Sink.opened."""
        self.heard()
        self._why = ""
        self._open_since = self._clock.monotonic() + catching_up

    def apply(self, kind: str, obj: Json) -> None:
        """See Sink.apply."""
        entry = self._entry(obj)
        if entry is not None:
            key, content = entry
            if kind == "DELETED":
                self._objects.pop(key, None)
            else:
                self._objects[key] = content
        self._changes += 1
        self.heard()

    def heard(self) -> None:
        """See Sink.heard."""
        self._heard = self._clock.monotonic()

    def lost(self, why: str) -> None:
        """See Sink.lost."""
        self._open_since, self._why = None, why

    def _age(self, heard: float) -> float:
        return self._clock.monotonic() - heard

    def _entry(self, obj: Json) -> tuple[Key, bytes] | None:
        meta = _mapping(obj, "metadata")
        namespace, name = meta.get("namespace"), meta.get("name")
        if not isinstance(namespace, str) or not isinstance(name, str):
            return None
        return (sys.intern(namespace), name), encode(self.trim(obj))


def trim_pod(pod: Json) -> Json:
    """Return of a pod what devices, networks and events need of it."""
    meta, spec, status = (_mapping(pod, name) for name in ("metadata", "spec", "status"))
    kept = _some(meta, "namespace", "name", "uid", "resourceVersion")
    kept["annotations"] = {
        key: value for key, value in _mapping(meta, "annotations").items() if _is_read(key)
    }
    short = _some(spec, "nodeName", "resourceClaims")
    for kind in ("containers", "initContainers"):
        items = spec.get(kind)
        if isinstance(items, list) and items:
            short[kind] = [_some(each, "name") for each in items if isinstance(each, dict)]
    whole: Json = {"metadata": kept, "spec": short}
    claims = _some(status, "resourceClaimStatuses", "extendedResourceClaimStatus")
    return whole | ({"status": claims} if claims else {})


def trim_definition(definition: Json) -> Json:
    """Return of a NetworkAttachmentDefinition what its delegate is made of."""
    meta = _mapping(definition, "metadata")
    kept = _some(meta, "namespace", "name")
    annotations = {
        key: value for key, value in _mapping(meta, "annotations").items() if _is_read(key)
    }
    if annotations:
        kept["annotations"] = annotations
    return {"metadata": kept, "spec": _some(_mapping(definition, "spec"), "config")}


def _is_read(key: str) -> bool:
    read = key == _SEED_ANNOTATION or key.startswith(_ANNOTATIONS)
    return read and not key.endswith(_STATUS_ANNOTATIONS)


def _some(members: dict[str, Any], *names: str) -> Json:
    return {name: members[name] for name in names if members.get(name) is not None}


def _mapping(obj: Json, name: str) -> dict[str, Any]:
    value = obj.get(name)
    return value if isinstance(value, dict) else {}
