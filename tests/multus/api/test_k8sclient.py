"""The way to an API server: kubeconfigs, a pod's own account, and every way that it can fail."""

from __future__ import annotations

import base64
import gc
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from multus.api.clusterapi import (
    ApiConflictError,
    ApiError,
    ApiForbiddenError,
    ApiNotFoundError,
    ApiNotServedError,
    ApiUnreachableError,
    KubeconfigError,
)
from multus.api.k8sclient import connect
from tests.apiserver.server import ApiServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from multus.api.clusterapi import Api

NODE = "/api/v1/nodes/node1"
SECRET = "s3cr3t-t0ken"


@pytest.fixture(name="server")
def _server() -> Iterator[ApiServer]:
    with ApiServer(token=SECRET) as server:
        server.add({"kind": "Node", "metadata": {"name": "node1"}})
        yield server


@pytest.fixture(name="api")
def _api(server: ApiServer, tmp_path: Path) -> Api:
    return opened(server.kubeconfig(tmp_path / "kubeconfig"))


def opened(kubeconfig: str, **env: str) -> Api:
    api = connect(kubeconfig, env)
    assert api is not None
    return api


def name_of(obj: dict[str, Any]) -> object:
    return obj["metadata"]["name"]


def test_objects_are_read_changed_and_made(api: Api, server: ApiServer) -> None:
    assert name_of(api.get(NODE, timeout=5)) == "node1"
    merged: Any = api.patch(NODE, {"metadata": {"labels": {"a": "1", "b": None}}}, timeout=5)
    assert merged["metadata"]["labels"] == {"a": "1"}
    added = [{"op": "add", "path": "/metadata/labels/c", "value": "2"}]
    patched: Any = api.patch(NODE, added, timeout=5, kind="json")
    assert patched["metadata"]["labels"] == {"a": "1", "c": "2"}
    api.patch(NODE, {"metadata": {"labels": {"c": None}}}, timeout=5, kind="strategic")
    api.create("/api/v1/nodes", {"metadata": {"name": "node2"}}, timeout=5)
    query = {"labelSelector": "a=1,c!=2", "fieldSelector": "metadata.name!=node2"}
    found: Any = api.get("/api/v1/nodes", timeout=5, query=query)
    assert [name_of(item) for item in found["items"]] == ["node1"]
    assert server.requests[-1].query == query
    assert [request.content_type for request in server.requests[1:4]] == [
        "application/merge-patch+json",
        "application/json-patch+json",
        "application/strategic-merge-patch+json",
    ]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ApiForbiddenError),
        (403, ApiForbiddenError),
        (404, ApiNotFoundError),
        (409, ApiConflictError),
        (429, ApiError),
        (500, ApiError),
        (503, ApiError),
    ],
)
def test_statuses(api: Api, server: ApiServer, status: int, kind: type[ApiError]) -> None:
    server.fail(status)
    with pytest.raises(ApiError) as caught:
        api.get(NODE, timeout=5)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.path) == (status, NODE)
    assert str(status) in caught.value.message
    assert len(server.requests) == 1


def test_the_message_is_the_servers(api: Api) -> None:
    with pytest.raises(ApiNotFoundError, match='nodes "nobody" not found'):
        api.get("/api/v1/nodes/nobody", timeout=5)


def test_a_kind_that_is_not_defined(api: Api) -> None:
    with pytest.raises(ApiNotServedError, match="defined") as caught:
        api.get("/apis/nobody.example/v1/things/a", timeout=5)
    assert caught.value.status == 404


@pytest.mark.parametrize("how", ["close", "reset", "lost", "truncate", "garbage"])
def test_no_whole_answer(api: Api, server: ApiServer, how: Any) -> None:
    """Once each: nothing is sent again behind the caller's back."""
    server.fail(how, NODE)
    for ask in (api.get, partial(api.patch, body={})):
        with pytest.raises(ApiUnreachableError) as caught:
            ask(NODE, timeout=5)
        assert caught.value.status is None
    assert server.asked() == [f"GET {NODE}", f"PATCH {NODE}"]


