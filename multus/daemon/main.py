"""The ``multus-daemon`` executable: the engine, long-lived, behind one socket."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from hwmgr import nodeconfig
from hwmgr.errors import HwmgrError
from hwmgr.netlink import KernelNetlink
from hwmgr.node import real_node
from hwmgr.systemfiles import UnitError, settings
from multus.api.clusters import clusters_of
from multus.clock import SystemClock
from multus.daemon import daemonconf, units
from multus.daemon.background import LeftCallsWorker
from multus.daemon.calllog import CallLog, JsonCallLog
from multus.daemon.daemonconf import DaemonFile, DaemonFileError
from multus.daemon.desk import Desk
from multus.daemon.dispatch import Dispatcher
from multus.daemon.life import Daemon
from multus.daemon.listener import Listener, SocketError, only_root
from multus.daemon.metrics import Metrics
from multus.daemon.options import parse
from multus.daemon.service import Service
from multus.daemon.systemd import ActivationError, Notifier, listen_sockets
from multus.daemon.vfgauge import VFGauge
from multus.daemon.wiring import Workshop
from multus.logs import node_sink

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from hwmgr.node import Node
    from hwmgr.nodeconfig import NodeConfig
    from multus.api.clusters import Clusters
    from multus.api.objectcache import CacheFacts
    from multus.daemon.metrics import Labels

_READINESS_SECONDS = 45.0
_POLL_SECONDS = 0.25
_USUAL_SOCKET = "multus.sock"
# A call waits for plugins most of its time, so a core serves several; too many at once would only
# make all of them slow and large.
_FEWEST_WORKERS = 8
_WORKERS_A_CORE = 4
# A GC and a STATUS may hang, too; two are then left for DELs.
_RESERVED_WORKERS = 4
# Three descriptors for each plugin, one for each client: beyond what is common as the soft limit.
_DESCRIPTORS = 65536


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to end; returns the exit status: 0, 1 for a failure, 2 for wrong settings."""
    options = parse(sys.argv[1:] if argv is None else argv)
    if options.version:
        from hwmgr.release import installed

        print(f"multus-daemon {installed()}")
        return 0
    env = dict(os.environ)
    try:
        config = nodeconfig.load(env)
        path = options.config or daemonconf.DEFAULT_PATH
        file = daemonconf.read_file(path, needed=bool(options.config))
        socket = _socket_path(options.socket, file, config)
        if options.unit:
            return _print_unit(_unit(options, socket, config, env))
        listener = _listener(socket, env)
    except (HwmgrError, DaemonFileError, SocketError, ActivationError, UnitError) as error:
        print(f"multus-daemon: {error}", file=sys.stderr)
        return 2
    log = _log(config, file)
    if file.waits and not _default_network_is_ready(file.readiness_file):
        log.problem(
            f"ending: the default network is not ready: after {_READINESS_SECONDS:.0f} s"
            f" {file.readiness_file} (readinessindicatorfile) is still not there"
        )
        listener.hide()
        return 1
    netlink = KernelNetlink(warm=True)
    node = real_node(
        sysfs_root=env.get("HWMGR_SYSFS") or "/sys",
        state_dir=config.state_dir,
        dpdk_tools=config.dpdk_tools,
        log=log.say,
        netlink=netlink,
    )
    # It runs event loops of its own, so a thread with a loop that runs must not use it.
    netlink.warm_up()
    try:
        in_time = asyncio.run(serve(listener, node, config, file, env))
    except OSError as error:
        listener.hide()
        print(f"multus-daemon: {error}; see daemon.metrics and metricsPort", file=sys.stderr)
        return 2
    # Threads that still work must not keep the process; the journal knows what they were at.
    os._exit(0 if in_time else 1)


async def serve(
    listener: Listener, node: Node, config: NodeConfig, file: DaemonFile, env: Mapping[str, str]
) -> bool:
    """Serve a node until a signal comes; tells whether all calls were done in time."""
    _raise_descriptor_limit()
    clock, metrics, log = SystemClock(), Metrics(), _log(config, file)
    dispatcher = Dispatcher(_workers(config, file) + _RESERVED_WORKERS, _RESERVED_WORKERS)
    clusters = clusters_of(env, clock, config, config.daemon.node_name)
    workshop = Workshop(
        node,
        config,
        file,
        connect=clusters.connect,
        metrics=metrics,
        die=_die(log),
    )
    gauge = VFGauge(node, clock)
    metrics.gauge("multus_workers", "Calls that may be at work.", lambda: {(): dispatcher.workers})
    metrics.gauge("multus_workers_busy", "Calls at work.", lambda: {(): dispatcher.busy})
    metrics.gauge("multus_calls_waiting", "Calls in the queue.", lambda: {(): dispatcher.waiting})
    _show_caches(metrics, clusters)
    metrics.gauge("hwmgr_vfs", "Virtual functions by state.", gauge.read, ("state",))
    notifier = Notifier(env)
    admit = only_root(os.geteuid())
    daemon = Daemon(listener, admit, log, notifier, config.daemon.drain_seconds)
    service = Service(dispatcher, log, metrics, clock)
    desk = Desk(service, workshop, metrics, daemon.ready, log.problem)
    # What is here now stays for good: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    left = LeftCallsWorker(workshop.left, clock, log.problem, _die(log))
    left.start()
    try:
        return await daemon.run(desk, _metrics_address(config, file))
    finally:
        left.stop()
        clusters.close()


