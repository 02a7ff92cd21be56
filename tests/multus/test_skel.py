"""The protocol: whatever comes in, one JSON error goes out, and nothing is touched."""

from __future__ import annotations

import io
import json
import string
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multus.skel import Process, serve
from tests.multus.fakes import FakeRunner, World

if TYPE_CHECKING:
    from pathlib import Path

A = {"name": "neta", "type": "plugA", "cniVersion": "1.0.0"}
GOOD = {"cniVersion": "1.0.0", "name": "mnet", "delegates": [A]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("skel"))
    made.plugin("plugA")
    return made


def env(**changes: str | None) -> dict[str, str]:
    variables: dict[str, str | None] = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/ns",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/nonexistent",
        **changes,
    }
    return {name: value for name, value in variables.items() if value is not None}


def assert_error(world: World, variables: dict[str, str], stdin: bytes) -> dict[str, Any]:
    """Assert that a call fails by the book and without any effect."""
    before = world.files()
    answer = world.call(variables, stdin)
    assert answer.rc == 1
    error: dict[str, Any] = json.loads(answer.stdout)
    assert set(error) <= {"cniVersion", "code", "msg", "details"}
    assert isinstance(error["code"], int)
    assert error["code"] > 0
    assert error["msg"]
    assert "Traceback" not in answer.stdout + answer.stderr
    assert world.files() == before
    assert isinstance(world.runner, FakeRunner)
    assert world.runner.ran == []
    return error


def test_all_missing_variables_are_named_at_once(world: World) -> None:
    error = assert_error(world, {"CNI_COMMAND": "ADD"}, b"{}")
    assert error["code"] == 4
    for name in ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"):
        assert name in error["msg"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"CNI_COMMAND": "add"}, 4),
        ({"CNI_COMMAND": "FOO"}, 4),
        ({"CNI_CONTAINERID": "../etc"}, 4),
        ({"CNI_CONTAINERID": "a\n"}, 4),
        ({"CNI_IFNAME": "a/b"}, 4),
        ({"CNI_IFNAME": "."}, 4),
        ({"CNI_IFNAME": ""}, 4),
        ({"CNI_PATH": None}, 4),
        ({"CNI_ARGS": "junk"}, 4),
        ({"CNI_NETNS": "/gone"}, 8),
        ({"CNI_NETNS": "a\0b"}, 8),
    ],
)
def test_bad_environments(world: World, changes: dict[str, str | None], code: int) -> None:
    variables = env(**{"CNI_PATH": str(world.bin), **changes})
    assert assert_error(world, variables, json.dumps(GOOD).encode())["code"] == code