@pytest.mark.parametrize("how", ["hang", "slow"])
def test_the_timeout_is_for_the_whole_request(api: Api, server: ApiServer, how: Any) -> None:
    api.get(NODE, timeout=5)
    server.fail(how, NODE)
    began = time.monotonic()
    with pytest.raises(ApiUnreachableError, match="in time"):
        api.get(NODE, timeout=0.4)
    assert 0.3 < time.monotonic() - began < 2
    server.faults.clear()
    assert name_of(api.get(NODE, timeout=5)) == "node1"


def test_slow_headers_do_not_outlast_the_timeout(tmp_path: Path) -> None:
    """A byte now and then satisfies any limit on the wait for the next byte."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection = listener.accept()[0]
            with connection:
                for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
                    if over.wait(0.05):
                        break
                    connection.send(bytes([byte]))

        thread = threading.Thread(target=drip)
        thread.start()
        config = kubeconfig(tmp_path, {"server": f"http://127.0.0.1:{listener.getsockname()[1]}"})
        began = time.monotonic()
        with pytest.raises(ApiUnreachableError, match="in time"):
            opened(config).get(NODE, timeout=0.4)
        assert time.monotonic() - began < 2
        over.set()
        thread.join()


def test_refused_and_back_again(api: Api, server: ApiServer) -> None:
    api.get(NODE, timeout=5)
    server.down()
    with pytest.raises(ApiUnreachableError, match="refused"):
        api.get(NODE, timeout=5)
    server.up()
    assert name_of(api.get(NODE, timeout=5)) == "node1"


def test_one_connection_serves_many_requests(server: ApiServer, tmp_path: Path) -> None:
    """And no small write waits for the acknowledgement of another."""
    api = opened(server.kubeconfig(tmp_path / "kubeconfig"))
    api.get(NODE, timeout=5)
    began = time.monotonic()
    for _ in range(20):
        api.patch(NODE, {"metadata": {"labels": {"a": "1"}}}, timeout=5)
    assert time.monotonic() - began < 20 * 0.04
    assert server.connections == 1


def test_many_threads_share_a_server(
    api: Api, server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    """As a daemon's workers do; the first requests open it, at the same time."""
    together = threading.Barrier(24)

    def ask(index: int) -> object:
        together.wait(10)
        labels = {"metadata": {"labels": {f"n{index}": "1"}}}
        api.patch(NODE, labels, timeout=20)
        return name_of(api.get(NODE, timeout=20))

    with ThreadPoolExecutor(24) as workers:
        assert list(workers.map(ask, range(24))) == ["node1"] * 24
    assert len(server.read("Node", "node1")["metadata"]["labels"]) == 24
    assert server.connections <= 24
    assert not caplog.records


def test_no_secret_in_any_error(api: Api, server: ApiServer) -> None:
    errors: list[str] = []
    for how in (401, 403, "close", "garbage", "truncate"):
        server.faults.clear()
        server.fail(how)
        with pytest.raises(ApiError) as caught:
            api.get(NODE, timeout=5)
        errors.append(f"{caught.value} {caught.value!r} {caught.value.args}")
    assert SECRET not in " ".join(errors)


def test_a_token_that_http_cannot_carry(server: ApiServer, tmp_path: Path) -> None:
    api = opened(server.kubeconfig(tmp_path / "kubeconfig", token=f"{SECRET}\nX: y"))
    with pytest.raises(ApiForbiddenError, match="characters") as caught:
        api.get(NODE, timeout=5)
    assert SECRET not in str(caught.value)
    assert server.requests == []


def test_a_token_file_is_read_for_every_request(server: ApiServer, tmp_path: Path) -> None:
    """kubelet replaces the token of an account before it ends."""
    (tmp_path / "token").write_text(f"{SECRET}\n")
    api = opened(server.kubeconfig(tmp_path / "kubeconfig", tokenFile="token"))
    api.get(NODE, timeout=5)
    server.token = "next"
    with pytest.raises(ApiForbiddenError):
        api.get(NODE, timeout=5)
    (tmp_path / "token").write_text("next")
    api.get(NODE, timeout=5)
    (tmp_path / "token").unlink()
    with pytest.raises(ApiForbiddenError, match=r"no token in .*token: No such file"):
        api.get(NODE, timeout=5)


