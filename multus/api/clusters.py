"""The clusters of a long-lived process: one connection and one set of watches for a kubeconfig.

A kubeconfig that is replaced, or one of whose certificates is, is a new cluster: nothing that the
old one told is used any more. Calls that have begun with the old one end with it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from multus.api import kubeconfig as kubeconfigs
from multus.api.access import files_of
from multus.api.apiworkers import Workers
from multus.api.cachedcluster import CachedCluster, Caches, Reads
from multus.api.cluster import ApiLimits
from multus.api.clusterapi import CredentialsError
from multus.api.k8sclient import CREDENTIALS_SECONDS, KEPT_CONNECTIONS, SERVICE_ACCOUNT, connect
from multus.api.renewal import RenewedApi
from multus.api.watch import WatchLimits
from multus.api.watchedserver import WatchedServer
from multus.later import Later, LaterFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwmgr.nodeconfig import NodeConfig
    from multus.api.cluster import Cluster
    from multus.api.clusterapi import WatchApi
    from multus.api.objectcache import CacheFacts
    from multus.clock import Clock

    Identity = tuple[tuple[int, int, int] | None, ...]

NODE_NAME = "MULTUS_NODE_NAME"
# One is the rule; a node that is moved to another cluster has two for a while.
_MOST_KUBECONFIGS = 4
_MOST_EVENTS = 256
_EVENTS_SECONDS = 2.0
_THREADS_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ClustersFacts:
    """For metrics.

    ``node`` is "" while the node's name is not known. ``caches`` has (kubeconfig, facts) of every
    cache. ``reads`` counts (kind, "cache" or "live"). ``events`` are those about pods.
    """

    node: str
    caches: tuple[tuple[str, CacheFacts], ...]
    reads: Mapping[tuple[str, str], int]
    events: LaterFacts


class Clusters:
    """Opens clusters for calls; made once, from any thread, closed once.

    ``node_name``, else MULTUS_NODE_NAME, else the node of the first pod that a call reads: kubelet
    asks for its own pods only. Until it is known pods are read live.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        clock: Clock,
        *,
        node_name: str = "",
        limits: ApiLimits | None = None,
        watch_limits: WatchLimits | None = None,
        service_account: str = SERVICE_ACCOUNT,
        credentials_seconds: float = CREDENTIALS_SECONDS,
    ) -> None:
        self._env, self._clock = env, clock
        self._limits = limits or ApiLimits()
        self._watch_limits = watch_limits or WatchLimits()
        self._service_account = service_account
        self._credentials_seconds = credentials_seconds
        self._node = node_name or env.get(NODE_NAME, "")
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Identity, WatchedServer]] = OrderedDict()
        self._workers = Workers(KEPT_CONNECTIONS)
        self._reads = Reads()
        self._later = Later(_MOST_EVENTS, "multus-events")
        self._opening: dict[str, Future[WatchedServer | None]] = {}
        self._closed = False

    def connect(self, kubeconfig: str, deadline: float) -> Cluster | None:
        """Return the cluster of a kubeconfig, or the one we run in, for one call; None without.

        ``deadline`` is on the monotonic clock. Raises KubeconfigError.
        """
        if not kubeconfig and not self._env.get("KUBERNETES_SERVICE_HOST"):
            return None
        server = self._server(kubeconfig, deadline)
        if server is None:
            return None
        caches = Caches(server.pods, server.definitions, self._reads, self._seen, self._later.post)
        return CachedCluster(server.api, self._clock, self._limits, deadline, caches)

    def facts(self) -> ClustersFacts:
        """Return how it is doing."""
        with self._lock:
            node = self._node
            kept = [(path, server) for path, (_, server) in self._kept.items()]
        caches = [
            (path, cache.facts())
            for path, server in kept
            for cache in (server.pods, server.definitions)
        ]
        return ClustersFacts(node, tuple(caches), self._reads.counts(), self._later.facts())

    def close(self) -> bool:
        """End all threads; False when one is still held up by a server. Events get 2 s."""
        self._later.close(_EVENTS_SECONDS)
        with self._lock:
            self._closed = True
            servers = [server for _, server in self._kept.values()]
            self._kept.clear()
        for server in servers:
            server.close()
        ended = [server.join(_THREADS_SECONDS) for server in servers]
        self._workers.close()
        return all(ended)

    def _server(self, kubeconfig: str, deadline: float) -> WatchedServer | None:
        """Return the server that is kept, or a new one.

        It is opened by the first who wants it, with no lock held: a program that is asked for
        credentials may take its time. Who wants the same one meanwhile gets what that one gets.
        """
        with self._lock:
            server = self._still_good(kubeconfig)
            if server is not None:
                return server
            opening = self._opening.get(kubeconfig)
            first = opening is None
            if opening is None:
                opening = self._opening[kubeconfig] = Future()
        if not first:
            return self._of_another(opening, kubeconfig, deadline)
        try:
            made = self._open(kubeconfig)
            server = None if made is None else self._kept_from_now_on(kubeconfig, *made)
        except BaseException as error:
            self._opened(kubeconfig)
            opening.set_exception(error)
            raise
        self._opened(kubeconfig)
        opening.set_result(server)
        return server

    def _opened(self, kubeconfig: str) -> None:
        with self._lock:
            del self._opening[kubeconfig]

    def _of_another(
        self, opening: Future[WatchedServer | None], kubeconfig: str, deadline: float
    ) -> WatchedServer | None:
        try:
            return opening.result(max(deadline - self._clock.monotonic(), 0.0))
        except TimeoutError:
            message = "its credentials are still being asked for by another call"
            raise CredentialsError(kubeconfig, message) from None

    def _still_good(self, kubeconfig: str) -> WatchedServer | None:
        """Return the server that is kept, if its files are the same; the lock is held."""
        known = self._kept.get(kubeconfig)
        if known is None:
            return None
        identity, server = known
        if identity == _identity(server.files):
            self._kept.move_to_end(kubeconfig)
            return server
        # Nothing of it may be used, even if the new one cannot be read.
        del self._kept[kubeconfig]
        server.close()
        return None

    def _kept_from_now_on(
        self, kubeconfig: str, identity: Identity, server: WatchedServer
    ) -> WatchedServer:
        with self._lock:
            if not self._closed:
                server.watch(self._node)
                self._kept[kubeconfig] = (identity, server)
                if len(self._kept) > _MOST_KUBECONFIGS:
                    _, (_, oldest) = self._kept.popitem(last=False)
                    oldest.close()
        return server

    def _open(self, kubeconfig: str) -> tuple[Identity, WatchedServer] | None:
        access = kubeconfigs.find(kubeconfig, self._env, self._service_account)
        if access is None:
            return None
        files = files_of(access)
        # Before they are read: a change in between is seen at the next call.
        identity = _identity(files)
        reopen = partial(self._connect, kubeconfig)
        api = reopen()
        if api is None:
            return None
        renewed = RenewedApi(api, reopen, self._clock)
        return identity, WatchedServer(renewed, files, self._clock, self._watch_limits)

    def _connect(self, kubeconfig: str) -> WatchApi | None:
        return connect(
            kubeconfig,
            self._env,
            service_account=self._service_account,
            workers=self._workers,
            credentials_seconds=self._credentials_seconds,
        )

    def _seen(self, node: str) -> None:
        """Learn the node's name, and watch its pods from now on."""
        with self._lock:
            if self._node or self._closed:
                return
            self._node = node
            for _, server in self._kept.values():
                server.watch(node)


def clusters_of(env: Mapping[str, str], clock: Clock, config: NodeConfig, node: str) -> Clusters:
    """Return the clusters of a node by its configuration."""
    usual = ApiLimits()
    limits = replace(
        usual,
        request=config.api_request_seconds or usual.request,
        whole=config.api_seconds or usual.whole,
    )
    return Clusters(
        env,
        clock,
        node_name=node,
        limits=limits,
        credentials_seconds=config.credentials_seconds,
    )


def _identity(files: tuple[str, ...]) -> Identity:
    """Return what changes when one of the files does, or the link that it is."""
    found: list[tuple[int, int, int] | None] = []
    for path in files:
        try:
            status = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)
