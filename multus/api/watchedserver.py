"""One API server of a long-lived process: its two watches, of this node's pods and of networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multus.api.objectcache import ObjectCache, trim_definition, trim_pod
from multus.api.watch import Watch

if TYPE_CHECKING:
    from multus.api.clusterapi import WatchApi
    from multus.api.watch import WatchLimits
    from multus.clock import Clock

_PODS = "/api/v1/pods"
_DEFINITIONS = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions"


class WatchedServer:
    """``files`` are those that the way to it was read from.

    ``watch`` and ``close`` are called under one lock.
    """

    def __init__(
        self, api: WatchApi, files: tuple[str, ...], clock: Clock, limits: WatchLimits
    ) -> None:
        self.api, self.files = api, files
        self.pods = ObjectCache("pod", trim_pod, clock, limits.silence)
        self.definitions = ObjectCache("definition", trim_definition, clock, limits.silence)
        self._clock, self._limits = clock, limits
        self._watches: dict[str, Watch] = {}

    def watch(self, node: str) -> None:
        """Watch networks, and the pods of a node once its name is known; again: nothing."""
        if _DEFINITIONS not in self._watches:
            watch = Watch(self.api, _DEFINITIONS, {}, self.definitions, self._clock, self._limits)
            self._begin(watch, _DEFINITIONS)
        if node and _PODS not in self._watches:
            # From the server's own cache: it has pods by node there, and etcd has not. What is
            # old in it is told by the stream that follows.
            query = {"fieldSelector": f"spec.nodeName={node}"}
            watch = Watch(
                self.api, _PODS, query, self.pods, self._clock, self._limits, cached_list=True
            )
            self._begin(watch, _PODS)

    def close(self) -> None:
        """End the watches. Calls that have begun may still ask."""
        for watch in self._watches.values():
            watch.close()

    def join(self, seconds: float) -> bool:
        """Wait for the watches, each that long; then nobody may ask any more."""
        ended = [watch.join(seconds) for watch in self._watches.values()]
        self.api.close()
        return all(ended)

    def _begin(self, watch: Watch, path: str) -> None:
        self._watches[path] = watch
        watch.start()