def _show_caches(metrics: Metrics, clusters: Clusters) -> None:
    def of_caches(number: Callable[[CacheFacts], float]) -> Callable[[], dict[Labels, float]]:
        def read() -> dict[Labels, float]:
            return {(path, facts.kind): number(facts) for path, facts in clusters.facts().caches}

        return read

    which = ("kubeconfig", "kind")
    objects, fresh = of_caches(lambda f: f.objects), of_caches(lambda f: f.fresh)
    metrics.gauge("multus_cached_objects", "Objects known by watches.", objects, which)
    metrics.gauge("multus_cache_fresh", "1 while calls are answered from it.", fresh, which)

    def counts() -> dict[Labels, float]:
        return {labels: float(count) for labels, count in clusters.facts().reads.items()}

    metrics.gauge("multus_reads", "Objects read.", counts, ("kind", "source"))


def _print_unit(text: str) -> int:
    try:
        print(text, end="", flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # whose reader has seen enough
            why = f"standard output cannot be written: {error.strerror}"
            print(f"multus-daemon: {why}", file=sys.stderr)
        # Without this the interpreter would complain on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return 0


def _unit(
    options: argparse.Namespace, socket: str, config: NodeConfig, env: Mapping[str, str]
) -> str:
    program = os.path.abspath(sys.argv[0])
    if options.config:
        program += f" --config {os.path.abspath(options.config)}"
    return units.unit(
        options.unit,
        program=program,
        socket=socket,
        drain_seconds=config.daemon.drain_seconds,
        environment=settings(env),
    )


def _socket_path(option: str | None, file: DaemonFile, config: NodeConfig) -> str:
    if option:
        return os.path.abspath(option)
    if file.socket_dir:
        return os.path.join(file.socket_dir, _USUAL_SOCKET)
    return config.daemon.socket


def _listener(path: str, env: dict[str, str]) -> Listener:
    given = listen_sockets(env, os.getpid())
    if len(given) > 1:
        raise SocketError("the socket unit must have one ListenStream= alone")
    return Listener.given(given[0]) if given else Listener.at(path)


def _workers(config: NodeConfig, file: DaemonFile) -> int:
    usual = max(_FEWEST_WORKERS, _WORKERS_A_CORE * len(os.sched_getaffinity(0)))
    return min(config.daemon.workers or usual, file.connections or usual)


def _metrics_address(config: NodeConfig, file: DaemonFile) -> tuple[str, int] | None:
    if config.daemon.metrics:
        host, _, port = config.daemon.metrics.rpartition(":")
        return host.strip("[]"), int(port)
    return None if file.metrics_port is None else ("", file.metrics_port)


def _sink(config: NodeConfig, file: DaemonFile) -> Callable[[int, str], None]:
    target = file.log_file or ("stderr" if file.log_to_stderr else config.log_target)
    bare = config.log_format == "json" and target != "syslog"
    tag = "" if bare else "multus-daemon"
    return node_sink(target, config.log_level, stderr=sys.stderr, tag=tag, now=SystemClock().now)


def _log(config: NodeConfig, file: DaemonFile) -> CallLog:
    kind = JsonCallLog if config.log_format == "json" else CallLog
    return kind(_sink(config, file), SystemClock().now)


def _die(log: CallLog) -> Callable[[str], NoReturn]:
    def die(why: str) -> NoReturn:
        log.problem(f"ending at once: {why}")
        os._exit(1)

    return die


def _default_network_is_ready(path: str) -> bool:
    end = time.monotonic() + _READINESS_SECONDS
    while path and not os.path.exists(path):
        if time.monotonic() >= end:
            return False
        # The file's folder may not exist yet, so there is nothing that could be watched.
        time.sleep(_POLL_SECONDS)
    return True


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
