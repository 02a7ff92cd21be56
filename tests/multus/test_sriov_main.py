"""The ``sriov`` executable: the protocol around the delegate, fed with anything."""

from __future__ import annotations

import io
import json
import string
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwmgr.locks import Locks
from hwmgr.run import Completed
from hwmgr.spool import Spool
from multus.clock import Limits, SystemClock
from multus.skel import Process, serve
from multus.spooled import LeftCalls
from multus.sriov_commands import SriovCommands
from tests.fakes.left import leave
from tests.fakes.tree import Nic
from tests.multus.test_sriov_vectors import Bench, bench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.frames import Call
    from multus.spooled import Deleter
    from tests.fakes.runner import Call as Program

RELAXED = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VERBS = st.sampled_from(["ADD", "CHECK", "DEL", "GC", "STATUS"])
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "deviceID",
        "if0",
        "master",
        "if0name",
        "pfOnly",
        "l2enable",
        "dpdk",
        "vlan",
        "vlanQoS",
        "vlanProto",
        "mac",
        "spoofchk",
        "trust",
        "link_state",
        "min_tx_rate",
        "max_tx_rate",
        "mtu",
        "ipam",
        "cniDir",
        "logFile",
        "runtimeConfig",
        "dns",
    ]
)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Bench]:
    made = bench(str(tmp_path), Nic(vfs=2))
    with closing(made.machine):
        yield made


def left_calls(one: Bench) -> LeftCalls:
    """Return the spool of the bench, worked off by the bench's own plugin."""

    def make(_call: Call, _seconds: float) -> Deleter:
        locks = Locks(one.machine.state)
        return SriovCommands(one.plugin, locks, Limits(), left_calls(one))

    return LeftCalls(one.machine.state, make, SystemClock(), one.machine.node.log)


def answer(one: Bench, env: dict[str, str], stdin: bytes) -> tuple[int, Any, list[str]]:
    stdout, complaints = io.StringIO(), list[str]()
    commands = SriovCommands(one.plugin, Locks(one.machine.state), Limits(), left_calls(one))
    process = Process(env, io.BytesIO(stdin), stdout, io.StringIO())
    status = serve(process, lambda: commands, complaints.append)
    text = stdout.getvalue()
    return status, json.loads(text) if text else None, complaints


def env(one: Bench, **change: str) -> dict[str, str]:
    return {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": one.pod.path,
        "CNI_IFNAME": "net1",
        "CNI_PATH": "/nonexistent",
        **change,
    }


def assert_harmless(one: Bench, variables: dict[str, str], stdin: bytes) -> None:
    """Refused with an error of the specification, or (verbs with nothing to do) a success."""
    before = one.machine.snapshot()
    status, said, complaints = answer(one, variables, stdin)
    assert not any("Traceback" in line for line in complaints), complaints
    if status:
        assert status == 1
        assert isinstance(said["code"], int)
        assert said["code"] > 0
        assert said["msg"]
        assert "Traceback" not in said["msg"]
    else:
        assert variables["CNI_COMMAND"] != "ADD"
    assert one.machine.snapshot() == before
    assert one.machine.node.journal.addresses() == []


@RELAXED
@given(stdin=st.binary(max_size=200), verb=VERBS)
def test_arbitrary_bytes(one: Bench, stdin: bytes, verb: str) -> None:
    assert_harmless(one, env(one, CNI_COMMAND=verb), stdin)


@RELAXED
@given(conf=ANYTHING, verb=VERBS)
def test_arbitrary_json(one: Bench, conf: object, verb: str) -> None:
    assert_harmless(one, env(one, CNI_COMMAND=verb), json.dumps(conf).encode())


@RELAXED
@given(conf=st.dictionaries(KEYS, ANYTHING, max_size=5), verb=VERBS)
def test_known_keys_with_arbitrary_values(one: Bench, conf: dict[str, Any], verb: str) -> None:
    """No such configuration can be attached: none names a device that is there."""
    stdin = json.dumps({"cniVersion": "1.1.0", "name": "n", **conf}).encode()
    assert_harmless(one, env(one, CNI_COMMAND=verb), stdin)


