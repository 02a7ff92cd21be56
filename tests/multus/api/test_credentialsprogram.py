"""Programs that a kubeconfig has its credentials from: what they say, what they hang in."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from multus.api.clusterapi import ApiForbiddenError, CredentialsError, KubeconfigError
from multus.api.clusters import Clusters
from multus.api.k8sclient import connect
from multus.api.renewal import RenewedApi
from multus.clock import SystemClock
from tests.apiserver.server import ApiServer
from tests.multus.fakes import FakeClock, World

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NODE = "/api/v1/nodes/node1"
SECRET = "s3cr3t-t0ken"
V1 = "client.authentication.k8s.io/v1"
LONG = 20.0
LONG_AGO, FAR_OFF = "2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


@pytest.fixture(name="server")
def _server() -> Iterator[ApiServer]:
    with ApiServer(token=SECRET) as server:
        server.add({"kind": "Node", "metadata": {"name": "node1"}})
        yield server


def answer(**status: str) -> str:
    return json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": status})


class Program:
    """A script that notes each start, and a kubeconfig of a server that names it."""

    def __init__(self, server: ApiServer, folder: Path, body: str, **more: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.path, self._starts = folder / "program", folder / "starts"
        self.path.write_text(f'#!/bin/sh\necho "$1 $EXTRA" >> {self._starts}\n{body}\n')
        self.path.chmod(0o755)
        entry = {"apiVersion": V1, "command": str(self.path), **more}
        self.kubeconfig = server.kubeconfig(folder / "kubeconfig", exec=entry)

    def starts(self) -> list[str]:
        return self._starts.read_text().splitlines() if self._starts.exists() else []


def says(text: str) -> str:
    return f"echo '{text}'"


def opened(program: Program, seconds: float = LONG, **env: str) -> Any:
    found = connect(program.kubeconfig, {**os.environ, **env}, credentials_seconds=seconds)
    assert found is not None
    return found


def clusters(seconds: float = LONG) -> Clusters:
    return Clusters(os.environ, SystemClock(), credentials_seconds=seconds)


def soon() -> float:
    return time.monotonic() + LONG


def until(condition: Any) -> None:
    """Wait for another thread or process, which has nothing to wait on."""
    end = soon()
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_it_is_started_as_the_file_says(server: ApiServer, tmp_path: Path) -> None:
    env = [{"name": "EXTRA", "value": "more"}]
    program = Program(server, tmp_path, says(answer(token=SECRET)), args=["get"], env=env)
    assert opened(program).get(NODE, timeout=5)["metadata"]["name"] == "node1"
    assert program.starts() == ["get more"]


def test_a_path_is_the_kubeconfigs_and_a_name_is_looked_for(
    server: ApiServer, tmp_path: Path
) -> None:
    program = Program(server, tmp_path / "a", says(answer(token=SECRET)), command="./program")
    opened(program).get(NODE, timeout=5)
    other = Program(server, tmp_path / "b", says(answer(token=SECRET)), command="program")
    opened(other, PATH=f"{tmp_path}/b:{os.environ['PATH']}").get(NODE, timeout=5)
    with pytest.raises(KubeconfigError, match="install its credentials program 'program'"):
        opened(other)


def test_it_is_told_of_the_cluster_when_it_asks(server: ApiServer, tmp_path: Path) -> None:
    told = tmp_path / "told"
    body = f'echo "$KUBERNETES_EXEC_INFO" > {told}; {says(answer(token=SECRET))}'
    authority = tmp_path / "ca.pem"
    authority.write_bytes(b"a certificate")
    for asks in (True, False):
        program = Program(server, tmp_path, body, provideClusterInfo=asks)
        file = json.loads(Path(program.kubeconfig).read_text())
        file["clusters"][0]["cluster"]["certificate-authority"] = "ca.pem"
        Path(program.kubeconfig).write_text(json.dumps(file))
        opened(program)
        spec = json.loads(told.read_text())["spec"]
        assert spec.pop("interactive") is False
        data = base64.b64encode(b"a certificate").decode()
        known = {"server": server.url, "certificate-authority-data": data}
        assert spec == ({"cluster": known} if asks else {})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo no >&2; exit 3", "failed with status 3"),
        ("echo s3cr3t", "gave no ExecCredential"),
        (says(answer()), "gave no ExecCredential"),
        (says(answer(clientCertificateData="x")), "gave no ExecCredential"),
        (says(answer(token=SECRET, expirationTimestamp="soon")), "gave no ExecCredential"),
        (says(answer(token=SECRET).replace("v1", "v1beta1")), "gave no ExecCredential"),
    ],
)
def test_what_fails_is_named_and_not_quoted(
    server: ApiServer, tmp_path: Path, body: str, message: str
) -> None:
    program = Program(server, tmp_path, body)
    with pytest.raises(CredentialsError, match=f"program {program.path} {message}") as caught:
        opened(program)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": "/nonexistent/p"}, "/nonexistent/p cannot be started: No such file"),
        ({"interactiveMode": "Always"}, "wants a terminal"),
        ({"args": "get"}, "'args' in exec must be a list"),
        ({"apiVersion": None}, "set 'apiVersion' in exec"),
    ],
)
def test_what_can_never_work_is_the_kubeconfigs_fault(
    server: ApiServer, tmp_path: Path, change: Mapping[str, object], message: str
) -> None:
    program = Program(server, tmp_path, says(answer(token=SECRET)), **change)
    with pytest.raises(KubeconfigError, match=message) as caught:
        opened(program)
    assert not isinstance(caught.value, CredentialsError)


def test_one_that_hangs_is_killed_with_what_it_started(server: ApiServer, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    program = Program(server, tmp_path, f"sleep 600 > {alive} & wait")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(alive.read_bytes)  # ends when nobody has it open for writing
        with pytest.raises(CredentialsError, match=rf"{program.path} did not answer within 0\.5 s"):
            opened(program, 0.5)
        assert reading.result(LONG) == b""


def test_an_add_fails_with_code_11_and_names_it(server: ApiServer, tmp_path: Path) -> None:
    program = Program(server, tmp_path, "sleep 600")
    (tmp_path / "world").mkdir()
    world = World(tmp_path / "world")
    world.plugin("plugA")
    world.connect = clusters(0.2).connect  # type: ignore[method-assign]
    conf = {
        "cniVersion": "1.0.0",
        "kubeconfig": program.kubeconfig,
        "delegates": [{"name": "neta", "type": "plugA"}],
    }
    pod = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"
    done = world.cni("ADD", conf, ARGS=pod)
    assert done.code == 11
    assert str(program.path) in done.json["msg"]


def test_only_who_wants_its_credentials_waits_for_it(server: ApiServer, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    slow = Program(server, tmp_path / "a", f"read _ < {gate}; {says(answer(token=SECRET))}")
    quick = Program(server, tmp_path / "b", says(answer(token=SECRET)))
    made = clusters()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(made.connect, slow.kubeconfig, soon()) for _ in range(3)]
        until(slow.starts)
        assert made.connect(quick.kubeconfig, soon()) is not None
        assert len(made.facts().caches) == 2
        with pytest.raises(CredentialsError, match="still being asked for by another call"):
            made.connect(slow.kubeconfig, time.monotonic())
        gate.write_text("go\n")
        assert all(each.result(LONG) is not None for each in waiting)
    assert len(slow.starts()) == 1
    assert made.close()


def test_who_waited_for_one_that_hangs_does_not_start_it_again(
    server: ApiServer, tmp_path: Path
) -> None:
    program = Program(server, tmp_path, "sleep 600")
    made, together = clusters(1.0), threading.Barrier(4)

    def connect_at_once() -> None:
        together.wait(LONG)
        made.connect(program.kubeconfig, soon())

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(connect_at_once) for _ in range(4)]
        for each in waiting:
            with pytest.raises(CredentialsError, match="did not answer"):
                each.result(LONG)
    assert len(program.starts()) == 1
    program.path.write_text(f"#!/bin/sh\n{says(answer(token=SECRET))}\n")
    assert made.connect(program.kubeconfig, soon()) is not None
    assert made.close()


def test_credentials_that_have_expired_are_asked_for_anew(
    server: ApiServer, tmp_path: Path
) -> None:
    said, soon_over = tmp_path / "said", time.time() + 3
    when = datetime.fromtimestamp(soon_over, UTC).isoformat()
    said.write_text(answer(token=SECRET, expirationTimestamp=when))
    program = Program(server, tmp_path, f"cat {said}")
    made, alone = clusters(), opened(program)
    cluster = made.connect(program.kubeconfig, soon())
    assert cluster is not None
    said.write_text(answer(token=SECRET, expirationTimestamp=FAR_OFF))
    until(lambda: time.time() > soon_over)
    with pytest.raises(ApiForbiddenError, match="have expired"):
        alone.get(NODE, timeout=5)
    cluster.ready()
    cluster.ready()
    assert len(program.starts()) == 3
    assert made.close()


def test_credentials_that_never_were_good_by_our_clock_are_the_servers_to_judge(
    server: ApiServer, tmp_path: Path
) -> None:
    said = answer(token=SECRET, expirationTimestamp=LONG_AGO)
    assert opened(Program(server, tmp_path, says(said))).get(NODE, timeout=5)


def test_a_provider_that_hangs_is_left_behind(server: ApiServer, tmp_path: Path) -> None:
    gate, program = tmp_path / "gate", tmp_path / "program"
    os.mkfifo(gate)
    program.write_text(f"#!/bin/sh\nread _ < {gate}\n")
    program.chmod(0o755)
    provider = {"name": "gcp", "config": {"cmd-path": str(program), "cmd-args": "token"}}
    kubeconfig = server.kubeconfig(tmp_path / "kubeconfig", **{"auth-provider": provider})
    with pytest.raises(CredentialsError, match=r"auth-provider did not answer within 0\.5 s"):
        connect(kubeconfig, {}, credentials_seconds=0.5)
    gate.write_text("go\n")


class Refusing:
    """An API server that takes no credentials; a test has it stand for a whole one."""

    def __init__(self, together: threading.Barrier) -> None:
        self._together = together

    def get(self, path: str, **_: object) -> Any:
        self._together.wait(LONG)
        raise ApiForbiddenError(path, "no", 401)


def test_who_was_refused_beside_another_does_not_ask_again() -> None:
    clock, reopened = FakeClock(), list[float]()

    def hangs() -> Any:
        reopened.append(clock.monotonic())
        clock.sleep(10.0)
        raise CredentialsError("/kubeconfig", "it hangs")

    api = RenewedApi(cast("Any", Refusing(threading.Barrier(4))), hangs, clock)
    with ThreadPoolExecutor(4) as pool:
        refused = [pool.submit(api.get, "/version", timeout=1.0) for _ in range(4)]
        errors = [str(each.exception(LONG)) for each in refused]
    assert reopened == [1000.0]
    assert sorted(errors) == ["/version: no"] * 3 + [
        "/version: no; kubeconfig /kubeconfig: it hangs"
    ]
