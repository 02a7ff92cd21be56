"""Requests as multus-cni's shim makes them, HTTP around them, the daemon's file: by the vectors."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from multus.daemon.daemonconf import DaemonFileError, over, parse_keys, read_file
from multus.daemon.gowire import RequestError, named, pairs, read_request
from multus.daemon.httpwire import HttpError, read_head
from multus.jsonfields import FieldError, decode
from tests.multus.fake_daemon import Client, Front, front
from tests.multus.vectors import FOLDER, params

THICK = json.loads((FOLDER / "thick_server.json").read_text())["cases"]


def test_a_delegate_request() -> None:
    case = THICK["delegateRequest"]
    asked = read_request(json.dumps(case).encode())
    assert asked.env == case["env"]
    assert asked.config == base64.b64decode(case["config"])
    assert asked.attributes == case["interfaceAttributes"]
    about = named(asked.env)
    assert (about.command, about.container_id, about.ifname) == ("ADD", "cid", "net9")


@pytest.mark.parametrize("case", params("thick_server", "extract"))
def test_what_a_request_is_about(case: dict[str, Any]) -> None:
    try:
        about = named(case["env"])
    except RequestError:
        assert not case["ok"]
        return
    assert case["ok"]
    assert (about.command, about.container_id, about.ifname) == (
        case["cmd"],
        case["container"],
        case["ifname"],
    )


@pytest.mark.parametrize("case", params("thick_server", "gatherCNIArgs"))
def test_arguments(case: dict[str, Any]) -> None:
    try:
        found = pairs(case["cni_args"])
    except RequestError:
        assert not case["ok"]
        return
    assert case["ok"]
    assert found == case["expect"]


@pytest.mark.parametrize("case", params("thick_server", "override"))
def test_the_file_over_a_configuration(case: dict[str, Any]) -> None:
    client, server = case["client"].encode(), case["server"].encode()
    try:
        keys = parse_keys(server)
        found = client
        if keys is not None:
            found = over(client, keys, without_readiness=case["ignoreReadinessIndicator"])
    except FieldError:
        assert not case["ok"]
        return
    assert case["ok"]
    if keys is None:
        assert found.decode() == case["expect"]
    else:
        assert decode(found, "merged") == decode(case["expect"].encode(), "expected")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"env": []}',
        b'{"env": {"CNI_COMMAND": 1}}',
        b'{"env": {}, "config": "%"}',
        b'{"env": {}, "config": "\\u00e9===" }',
        b'{"env": {}, "interfaceAttributes": 1}',
    ],
)
def test_bodies_that_are_no_request(body: bytes) -> None:
    with pytest.raises(RequestError):
        named(read_request(body).env)


def test_a_key_is_replaced_in_any_spelling() -> None:
    merged = json.loads(
        over(b'{"BinDir": "/a", "n": 1e400}', {"binDir": "/b"}, without_readiness=False)
    )
    assert set(merged) == {"binDir", "n"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"chrootDir": "/hostroot"}', "chrootDir is not served"),
        ('{"connectionLimit": 0}', "connectionLimit"),
        ('{"metricsPort": 70000}', "metricsPort"),
        ('{"socketDir": 1}', "socketDir"),
        ("[]", "JSON object"),
        ("{", "JSON"),
    ],
)
def test_files_that_are_refused(tmp_path: Any, text: str, fault: str) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(text)
    with pytest.raises(DaemonFileError, match=fault):
        read_file(str(path), needed=True)


def test_an_absent_file(tmp_path: Any) -> None:
    path = str(tmp_path / "none.json")
    assert read_file(path, needed=False).over(b"as it is") == b"as it is"
    with pytest.raises(DaemonFileError, match="does not exist"):
        read_file(path, needed=True)


def test_what_the_file_says_to_the_daemon(tmp_path: Any) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(
        '{"socketDir": "/run/m", "connectionLimit": 9, "metricsPort": 9091, "chrootDir": "",'
        ' "multusConfigFile": "auto", "readinessindicatorfile": "/r", "logToStderr": true}'
    )
    file = read_file(str(path), needed=True)
    assert (file.socket_dir, file.connections, file.metrics_port) == ("/run/m", 9, 9091)
    assert (file.readiness_file, file.waits, file.log_to_stderr) == ("/r", True, True)
    assert b"readiness" not in file.over(b'{"readinessindicatorfile": "/x"}')


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"POST /cni HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST /cni HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /cni HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /cni HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 70000, 431),
    ],
)
def test_heads_that_are_refused(head: bytes, status: int) -> None:
    with pytest.raises(HttpError) as raised:
        read_head(head)
    assert raised.value.status == status


def test_a_head_that_is_not_complete() -> None:
    assert read_head(b"GET / HTTP/1.1\r\nHost: x\r\n") is None


def ask(request: bytes, prepare: Any = None) -> tuple[int, dict[str, str], bytes]:
    """Send a request, byte by byte the first few, and return the answer."""

    async def talk(f: Front) -> bytes:
        client: Client = await f.client()
        for byte in request[:5]:
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        await client.send(request[5:])
        return await client.read()

    async def whole() -> bytes:
        async with front() as f:
            if prepare is not None:
                prepare(f)
            return await talk(f)

    head, _, body = asyncio.run(whole()).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert int(headers["Content-Length"]) == len(body)
    assert headers["Connection"] == "close"
    return int(first.split(" ")[1]), headers, body


def post(path: str, body: Any, method: str = "POST") -> bytes:
    data = json.dumps(body).encode()
    return f"{method} {path} HTTP/1.1\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def go(command: str, **more: str) -> dict[str, Any]:
    env = {"CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_NETNS": "/n", "CNI_ARGS": "A=b"}
    return {"env": {**env, **more}, "config": base64.b64encode(b"{}").decode()}


def test_an_add_by_http() -> None:
    status, headers, body = ask(post("/cni", go("ADD")))
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == {"Result": {"cniVersion": "1.0.0"}}


@pytest.mark.parametrize("command", ["DEL", "CHECK"])
def test_other_verbs_have_an_empty_answer(command: str) -> None:
    assert ask(post("/cni", go(command)))[::2] == (200, b"")


def test_an_error_by_http_is_json_with_its_code() -> None:
    def failing(f: Front) -> None:
        said = b'{"cniVersion": "1.0.0", "code": 11, "msg": "later", "details": "soon"}'
        f.workshop.answers["ADD"] = (1, said, b"")

    status, headers, body = ask(post("/cni", go("ADD")), failing)
    assert (status, headers["Content-Type"]) == (400, "application/json")
    assert json.loads(body) == {"code": 11, "msg": "later", "details": "soon"}


def test_a_wrong_request_is_text() -> None:
    status, headers, body = ask(post("/cni", {"env": {"CNI_COMMAND": "ADD"}}))
    assert (status, headers["Content-Type"]) == (400, "text/plain; charset=utf-8")
    assert b"CNI_CONTAINERID" in body
    assert ask(post("/cni", go("ADD", CNI_ARGS="A=b=c")))[0] == 400
    assert ask(post("/cni", go("DEL", CNI_ARGS="A=b=c")))[0] == 200


def test_a_delegate_request_goes_with_its_wish() -> None:
    fronts: list[Front] = []
    wish = {"ips": ["1.1.1.1/24"], "mac": "02:00:00:00:00:01", "cni-args": None}
    assert (
        ask(post("/delegate", {**go("ADD"), "interfaceAttributes": wish}), fronts.append)[0] == 200
    )
    assert fronts[0].workshop.wishes == [wish]
    assert ask(post("/delegate", go("ADD")), fronts.append)[0] == 200
    assert fronts[1].workshop.wishes == [{}]
    assert ask(post("/cni", go("ADD")), fronts.append)[0] == 200
    assert fronts[2].workshop.wishes == [None]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("POST", "/healthz", 200),
        ("PUT", "/healthz", 405),
        ("GET", "/readyz", 200),
        ("POST", "/readyz", 200),
        ("DELETE", "/readyz", 405),
        ("GET", "/metrics", 200),
        ("POST", "/metrics", 405),
        ("GET", "/cni", 405),
        ("GET", "/delegate", 405),
        ("GET", "/", 404),
        ("POST", "/cni/", 404),
    ],
)
def test_paths_and_methods(method: str, path: str, status: int) -> None:
    assert ask(post(path, None, method))[0] == status


def test_not_ready_while_ending() -> None:
    def ending(f: Front) -> None:
        f.ready = False

    assert ask(post("/readyz", None), ending)[0] == 500
    assert ask(post("/healthz", None), ending)[0] == 200