def test_login_by_name(server: ApiServer, tmp_path: Path) -> None:
    api = opened(server.kubeconfig(tmp_path / "kubeconfig", username="node", password="p:w"))
    with pytest.raises(ApiForbiddenError):
        api.get(NODE, timeout=5)
    pair = base64.b64decode(server.requests[0].authorization.removeprefix("Basic "))
    assert pair == b"node:p:w"


def saying(file: Path, **status: str) -> dict[str, Any]:
    """Return a credentials program that says this; see test_credentialsprogram."""
    version = "client.authentication.k8s.io/v1"
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": status}
    file.write_text(json.dumps(answer))
    return {"apiVersion": version, "command": "cat", "args": [str(file)]}


def test_credentials_of_a_program(server: ApiServer, tmp_path: Path) -> None:
    program = saying(tmp_path / "answer", token=SECRET)
    config = server.kubeconfig(tmp_path / "kubeconfig", exec=program)
    assert name_of(opened(config).get(NODE, timeout=5)) == "node1"


def test_a_cluster_is_left_to_the_runtime() -> None:
    assert connect("", {}) is None
    assert connect("", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) is None


def test_the_account_of_a_pod(tls: Tls, tmp_path: Path) -> None:
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "token").write_text(SECRET)
    (folder / "ca.crt").write_bytes(tls.ca)
    with ApiServer(token=SECRET, tls=tls.context()) as server:
        server.add({"kind": "Node", "metadata": {"name": "node1"}})
        port = server.url.rpartition(":")[2]
        env = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}
        api = connect("", env, service_account=str(folder))
        assert api is not None
        assert name_of(api.get(NODE, timeout=5)) == "node1"
        server.token = "next"
        (folder / "token").write_text("next")
        assert name_of(api.get(NODE, timeout=5)) == "node1"
    with pytest.raises(KubeconfigError, match="mount"):
        connect("", env, service_account=str(tmp_path / "none"))


