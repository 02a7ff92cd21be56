"""Containerd as the caller: what it asks of multus over a pod's life, and what is left of it."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from queue import SimpleQueue
from threading import Event
from typing import Any, cast

import pytest

from tests.runtime.cri import CriError, Pod
from tests.runtime.rig import Rig
from tests.runtime.through_daemon import DaemonRig

pytestmark = pytest.mark.runtime
either = pytest.mark.parametrize("rig", [Rig, DaemonRig], ids=["thin", "daemon"], indirect=True)
by_daemon = pytest.mark.parametrize("rig", [DaemonRig], ids=["daemon"], indirect=True)
KILLS = 4


def end(rig: Rig, sandbox: str) -> None:
    """Stop and remove a sandbox as kubelet does: more than once, for it trusts no answer."""
    rig.cri.stop(sandbox)
    rig.cri.stop(sandbox)
    rig.cri.remove(sandbox)
    rig.cri.remove(sandbox)


@either
def test_a_pods_life(rig: Rig) -> None:
    rig.network(rig.bridge(isGateway=True), rig.ptp())
    rig.containerd.start()
    pod = Pod("web")
    sandbox = rig.cri.run(pod)
    assert rig.addresses(sandbox) == {"eth0": ["10.55.0.2"], "net1": ["10.66.0.2"]}
    # The runtime takes the pod's address from the result of the first network.
    assert rig.cri.addresses(sandbox)[0] == "10.55.0.2"
    container = rig.cri.start(sandbox, pod, ["sleep", "600"])
    seen = rig.cri.execute(container, "ip", "-o", "-4", "addr", "show", "net1")
    assert "10.66.0.2/24" in seen
    assert "0% packet loss" in rig.cri.execute(container, "ping", "-c1", "-W5", "10.55.0.1")
    rig.cri.stop(sandbox)
    assert rig.left() == {}
    # DEL comes again, now with an empty CNI_NETNS and without a prevResult.
    rig.cri.stop(sandbox)
    rig.cri.remove(sandbox)
    assert rig.cri.sandboxes() == {}
    assert rig.left() == {}


@either
def test_a_failed_add_leaves_nothing(rig: Rig) -> None:
    rig.network(rig.bridge(), rig.ptp(), rig.plain("leasea"))
    (rig.folder / "leases.leasea.fail").touch()
    rig.containerd.start()
    with pytest.raises(CriError, match="told to fail"):
        rig.cri.run(Pod("never"))
    assert rig.cri.sandboxes() == {}
    assert rig.left() == {}
    (rig.folder / "leases.leasea.fail").unlink()
    sandbox = rig.cri.run(Pod("now"))
    assert set(rig.addresses(sandbox)) == {"eth0", "net1"}
    end(rig, sandbox)
    assert rig.left() == {}


@either
def test_pods_outlive_their_runtime(rig: Rig) -> None:
    rig.network(rig.bridge(), rig.ptp())
    rig.containerd.start()
    pods = [rig.cri.run(Pod(f"pod{number}")) for number in range(2)]
    rig.containerd.kill()
    rig.containerd.start()
    assert set(rig.cri.sandboxes()) == set(pods)
    assert [set(rig.addresses(sandbox)) for sandbox in pods] == [{"eth0", "net1"}] * 2
    for sandbox in pods:
        end(rig, sandbox)
    assert rig.left() == {}


@either
@pytest.mark.parametrize("plugins", [True, False], ids=["with-its-plugins", "alone"])
def test_the_runtime_dies_while_a_pod_is_attached(rig: Rig, *, plugins: bool) -> None:
    """A unit with KillMode=process leaves a running ADD behind, as an orphan that nobody hears."""
    rig.network(rig.bridge(), rig.plain("gate"), rig.ptp())
    rig.containerd.start()
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(rig.cri.run, Pod("half"))
        container_id = rig.wait_at_gate()
        rig.containerd.kill(plugins=plugins)
        with pytest.raises(CriError):
            started.result()
        rig.containerd.start()
        assert list(rig.cri.sandboxes()) == [container_id]
        assert "ipam/br/10.55.0.2" in rig.left()["files"]
        ended = pool.submit(end, rig, container_id)
        if rig.plugins_outlive_calls or not plugins:
            rig.open_gate()
        ended.result()
    assert rig.left() == {}


@either
@pytest.mark.parametrize("plugins", [True, False], ids=["with-its-plugins", "alone"])
def test_the_runtime_dies_while_a_pod_is_detached(rig: Rig, *, plugins: bool) -> None:
    rig.network(rig.bridge(), rig.plain("gate"), rig.ptp())
    rig.stop_at("DEL")
    rig.containerd.start()
    with ThreadPoolExecutor(1) as pool:
        sandbox = rig.cri.run(Pod("whole"))
        stopped = pool.submit(rig.cri.stop, sandbox)
        assert rig.wait_at_gate() == sandbox
        rig.containerd.kill(plugins=plugins)
        with pytest.raises(CriError):
            stopped.result()
        if rig.plugins_outlive_calls or not plugins:
            rig.open_gate()
        rig.stop_at("nothing")
        rig.containerd.start()
        end(rig, sandbox)
    assert rig.left() == {}


def test_the_plugin_dies_while_it_attaches(rig: Rig) -> None:
    """As by the kernel's out-of-memory killer: there is no answer, and DEL follows at once."""
    rig.network(rig.bridge(), rig.plain("gate"), rig.ptp())
    rig.containerd.start()
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(rig.cri.run, Pod("half"))
        rig.wait_at_gate()
        rig.containerd.kill_plugins()
        with pytest.raises(CriError, match="killed"):
            started.result()
    assert rig.cri.sandboxes() == {}
    assert rig.left() == {}


