"""A cluster that is read through watch caches where they can be believed, and live elsewhere.

What may be taken from a cache, and why:

* A pod, when the runtime names its uid and the cached one has it: it is that very pod. Networks
  and claims are in it since before it had a node, and only then did it come into the cache.
  Somebody may change its annotations while it starts; whether the call sees that was never
  certain. Its own network-status is not read.
* Never a pod with resource claims: their names and results reach its status later.
* A pod that is not there, or has another uid, is asked for live: kubelet may know it before we do,
  as when a pod is deleted and made anew under its name. Only the server's word ends a call early.
  Then changes of networks may be on their way, too, so that this call reads all of them live.
* A network's definition, while its changes come in. Between a change and the call of a pod made
  after it lie the scheduler, kubelet and the runtime; a stream that lags by more is closed or
  silent, and no cache is believed then.
* Never that a definition is not there: it may have been made a moment before the pod.

Writing, a pod after a conflict, the networks of 2018 and resource claims are always live.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from multus.api.cluster import ApiLimits, Cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from multus.api.clusterapi import Api
    from multus.api.objectcache import ObjectCache
    from multus.clock import Clock
    from multus.jsonfields import Json


@dataclass(slots=True)
class Reads:
    """How often pods and definitions were read, by kind and by where from."""

    _counts: dict[tuple[str, str], int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, source: str) -> None:
        """Count one; ``source`` is "cache" or "live"."""
        with self._lock:
            self._counts[kind, source] = self._counts.get((kind, source), 0) + 1

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Return (kind, source) → how often."""
        with self._lock:
            return dict(self._counts)


@dataclass(frozen=True, slots=True)
class Caches:
    """What the calls of one API server share.

    ``seen`` hears the node of every pod that was read live. ``post`` does something later, out of
    the call's way.
    """

    pods: ObjectCache
    definitions: ObjectCache
    reads: Reads
    seen: Callable[[str], None]
    post: Callable[[Callable[[], None]], None]


class CachedCluster(Cluster):
    """One cluster for one call, see Cluster; what it may know already it does not ask."""

    def __init__(
        self, api: Api, clock: Clock, limits: ApiLimits, deadline: float, caches: Caches
    ) -> None:
        super().__init__(api, clock, limits, deadline)
        self._caches = caches
        self._later = Cluster(api, clock, limits)
        self._behind = False

    def pod(self, namespace: str, name: str, uid: str = "") -> Json:
        """See Cluster.pod."""
        caches = self._caches
        if uid and caches.pods.fresh():
            found = caches.pods.find(namespace, name)
            self._behind = found is None or _part(found, "metadata").get("uid") != uid
            if found is not None and not self._behind and not _has_claims(found):
                caches.reads.add("pod", "cache")
                return found
        caches.reads.add("pod", "live")
        pod = super().pod(namespace, name, uid)
        node = _part(pod, "spec").get("nodeName")
        if isinstance(node, str) and node:
            caches.seen(node)
        return pod

    def network_attachment(self, namespace: str, name: str) -> Json:
        """See Cluster.network_attachment."""
        caches = self._caches
        if not self._behind and caches.definitions.fresh():
            found = caches.definitions.find(namespace, name)
            if found is not None:
                caches.reads.add("definition", "cache")
                return found
        caches.reads.add("definition", "live")
        return super().network_attachment(namespace, name)

    def event(self, pod: Json, kind: str, reason: str, message: str) -> None:
        """Have an event posted by and by. Best effort, never raises; see Cluster.event."""
        self._caches.post(partial(self._later.event, pod, kind, reason, message))


def _has_claims(pod: Json) -> bool:
    """Tell whether kubelet and the scheduler still write of claims into its status."""
    return bool(_part(pod, "spec").get("resourceClaims") or pod.get("status"))


def _part(obj: Json, name: str) -> Mapping[str, object]:
    value = obj.get(name)
    return value if isinstance(value, dict) else {}