@pytest.mark.parametrize(
    ("stdin", "code"),
    [
        (b"", 6),
        (b"{", 6),
        (b"[]", 6),
        (b"null", 6),
        (b"\xff\xfe{\0", 6),
        (b'{"name": "x", "n": NaN}', 6),
        (b'{"name": 1}', 6),
        (b'{"name": "x", "cniVersion": 1}', 6),
        (b"[" * 100_000, 6),
        (b'{"a":' * 100_000, 6),
        (b'{"name": ' + b"9" * 5000 + b"}", 6),
        (b"{}", 7),
        (b'{"name": ""}', 7),
        (b'{"name": "a/b"}', 7),
        (b'{"name": "x"}', 7),
        (b'{"name": "x", "delegates": []}', 7),
        (b'{"name": "x", "delegates": [{"name": "l", "plugins": []}]}', 7),
        (b'{"name": "x", "delegates": [{"name": "l", "plugins": [null]}]}', 7),
        (b'{"name": "x", "delegates": [null]}', 7),
        (b'{"name": "x", "cniVersion": "9.9.9"}', 1),
        (b'{"name": "x", "cniVersion": "1"}', 1),
        (b'{"name": "x", "cniDir": 5, "delegates": [{"type": "plugA"}]}', 7),
        (b'{"name": "x", "prevResult": 5, "delegates": [{"type": "plugA"}]}', 7),
        (b'{"name": "x", "delegates": [{"type": "plugA", "capabilities": []}]}', 7),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_bad_configurations(world: World, stdin: bytes, code: int) -> None:
    assert assert_error(world, env(), stdin)["code"] == code


@pytest.mark.parametrize(
    ("command", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")]
)
def test_verbs_need_their_version(world: World, command: str, version: str) -> None:
    stdin = json.dumps({**GOOD, "cniVersion": version}).encode()
    assert assert_error(world, env(CNI_COMMAND=command), stdin)["code"] == 1


def test_the_error_is_in_the_version_of_the_configuration(world: World) -> None:
    stdin = json.dumps({**GOOD, "cniVersion": "0.4.0", "delegates": []}).encode()
    assert assert_error(world, env(), stdin)["cniVersion"] == "0.4.0"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=10,
)
KEYS = [
    "cniVersion", "name", "type", "capabilities", "runtimeConfig", "prevResult", "confDir",
    "cniDir", "binDir", "delegates", "clusterNetwork", "defaultNetworks", "systemNamespaces",
    "multusNamespace", "kubeconfig", "namespaceIsolation", "globalNamespaces", "logFile",
    "logLevel", "logToStderr", "logOptions", "retryDeleteOnError", "cni.dev/valid-attachments",
]  # fmt: skip
CONFIGS = st.dictionaries(st.sampled_from(KEYS), ANYTHING)
DELEGATES = st.dictionaries(
    st.sampled_from(["name", "type", "plugins", "cniVersion", "capabilities", "args", "ipam"]),
    ANYTHING,
)
VERBS = st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS"])
RELAXED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@RELAXED
@given(stdin=st.binary(max_size=200), verb=VERBS)
def test_arbitrary_bytes(world: World, stdin: bytes, verb: str) -> None:
    assert_error(world, env(CNI_COMMAND=verb), stdin)


@RELAXED
@given(conf=ANYTHING, verb=VERBS)
def test_arbitrary_json(world: World, conf: object, verb: str) -> None:
    assert_error(world, env(CNI_COMMAND=verb), json.dumps(conf).encode())


@RELAXED
@given(conf=CONFIGS, verb=st.sampled_from(["ADD", "CHECK"]))
def test_known_keys_with_arbitrary_values(world: World, conf: dict[str, object], verb: str) -> None:
    """No such configuration can succeed: no plugin is where it could be found."""
    stdin = json.dumps({**conf, "binDir": "/nonexistent", "name": "x"}).encode()
    assert_error(world, env(CNI_COMMAND=verb), stdin)


@RELAXED
@given(delegates=st.lists(DELEGATES, max_size=3))
def test_arbitrary_delegates(world: World, delegates: list[object]) -> None:
    conf = {"name": "x", "cniVersion": "1.0.0", "binDir": "/nonexistent", "delegates": delegates}
    assert_error(world, env(), json.dumps({**conf, "cniDir": str(world.cni_dir)}).encode())


@RELAXED
@given(
    variables=st.dictionaries(
        st.sampled_from(
            ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"]
        ),
        st.text(
            alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20
        )
        | st.sampled_from(["ADD", "DEL", "GC", "eth0", "/ns", "c1"]),
    )
)
def test_arbitrary_environments(world: World, variables: dict[str, str]) -> None:
    conf = {**GOOD, "binDir": "/nonexistent", "delegates": []}
    assert_error(world, variables, json.dumps(conf).encode())


@RELAXED
@given(text=st.text(alphabet=string.printable, max_size=30))
def test_arbitrary_cni_args(world: World, text: str) -> None:
    stdin = json.dumps({**GOOD, "binDir": "/nonexistent"}).encode()
    assert_error(world, env(CNI_ARGS=text), stdin)


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_closed_stdout_is_no_traceback(world: World) -> None:
    process = Process(env(), io.BytesIO(b"{"), Broken(), io.StringIO())
    assert serve(process, world.engine, world.complaints.append) == 1


def test_an_unreadable_stdin_is_an_io_error(world: World) -> None:
    closed = io.BytesIO()
    closed.close()
    stdout = io.StringIO()
    process = Process(env(), closed, stdout, io.StringIO())
    assert serve(process, world.engine, world.complaints.append) == 1
    assert json.loads(stdout.getvalue())["code"] == 5


def test_a_bug_becomes_999_and_its_traceback_goes_to_the_log(tmp_path: Path) -> None:
    world = World(tmp_path, runner=FakeRunner({"ADD plugA": ZeroDivisionError("ours")}))
    world.plugin("plugA")
    answer = world.cni("ADD", {"cniVersion": "1.0.0", "delegates": [A]})
    assert (answer.rc, answer.code) == (1, 999)
    assert "ZeroDivisionError" in answer.json["msg"]
    assert any("Traceback" in line for line in world.complaints)
    assert world.files() == []


def test_every_failure_is_complained_about_in_one_line(world: World) -> None:
    world.complaints.clear()
    assert_error(world, env(), b"{")
    (line,) = world.complaints
    assert line.startswith("ADD c1 failed with code 6")