def test_a_cluster_by_ipv6(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        listener.settimeout(5)
        port = str(listener.getsockname()[1])
        env = {"KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": port}
        api = connect("", env, service_account=str(tmp_path))
        assert api is not None
        with pytest.raises(ApiUnreachableError):
            api.get(NODE, timeout=0.3)
        listener.accept()[0].close()


class Tls:
    """An authority with one server and one client."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run("req", "-x509", "-out", "ca.pem", "-keyout", "ca.key", "-subj", "/CN=test ca")
        for name in ("server", "client"):
            (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
            self._run(
                "req", "-out", f"{name}.csr", "-keyout", f"{name}.key", "-subj", f"/CN={name}"
            )
            sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "ext"]
            self._openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *sign)

    @property
    def ca(self) -> bytes:
        return self.pem("ca.pem")

    def pem(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def path(self, name: str) -> str:
        return str(self._folder / name)

    def context(self, *, client: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("server.pem"), self.path("server.key"))
        if client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.path("ca.pem"))
        return context

    def _run(self, verb: str, *args: str) -> None:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        self._openssl(verb, *curve, *args)

    def _openssl(self, *args: str) -> None:
        subprocess.run(["openssl", *args], cwd=self._folder, check=True, capture_output=True)


@pytest.fixture(name="tls", scope="module")
def _tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(tmp_path_factory.mktemp("tls"))


def kubeconfig(folder: Path, cluster: dict[str, Any], **user: Any) -> str:
    config = {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize("how", ["program", "data", "files", "relative"])
def test_client_certificates(tls: Tls, tmp_path: Path, how: str) -> None:
    with ApiServer(tls=tls.context(client=True)) as server:
        server.add({"kind": "Node", "metadata": {"name": "node1"}})
        if how == "data":
            cluster = {"certificate-authority-data": encoded(tls.ca)}
            user: dict[str, Any] = {
                "client-certificate-data": encoded(tls.pem("client.pem")),
                "client-key-data": encoded(tls.pem("client.key")),
            }
        elif how == "program":
            cluster = {"certificate-authority-data": encoded(tls.ca)}
            pair = {
                "clientCertificateData": tls.pem("client.pem").decode(),
                "clientKeyData": tls.pem("client.key").decode(),
            }
            user = {"exec": saying(tmp_path / "answer", **pair)}
        else:
            names = {"certificate-authority": "ca.pem", "client-certificate": "client.pem"}
            names |= {"client-key": "client.key"}
            if how == "relative":
                for name in names.values():
                    (tmp_path / name).write_bytes(tls.pem(name))
            else:
                names = {key: tls.path(name) for key, name in names.items()}
            cluster = {"certificate-authority": names.pop("certificate-authority")}
            user = names
        api = opened(kubeconfig(tmp_path, {"server": server.url, **cluster}, **user))
        assert name_of(api.get(NODE, timeout=5)) == "node1"
        server.down()
        server.up()
        assert name_of(api.get(NODE, timeout=5)) == "node1"


def test_nobody_else_is_taken_for_the_server(tls: Tls, tmp_path: Path) -> None:
    """No retry helps: it is no ApiUnreachableError."""
    with ApiServer(tls=tls.context()) as server:
        server.add({"kind": "Node", "metadata": {"name": "node1"}})
        api = opened(kubeconfig(tmp_path, {"server": server.url}))
        with pytest.raises(ApiError, match="certificate") as caught:
            api.get(NODE, timeout=5)
        assert type(caught.value) is ApiError
        assert server.requests == []
        trusting = {"server": server.url, "insecure-skip-tls-verify": True}
        assert opened(kubeconfig(tmp_path, trusting)).get(NODE, timeout=5)


def test_a_proxy_of_the_environment(server: ApiServer, tmp_path: Path) -> None:
    """As Go's clients: taken from the variables, except for what they or the loopback exclude."""
    config = kubeconfig(tmp_path, {"server": "http://api.example:6443"}, token=SECRET)
    api = opened(config, HTTP_PROXY=server.url)
    assert name_of(api.get(NODE, timeout=5)) == "node1"
    local = opened(server.kubeconfig(tmp_path / "local"), HTTP_PROXY="http://127.0.0.1:9")
    assert name_of(local.get(NODE, timeout=5)) == "node1"


YAML = """\
apiVersion: v1
kind: Config
current-context: it
contexts: [{{name: it, context: {{cluster: c, user: u}}}}]
clusters:
- name: c
  cluster: {{server: "{url}/"}}
users:
- name: u
  user:
    token: {token}
"""


def test_a_kubeconfig_in_yaml(server: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(YAML.format(url=server.url, token=SECRET))
    assert name_of(opened(str(tmp_path / "kubeconfig")).get(NODE, timeout=5)) == "node1"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read: No such file"),
        ("", "must be a JSON object"),
        ("a: [\n" + SECRET, "is not YAML in line"),
        ("{}", "'current-context'"),
        (json.dumps({"current-context": "x"}), "no 'x' in 'contexts'"),
        (YAML.format(url="unix:///x", token=SECRET), "https://"),
        (YAML.format(url="https://x", token=f"[{SECRET}]"), "'token'"),
        (YAML.format(url="https://x", token=SECRET) + "    client-key: k", "client-certificate"),
        (YAML.format(url="https://x", token=SECRET) + "    client-key-data: é", "base64"),
    ],
)
def test_kubeconfigs_that_cannot_be_used(tmp_path: Path, text: str | None, why: str) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    with pytest.raises(KubeconfigError) as caught:
        connect(str(path), {})
    assert why in caught.value.message
    assert caught.value.path == str(path)
    assert SECRET not in str(caught.value)