@RELAXED
@given(
    variables=st.dictionaries(
        st.sampled_from(["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]),
        st.text(alphabet=string.printable, max_size=20).filter(lambda t: "\0" not in t),
    )
)
def test_arbitrary_environments(one: Bench, variables: dict[str, str]) -> None:
    stdin = b'{"cniVersion": "1.0.0", "name": "n", "deviceID": "0000:01:10.9"}'
    assert_harmless(one, {"CNI_COMMAND": "", **variables}, stdin)


@RELAXED
@given(text=st.text(alphabet=string.printable, max_size=30))
def test_arbitrary_cni_args(one: Bench, text: str) -> None:
    stdin = b'{"cniVersion": "1.0.0", "name": "n", "deviceID": "0000:99:10.0"}'
    assert_harmless(one, env(one, CNI_ARGS=text), stdin)


def test_the_verbs_of_one_life(one: Bench) -> None:
    before = one.machine.snapshot()
    conf = {"cniVersion": "1.1.0", "name": "n", "deviceID": Nic().vf(0)}
    stdin = json.dumps(conf).encode()
    status, result, _ = answer(one, env(one), stdin)
    assert status == 0
    assert result["interfaces"][0]["pciID"] == Nic().vf(0)
    for verb in ("CHECK", "STATUS", "GC", "DEL", "DEL"):
        assert answer(one, env(one, CNI_COMMAND=verb), stdin)[:2] == (0, None)
    assert one.machine.snapshot() == before


def test_a_lock_that_our_caller_holds_is_not_waited_for(one: Bench) -> None:
    """multus runs us for one of its delegates while it has the container's lock."""
    locks = Locks(one.machine.state, timeout=0.1)
    commands = SriovCommands(one.plugin, locks, Limits(), left_calls(one), held="c1")
    conf = json.dumps({"cniVersion": "1.0.0", "name": "n", "deviceID": Nic().vf(0)}).encode()
    with locks.container("c1"):
        stdout = io.StringIO()
        process = Process(env(one), io.BytesIO(conf), stdout, io.StringIO())
        assert serve(process, lambda: commands, lambda _text: None) == 0


@pytest.mark.parametrize("recorded", [True, False])
def test_a_namespace_that_no_record_knows_is_not_named_later(
    one: Bench, tmp_path: Path, *, recorded: bool
) -> None:
    def ipam(call: Program) -> Completed:
        asked.append((call.env["CNI_COMMAND"], call.env["CNI_NETNS"]))
        addresses = {"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.2/24"}]}
        return Completed(0, json.dumps(addresses).encode(), b"")

    asked: list[tuple[str, str]] = []
    one.machine.runner.programs[f"{tmp_path}/plugins/ipam"] = ipam
    conf = {"cniVersion": "1.1.0", "name": "n", "deviceID": Nic().vf(0), "ipam": {"type": "ipam"}}
    stdin = json.dumps(conf).encode()
    path = {"CNI_PATH": f"{tmp_path}/plugins"}
    if recorded:
        assert answer(one, env(one, **path), stdin)[0] == 0
    left(one, "c1", stdin, **path)
    assert left_calls(one).drain_all(time.monotonic() + 60) == []
    assert asked[-1] == ("DEL", one.pod.path if recorded else "")


def left(one: Bench, container_id: str, stdin: bytes, **more: str) -> None:
    call = env(one, CNI_COMMAND="DEL", CNI_CONTAINERID=container_id, **more)
    leave(Path(one.machine.state.root), call, None, program="sriov", stdin=stdin)


def test_what_a_left_del_still_holds_is_given_to_the_next(one: Bench) -> None:
    conf = {"cniVersion": "1.1.0", "name": "n", "deviceID": Nic().vf(0)}
    stdin = json.dumps(conf).encode()
    assert answer(one, env(one), stdin)[0] == 0
    other = env(one, CNI_CONTAINERID="c2", CNI_IFNAME="net2")
    assert answer(one, other, stdin)[1]["code"] == 11
    left(one, "c1", stdin)
    assert answer(one, other, stdin)[0] == 0
    held = one.machine.node.journal.records()
    assert [(r.owner.container_id, r.owner.ifname) for r in held] == [("c2", "net2")]


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "GC"])
@pytest.mark.parametrize("stdin", [b"", b"{", b"[]", b"{}"])
def test_a_left_del_goes_by_the_records_whatever_its_configuration(
    one: Bench, verb: str, stdin: bytes
) -> None:
    conf = {"cniVersion": "1.1.0", "name": "n", "deviceID": Nic().vf(0)}
    good = json.dumps(conf).encode()
    assert answer(one, env(one), good)[0] == 0
    left(one, "c1", stdin)
    status, said, _ = answer(one, env(one, CNI_COMMAND=verb), good)
    assert status == (1 if verb == "CHECK" else 0), said
    assert Spool(one.machine.state).count() == 0
    if verb == "ADD":
        left(one, "c1", good)
        assert answer(one, env(one, CNI_COMMAND="DEL"), good)[0] == 0
    assert Spool(one.machine.state).count() == 0
    assert one.machine.node.journal.addresses() == []
