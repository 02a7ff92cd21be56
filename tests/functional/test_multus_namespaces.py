"""Real plugins in real namespaces."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.functional.node import ROOT, Node, ip, make_node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.functional


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    yield from make_node(tmp_path)


def conf(*delegates: dict[str, Any], version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    return {"cniVersion": version, "delegates": list(delegates), **more}


def ptp(node: Node, name: str = "p2p", subnet: str = "10.66.0.0/24") -> dict[str, Any]:
    ipam = {"type": "host-local", "subnet": subnet, "dataDir": str(node.root / "ipam")}
    return {"name": name, "type": "ptp", "cniVersion": "1.0.0", "ipam": ipam}


def test_two_networks(node: Node) -> None:
    both = conf(node.bridge(isGateway=True), ptp(node))
    added = node.cni("ADD", both)
    assert added.rc == 0, added
    assert added.stderr == ""
    result = added.json
    assert result["cniVersion"] == "1.0.0"
    assert result["ips"][0]["address"] == "10.55.0.2/24"
    links = node.links(node.pod)
    assert set(links) == {"lo", "eth0", "net1"}
    addresses = {
        name: [a["local"] for a in link["addr_info"] if a["family"] == "inet"]
        for name, link in links.items()
    }
    assert addresses == {"lo": ["127.0.0.1"], "eth0": ["10.55.0.2"], "net1": ["10.66.0.2"]}
    assert node.cni("CHECK", both).rc == 0
    ip("link", "del", "net1", netns=node.pod)
    broken = node.cni("CHECK", both)
    assert broken.rc == 1
    assert "p2p" in broken.json["msg"]
    assert node.cni("DEL", both).rc == 0
    node.assert_clean()
    assert node.cni("DEL", both).rc == 0


@pytest.mark.parametrize(
    "version", ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", None]
)
def test_every_version_of_the_configuration(node: Node, version: str | None) -> None:
    one = conf(node.bridge())
    one["cniVersion"] = version
    added = node.cni("ADD", one)
    assert added.rc == 0, added
    # Without a version the runtime gets the delegate's own, as from the reference.
    assert added.json["cniVersion"] == (version or "1.0.0")
    assert ("ip4" in added.json) == (version in ("0.1.0", "0.2.0"))
    assert node.cni("DEL", one).rc == 0
    node.assert_clean()


def test_a_list_with_capabilities(node: Node) -> None:
    delegate = {
        "name": "lst",
        "cniVersion": "1.0.0",
        "plugins": [
            {key: value for key, value in node.bridge().items() if key != "name"},
            {
                "type": "tuning",
                "capabilities": {"mac": True},
                "sysctl": {"net.core.somaxconn": "99"},
            },
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": False},
        ],
    }
    wanted = {
        "mac": "02:00:00:00:55:01",
        "portMappings": [{"hostPort": 8055, "containerPort": 80, "protocol": "tcp"}],
    }
    capabilities = {"mac": True, "portMappings": True}
    one = conf(delegate, capabilities=capabilities, runtimeConfig=wanted)
    added = node.cni("ADD", one)
    assert added.rc == 0, added
    assert node.links(node.pod)["eth0"]["address"] == wanted["mac"]
    somaxconn = ["ip", "netns", "exec", node.pod, "cat", "/proc/sys/net/core/somaxconn"]
    assert subprocess.run(somaxconn, capture_output=True, text=True, check=True).stdout == "99\n"
    assert "8055" in nat_rules(node)
    # The runtime need not repeat what it asked for: DEL has it from the journal.
    assert node.cni("DEL", conf(delegate)).rc == 0
    assert "8055" not in nat_rules(node)
    node.assert_clean()


def nat_rules(node: Node) -> str:
    argv = ["ip", "netns", "exec", node.host, "iptables-save", "-t", "nat"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_the_third_of_three_fails_and_nothing_is_left(node: Node) -> None:
    node.tell("leasea", "fail")
    third = {"name": "l", "type": "leasea", "cniVersion": "1.0.0"}
    failed = node.cni("ADD", conf(node.bridge(), ptp(node), third))
    assert failed.rc == 1
    assert (failed.json["code"], "'l' as net2" in failed.json["msg"]) == (100, True)
    node.assert_clean()


def test_a_plugin_that_can_neither_add_nor_delete_keeps_no_pod(node: Node) -> None:
    """host-local without a subnet refuses both verbs, for ever; the pod must still go away."""
    bad = ptp(node, "bad")
    del bad["ipam"]["subnet"]
    failed = node.cni("ADD", conf(node.bridge(), bad))
    assert failed.rc == 1
    assert "rollback incomplete" in failed.json["details"]
    assert set(node.links(node.pod)) == {"lo"}
    assert node.cni("DEL", conf(node.bridge(), bad)).rc == 0
    assert node.saved() == ["state/journal/containers/c1.json"]


def test_an_interface_that_was_there_before_stays(node: Node) -> None:
    ip("link", "add", "eth0", "type", "bridge", netns=node.pod)
    failed = node.cni("ADD", conf(node.bridge()))
    assert failed.rc == 1
    assert "exists already" in failed.json["msg"]
    assert "eth0" in node.links(node.pod)
    assert node.saved() == []


def test_a_hung_plugin_is_ended_and_undone(node: Node) -> None:
    node.tell("leasea", "hang")
    both = conf(node.bridge(), {"name": "l", "type": "leasea", "cniVersion": "1.0.0"})
    began = time.monotonic()
    failed = node.cni("ADD", both, main="tests/functional/crash_main.py", LIMIT_SECONDS="6")
    assert time.monotonic() - began < 6
    assert failed.rc == 1
    assert "time limit" in failed.json["msg"]
    assert node.log() == ["ADD leasea net1", "DEL leasea net1"]
    node.assert_clean()


def test_del_after_the_namespace_is_gone(node: Node) -> None:
    both = conf(node.bridge(), ptp(node))
    assert node.cni("ADD", both).rc == 0
    ip("netns", "del", node.pod)
    assert node.cni("DEL", both).rc == 0
    assert node.saved() == []
    ip("netns", "add", node.pod)


def test_a_recycled_path_keeps_its_new_owner_safe(node: Node) -> None:
    """The old container's DEL comes when its path already stands for the next pod's namespace."""
    one = conf(node.bridge())
    assert node.cni("ADD", one, container_id="old").rc == 0
    ip("netns", "del", node.pod)
    ip("netns", "add", node.pod)
    assert node.cni("ADD", one, container_id="new").rc == 0
    assert node.cni("DEL", one, container_id="old").rc == 0
    assert "eth0" in node.links(node.pod)
    assert node.cni("DEL", one, container_id="new").rc == 0
    node.assert_clean()


def test_the_hosts_namespace_is_never_a_pods(node: Node) -> None:
    failed = node.cni("ADD", conf(node.bridge()), CNI_NETNS=f"/run/netns/{node.host}")
    assert (failed.rc, failed.json["code"]) == (1, 8)
    plain = node.root / "file"
    plain.touch()
    failed = node.cni("ADD", conf(node.bridge()), CNI_NETNS=str(plain))
    assert (failed.rc, failed.json["code"]) == (1, 8)
    node.assert_clean()


def test_gc_frees_addresses_of_vanished_pods(node: Node) -> None:
    one = conf(node.bridge(), version="1.1.0")
    assert node.cni("ADD", one).rc == 0
    ip("netns", "del", node.pod)
    ip("netns", "add", node.pod)
    assert node.cni("ADD", one, container_id="c2").rc == 0
    valid = {"cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]}
    assert node.cni("GC", {**one, **valid}).rc == 0
    assert [name for name in node.saved() if name.startswith("ipam")] == ["ipam/br/10.55.0.3"]
    assert node.cni("CHECK", one, container_id="c2").rc == 0
    assert node.cni("DEL", one, container_id="c2").rc == 0
    node.assert_clean()


def test_calls_for_one_container_at_once_end_in_one_truth(node: Node) -> None:
    one = conf(node.bridge(), {"name": "l", "type": "leasea", "cniVersion": "1.0.0"})
    answers: list[int] = []

    def add() -> None:
        answers.append(node.cni("ADD", one).rc)

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [0, 1, 1, 1, 1, 1]
    assert node.log() == ["ADD leasea net1"]
    assert node.cni("DEL", one).rc == 0
    node.assert_clean()


def test_threads_of_one_process_stay_in_their_namespace(node: Node) -> None:
    """The check for a free interface name enters the pod's namespace in a thread; none may stay."""
    code = f"""
import os, sys, threading
sys.path.insert(0, {str(ROOT)!r})
from multus.namespaces import KernelNamespaces
names = KernelNamespaces()
home = os.stat('/proc/thread-self/ns/net').st_ino
bad = []
def look():
    for _ in range(200):
        if not names.has_interface({node.pod_path!r}, 'lo'): bad.append('lo')
        if names.has_interface({node.pod_path!r}, 'br9'): bad.append('br9')
        if os.stat('/proc/thread-self/ns/net').st_ino != home: bad.append('lost')
threads = [threading.Thread(target=look) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(bad)
"""
    ip("link", "add", "br9", "type", "bridge", netns=node.host)
    argv = ["ip", "netns", "exec", node.host, sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_another_tools_files_are_read_and_removed(node: Node) -> None:
    """A pod that multus-cni attached: only its scratch and libcni's results are there."""
    both = conf(node.bridge(), ptp(node))
    assert node.cni("ADD", both).rc == 0
    (node.state_dir / "journal/containers/c1.json").unlink()
    scratch = json.loads((node.cni_dir / "c1").read_text())
    assert [entry["Name"] for entry in scratch] == ["br", "p2p"]
    assert node.cni("CHECK", both).rc == 0
    assert node.cni("DEL", both).rc == 0
    node.assert_clean()
