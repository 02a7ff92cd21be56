"""The daemon on a node of real namespaces: calls by frames and HTTP, clients that go, its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.functional.daemon import RunningDaemon
from tests.functional.node import Node, make_node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.functional


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    yield from make_node(tmp_path)


@pytest.fixture
def daemon(node: Node) -> Iterator[RunningDaemon]:
    running = RunningDaemon(node)
    running.start()
    try:
        yield running
    finally:
        running.close()


def conf(node: Node) -> dict[str, Any]:
    leases = {"name": "lst", "cniVersion": "1.0.0", "plugins": [{"type": "leasea"}]}
    return {"cniVersion": "1.1.0", "delegates": [node.bridge(), leases]}


def test_frames(node: Node, daemon: RunningDaemon) -> None:
    done = daemon.call("ADD", conf(node))
    assert done.rc == 0, done
    assert done.json["cniVersion"] == "1.1.0"
    assert set(node.links(node.pod)) == {"lo", "eth0"}
    assert daemon.call("CHECK", conf(node)).rc == 0
    assert daemon.call("STATUS", conf(node)).rc == 0
    assert daemon.call("DEL", conf(node)).rc == 0
    node.assert_clean()


def test_http(node: Node, daemon: RunningDaemon) -> None:
    done = daemon.go("ADD", conf(node))
    assert done.status == 200, done
    assert done.json["Result"]["cniVersion"] == "1.1.0"
    assert daemon.go("CHECK", conf(node)).body == b""
    again = daemon.go("ADD", conf(node))
    assert again.status == 400
    assert again.json["code"] == 999
    assert daemon.go("DEL", conf(node)).status == 200
    node.assert_clean()
    assert b'multus_call_seconds_count{program="multus",verb="ADD",outcome="ok"} 1' in (
        daemon.http("GET", "/metrics").body
    )


def test_what_the_daemon_does_thin_can_undo(node: Node, daemon: RunningDaemon) -> None:
    assert daemon.call("ADD", conf(node)).rc == 0
    assert node.cni("DEL", conf(node)).rc == 0
    node.assert_clean()
    assert node.cni("ADD", conf(node)).rc == 0
    assert daemon.call("DEL", conf(node)).rc == 0
    node.assert_clean()