def test_the_plugin_dies_while_it_detaches(rig: Rig) -> None:
    rig.network(rig.bridge(), rig.plain("gate"), rig.ptp())
    rig.stop_at("DEL")
    rig.containerd.start()
    with ThreadPoolExecutor(1) as pool:
        sandbox = rig.cri.run(Pod("whole"))
        stopped = pool.submit(rig.cri.stop, sandbox)
        rig.wait_at_gate()
        rig.stop_at("nothing")
        rig.containerd.kill_plugins()
        with pytest.raises(CriError, match="killed"):
            stopped.result()
    end(rig, sandbox)
    assert rig.left() == {}


@either
def test_kubelet_loses_patience(rig: Rig) -> None:
    """It cancels the call after two minutes; the runtime kills the plugin and asks for DEL."""
    rig.network(rig.bridge(), rig.plain("gate"), rig.ptp())
    rig.containerd.start()
    cancel = rig.cri.begin(Pod("slow"))
    rig.wait_at_gate()
    assert "ipam/br/10.55.0.2" in rig.left()["files"]
    cancel()
    if rig.plugins_outlive_calls:
        rig.open_gate()
    rig.wait_until_clean()
    assert rig.cri.sandboxes() == {}
    # The delegate that the dead call was waiting for takes nothing any more: nobody is at the gate.
    with pytest.raises(OSError, check=lambda error: error.errno == errno.ENXIO):
        os.open(f"{rig.gate}.open", os.O_WRONLY | os.O_NONBLOCK)


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_every_version_that_this_runtime_speaks(rig: Rig, version: str) -> None:
    rig.network(rig.bridge(), rig.ptp(), version=version)
    rig.containerd.start()
    sandbox = rig.cri.run(Pod("web"))
    assert rig.cri.addresses(sandbox)[0] == "10.55.0.2"
    end(rig, sandbox)
    assert rig.left() == {}


@either
def test_many_pods_at_once(rig: Rig) -> None:
    rig.network(rig.bridge(), rig.ptp())
    rig.containerd.start()
    with ThreadPoolExecutor(8) as pool:
        pods = list(pool.map(rig.cri.run, [Pod(f"pod{number}") for number in range(8)]))
        given = [rig.addresses(sandbox) for sandbox in pods]
        assert all(set(links) == {"eth0", "net1"} for links in given)
        assert len({links["eth0"][0] for links in given}) == 8
        list(pool.map(end, [rig] * 8, pods))
    assert rig.left() == {}


def test_ports_of_the_host(rig: Rig) -> None:
    bridge: dict[str, Any] = rig.bridge(isGateway=True)
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": False}
    name = bridge.pop("name")
    rig.network({"name": name, "cniVersion": "1.0.0", "plugins": [bridge, portmap]})
    rig.containerd.start()
    sandbox = rig.cri.run(Pod("web", ports=[(8055, 80)]))
    assert "--dport 8055" in rig.nat_rules()
    end(rig, sandbox)
    assert "8055" not in rig.nat_rules()
    assert rig.left() == {}


@by_daemon
def test_a_pod_ends_while_the_daemon_is_down(rig: Rig) -> None:
    daemon = cast("DaemonRig", rig).daemon
    rig.network(rig.bridge(), rig.ptp())
    rig.containerd.start()
    sandbox = rig.cri.run(Pod("web"))
    daemon.kill()
    rig.cri.stop(sandbox)
    kept = [name for name in rig.left()["files"] if name.startswith("state/spool/")]
    assert [name.split("/")[-1].split(".")[0] for name in kept] == [sandbox]
    assert "ipam/br/10.55.0.2" in rig.left()["files"]
    daemon.start()
    rig.wait_until_clean()
    end(rig, sandbox)
    assert rig.left() == {}


@by_daemon
def test_the_daemon_and_the_runtime_die_while_pods_come_and_go(rig: Rig) -> None:
    daemon, over = cast("DaemonRig", rig).daemon, Event()
    ready: SimpleQueue[str] = SimpleQueue()
    numbers = count()

    def come_and_go() -> None:
        while not over.is_set():
            with suppress(CriError):
                sandbox = rig.cri.run(Pod(f"pod{next(numbers)}"))
                links = rig.addresses(sandbox)
                ready.put(sandbox)
                assert set(links) == {"eth0", "net1"}
                end(rig, sandbox)

    rig.network(rig.bridge(), rig.ptp(), rig.plain("leasea"))
    rig.containerd.start()
    with ThreadPoolExecutor(3) as pool:
        pods = [pool.submit(come_and_go) for _ in range(3)]
        try:
            for kill in range(KILLS):
                for _ in pods:
                    ready.get(timeout=60)
                daemon.kill()
                if kill == KILLS - 2:
                    rig.containerd.kill()
                    rig.containerd.start()
                daemon.start()
            ready.get(timeout=60)
        finally:
            over.set()
        for pod in pods:
            pod.result()
    for sandbox in rig.cri.sandboxes():
        end(rig, sandbox)
    # What was left for it while it was away it does when it starts.
    assert daemon.stop() == 0
    daemon.start()
    rig.wait_until_clean()
