"""A pod's life with every request to the API server failing in every way, by the real client."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from multus.api.cluster import ApiLimits, Cluster
from multus.api.k8sclient import connect
from multus.clock import SystemClock
from tests.apiserver.server import ApiServer
from tests.multus.fakes import FakeRunner, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NETWORKS = "k8s.v1.cni.cncf.io/networks"
STATUS = "k8s.v1.cni.cncf.io/network-status"
REQUESTS = {
    "GET pod": ("GET", "*/pods/web"),
    "GET network": ("GET", "*/network-attachment-definitions/more"),
    "PATCH status": ("PATCH", "*/pods/web/status"),
    "POST event": ("POST", "*/events"),
}
FAULTS: tuple[Any, ...] = (
    "refused", "close", "reset", "lost", "hang", "truncate", "slow", "garbage",
    401, 403, 404, 409, 500, 503,
)  # fmt: skip
LIMITS = ApiLimits(request=0.2, whole=0.5, poll=0.05, event=0.2)


@dataclass
class RealWorld(World):
    """A node whose API server is behind a socket."""

    server: ApiServer = field(default_factory=ApiServer)

    def connect(self, kubeconfig: str, deadline: float) -> Cluster | None:
        api = connect(kubeconfig, {})
        return None if api is None else Cluster(api, SystemClock(), LIMITS)


class Holding(FakeRunner):
    """Plugins that remember what they hold."""

    def __init__(self) -> None:
        super().__init__()
        self.held: set[str] = set()

    def run(self, argv: Any, *, env: Any, stdin: bytes, timeout: float) -> Any:
        name = f"{env['CNI_CONTAINERID']} {env['CNI_IFNAME']}"
        if env["CNI_COMMAND"] == "ADD":
            self.held.add(name)
        elif env["CNI_COMMAND"] == "DEL":
            self.held.discard(name)
        return super().run(argv, env=env, stdin=stdin, timeout=timeout)


class Pod:
    """One pod of one node, and the runtime that works for it."""

    def __init__(self, root: Path, server: ApiServer) -> None:
        self.runner = Holding()
        self.world = RealWorld(root, runner=self.runner, server=server)
        self.world.plugin("plugA", "plugB")
        self.server = server
        self.conf = {
            "cniVersion": "1.0.0",
            "kubeconfig": server.kubeconfig(root / "kubeconfig"),
            "delegates": [{"cniVersion": "1.0.0", "name": "neta", "type": "plugA"}],
        }
        meta = {"name": "web", "annotations": {NETWORKS: "more"}}
        made = server.add(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": meta,
                "spec": {"containers": [{"name": "main", "image": "x"}]},
            }
        )
        config = json.dumps({"cniVersion": "1.0.0", "type": "plugB"})
        server.add(
            {
                "apiVersion": "k8s.cni.cncf.io/v1",
                "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": "more"},
                "spec": {"config": config},
            }
        )
        self.args = (
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;"
            f"K8S_POD_UID={made['metadata']['uid']}"
        )

    def call(self, verb: str) -> Any:
        return self.world.cni(verb, self.conf, ARGS=self.args)

    def status(self) -> list[str]:
        annotations = self.server.read("Pod", "web")["metadata"]["annotations"]
        return [entry["interface"] for entry in json.loads(annotations.get(STATUS, "[]"))]


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as made:
        yield made


def strike(server: ApiServer, request: str, how: Any, times: int | None) -> None:
    verb, path = REQUESTS[request]
    if how == "refused":
        # Nobody listens: no request can be told from another.
        server.down()
    else:
        server.fail(how, path, verb=verb, times=times)


def heal(server: ApiServer) -> None:
    server.faults.clear()
    server.up()


def outcome(pod: Pod, answer: Any) -> str:
    """Say how an ADD ended; anything that is neither success nor a clean failure fails."""
    if answer.rc == 0:
        if answer.json.get("ips") == [{"address": "0.0.0.0/0", "gateway": "0.0.0.0"}]:
            assert pod.runner.held == set()
            return "told that the pod is gone"
        assert pod.runner.held == {"c1 eth0", "c1 net1"}
        return "attached" if pod.status() == ["eth0", "net1"] else "attached, no status"
    error = answer.json
    assert error["code"] in (7, 11), error
    assert error["msg"]
    assert "\n" not in error["msg"]
    assert pod.runner.held == set()
    assert pod.world.files() == []
    assert not [line for line in pod.world.complaints if "Traceback" in line]
    return f"code {error['code']}"


@pytest.mark.timeout(300)
def test_every_fault_at_every_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table: dict[str, list[str]] = {}
    for number, (request, how) in enumerate((r, h) for r in REQUESTS for h in FAULTS):
        row = []
        for times in (1, None):
            with ApiServer() as server:
                root = tmp_path / f"{number}-{times}"
                root.mkdir()
                pod = Pod(root, server)
                strike(server, request, how, times)
                row.append(outcome(pod, pod.call("ADD")))
                if pod.runner.held:
                    # The fault goes on while the pod ends: DEL asks nobody.
                    assert pod.call("DEL").rc == 0
                heal(server)
                # What kubelet does after a failure: the same again, in the end DEL.
                assert outcome(pod, pod.call("ADD")) == "attached"
                server.down()
                assert pod.call("DEL").rc == 0
                assert pod.call("DEL").rc == 0
                assert pod.runner.held == set()
                assert pod.world.files() == []
        table[f"{request:14}{how!s:10}"] = row
    with capsys.disabled():
        print(f"\n{'request':14}{'fault':10}{'once':28}for good")
        for name, (once, always) in table.items():
            print(f"{name}{once:28}{always}")
    # The table is worth something only if the faults were felt, and most pass by themselves.
    outcomes = {cell for row in table.values() for cell in row}
    assert {"attached", "code 7", "code 11", "told that the pod is gone"} <= outcomes


def test_a_del_without_records_is_not_kept_up_by_a_hanging_server(
    tmp_path: Path, server: ApiServer
) -> None:
    pod = Pod(tmp_path, server)
    server.fail("hang")
    before = SystemClock().monotonic()
    assert pod.call("DEL").rc == 0
    assert SystemClock().monotonic() - before < 5
    assert pod.runner.held == set()