def in_memory() -> int:
    """Return how many certificates and keys this process has in memory files."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{fd}"
        found += os.path.islink(path) and "memfd:pem" in os.readlink(path)
    return found


def test_nothing_stays_open(tls: Tls, tmp_path: Path) -> None:
    """A daemon opens the server of every call's configuration."""
    with ApiServer(tls=tls.context(client=True)) as server:
        server.add({"kind": "Node", "metadata": {"name": "node1"}})
        user = {
            "client-certificate-data": encoded(tls.pem("client.pem")),
            "client-key-data": encoded(tls.pem("client.key")),
        }
        trusted = {"server": server.url, "certificate-authority-data": encoded(tls.ca)}
        config = kubeconfig(tmp_path, trusted, **user)
        opened(config).get(NODE, timeout=5)
        gc.collect()
        assert in_memory() == 0
        api = opened(config)
        api.get(NODE, timeout=5)
        assert in_memory() == 3
        del api
        gc.collect()
        assert in_memory() == 0


@pytest.mark.parametrize("how", ["closed", "silent", "server gone"])
def test_a_stream_by_tls_ends_at_once(tls: Tls, tmp_path: Path, how: str) -> None:
    path = "/api/v1/nodes"
    with ApiServer(tls=tls.context()) as server:
        trusted = {"server": server.url, "certificate-authority-data": encoded(tls.ca)}
        api = connect(kubeconfig(tmp_path, trusted), {})
        assert api is not None
        silence = 0.3 if how == "silent" else 60.0
        query = {"resourceVersion": "9"}
        stream = api.watch(path, timeout=5, silence=silence, query=query)
        stream.open()
        events, found = iter(stream), threading.Event()
        server.add({"kind": "Node", "metadata": {"name": "node1"}})
        assert next(events)["type"] == "ADDED"
        ended: list[str] = []

        def read() -> None:
            found.set()
            try:
                ended.append(f"{len(list(events))} more")
            except ApiUnreachableError:
                ended.append("broken")

        reader = threading.Thread(target=read)
        reader.start()
        assert found.wait(5)
        if how == "closed":
            stream.close()
        elif how == "server gone":
            server.down()
        reader.join(5)
        assert not reader.is_alive()
        # A server that is ended in good order ends its streams so.
        wanted = {"closed": "0 more", "silent": "broken", "server gone": "0 more broken"}
        assert ended[0] in wanted[how]
        stream.release()
        api.close()


HANGING = """
import sys
from multus.api.clusterapi import ApiUnreachableError
from multus.api.k8sclient import connect
api = connect(sys.argv[1], {})
try:
    api.get(sys.argv[2], timeout=0.5)
except ApiUnreachableError:
    sys.exit(3)
"""


@pytest.mark.parametrize("how", ["hang", "slow"])
def test_a_hanging_request_does_not_hold_the_process(
    server: ApiServer, tmp_path: Path, how: Any
) -> None:
    config = server.kubeconfig(tmp_path / "kubeconfig")
    server.fail(how)
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    run = [sys.executable, "-W", "error", "-c", HANGING, config, NODE]
    done = subprocess.run(run, check=False, env=env, timeout=15, capture_output=True)
    assert (done.returncode, done.stderr) == (3, b"")


PROGRAM = """
import sys
import time
from multus.api.k8sclient import connect
api = connect(sys.argv[1], {})
assert not any(name.startswith(("kubernetes", "urllib3", "yaml")) for name in sys.modules)
api.get(sys.argv[2], timeout=20)
assert "kubernetes.client.models" not in sys.modules
again = connect(sys.argv[1], {})
began = time.process_time()
again.get(sys.argv[2], timeout=20)
assert time.process_time() - began < 0.02
import kubernetes
kubernetes.client.CoreV1Api
"""


def test_the_library_is_not_loaded_whole(server: ApiServer, tmp_path: Path) -> None:
    """Nothing before the first request, then the transport only; a later import gets the whole."""
    config = server.kubeconfig(tmp_path / "kubeconfig")
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", PROGRAM, config, NODE], check=True, env=env, timeout=60)
