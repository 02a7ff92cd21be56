"""Asking kubelet: a real gRPC server on a unix socket, and every way in which it can fail us."""

from __future__ import annotations

import os
import socket as sockets
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multus.devices import checkpoint, podresources
from multus.devices.choice import DeviceSourceError
from multus.devices.podresources import PodResourcesError, WireError
from tests.fakes.kubelet import FakeKubelet, ListedPod, listing, message, varint, write_checkpoint
from tests.multus.devices.test_choice import VF, Node, pod

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
HELD: dict[str, list[tuple[str, list[str]]]] = {"a": [(VF, ["d0"])]}
LISTED = ListedPod("ns", "p", HELD)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_the_pod_is_found_by_name_and_namespace(node: Node) -> None:
    others = [
        ListedPod("other", "p", {"a": [(VF, ["d8"])]}),
        ListedPod("ns", "q", {"a": [(VF, ["d9"])]}),
    ]
    with FakeKubelet(node.socket, *others, LISTED) as kubelet:
        assert node.devices(pod("a")) == {VF: ["d0"]}
        assert kubelet.asked == 1


def test_a_pod_that_is_not_listed_has_no_devices(node: Node) -> None:
    write_checkpoint(node.checkpoint, ("u1", HELD))
    with FakeKubelet(node.socket):
        assert node.devices(pod("a")) == {}


def test_a_large_node(node: Node) -> None:
    pods = [ListedPod("ns", f"p{n}", {"a": [(VF, ["d" * 9000])]}) for n in range(1000)]
    with FakeKubelet(node.socket, *pods, LISTED):
        assert node.devices(pod("a")) == {VF: ["d0"]}


def test_without_a_socket_the_checkpoint_is_read_by_uid(node: Node) -> None:
    write_checkpoint(node.checkpoint, ("u0", {"a": [(VF, ["d9"])]}), ("u1", HELD))
    assert node.devices(pod("a")) == {VF: ["d0"]}


def test_a_pod_from_a_file_is_known_by_the_uid_that_kubelet_gave_it(node: Node) -> None:
    static = pod("a")
    meta: Any = static["metadata"]
    meta["annotations"] = {"kubernetes.io/config.mirror": "hash"}
    write_checkpoint(node.checkpoint, ("hash", HELD), ("u1", {"a": [(VF, ["d9"])]}))
    assert node.devices(static) == {VF: ["d0"]}


def test_a_kubelet_that_has_only_the_alpha_api_leaves_the_checkpoint(node: Node) -> None:
    write_checkpoint(node.checkpoint, ("u1", HELD), old=True)
    with FakeKubelet(node.socket, version="v1alpha1"):
        assert node.devices(pod("a")) == {VF: ["d0"]}


def test_two_pods_of_one_name_are_told_apart_by_the_checkpoint(node: Node) -> None:
    # A pod of a StatefulSet has the name of the one before it, which may still be listed.
    gone = ListedPod("ns", "p", {"a": [(VF, ["d9"])]})
    write_checkpoint(node.checkpoint, ("u1", HELD))
    with FakeKubelet(node.socket, gone, LISTED):
        assert node.devices(pod("a")) == {VF: ["d0"]}
        node.checkpoint.unlink()
        with pytest.raises(DeviceSourceError, match="kubelet lists 2 pods ns/p"):
            node.devices(pod("a"))


def test_with_no_source_at_all_the_error_names_both(node: Node) -> None:
    with pytest.raises(DeviceSourceError) as error:
        node.devices(pod("a"))
    assert str(node.checkpoint) in str(error.value)
    assert f"{node.socket} does not exist" in str(error.value)


def test_a_kubelet_that_does_not_answer_costs_its_limit_and_no_more(node: Node) -> None:
    write_checkpoint(node.checkpoint, ("u1", HELD))  # may be older than the kubelet that hangs
    with FakeKubelet(node.socket, LISTED) as kubelet:
        kubelet.slow = True
        node.seconds = 0.3
        began = time.monotonic()
        with pytest.raises(DeviceSourceError, match="DEADLINE_EXCEEDED") as error:
            node.devices(pod("a"))
        assert 0.2 < time.monotonic() - began < 3
        assert error.value.source == str(node.socket)


def test_the_deadline_of_the_call_is_kept(node: Node) -> None:
    with FakeKubelet(node.socket, LISTED) as kubelet:
        kubelet.slow = True
        with pytest.raises(DeviceSourceError, match="DEADLINE_EXCEEDED"):
            node.devices(pod("a"), deadline=node.clock.monotonic() + 0.1)
        with pytest.raises(DeviceSourceError, match="DEADLINE_EXCEEDED"):
            node.devices(pod("a"), deadline=node.clock.monotonic() - 1)


def test_a_refusal_is_told_in_one_line(node: Node) -> None:
    with FakeKubelet(node.socket) as kubelet:
        kubelet.fails = (grpc.StatusCode.RESOURCE_EXHAUSTED, "rejected\nby rate limit" + "!" * 999)
        with pytest.raises(
            DeviceSourceError, match="RESOURCE_EXHAUSTED: rejected by rate"
        ) as error:
            node.devices(pod("a"))
    assert len(error.value.reason) < 400
    assert "\n" not in str(error.value)


def test_a_socket_that_nobody_listens_on_fails_at_once_and_works_again_at_once(node: Node) -> None:
    node.socket.parent.mkdir()
    left = sockets.socket(sockets.AF_UNIX)
    left.bind(str(node.socket))
    left.close()
    began = time.monotonic()
    with pytest.raises(DeviceSourceError, match="UNAVAILABLE"):
        node.devices(pod("a"))
    assert time.monotonic() - began < 3
    node.socket.unlink()
    with FakeKubelet(node.socket, LISTED):
        assert node.devices(pod("a")) == {VF: ["d0"]}


def test_a_path_with_characters_of_uris(tmp_path: Path) -> None:
    node = Node(tmp_path / "a%20b?c#d e")
    with FakeKubelet(tmp_path / "s", LISTED):
        node.socket.parent.mkdir(parents=True)
        node.socket.symlink_to(tmp_path / "s")
        assert node.devices(pod("a")) == {VF: ["d0"]}


def test_something_that_speaks_no_grpc(node: Node) -> None:
    node.socket.parent.mkdir()
    node.socket.write_text("a file")
    with pytest.raises(DeviceSourceError):
        node.devices(pod("a"))


@contextmanager
def peer(path: Path, says: bytes | None) -> Iterator[None]:
    """Accept connections, say something and hang up; or keep silent."""
    path.parent.mkdir()
    kept: list[sockets.socket] = []

    def serve() -> None:
        try:
            while True:
                connection, _ = listener.accept()
                kept.append(connection)
                if says is not None:
                    connection.sendall(says)
                    connection.close()
        except OSError:
            return

    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(sockets.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


@pytest.mark.parametrize(
    "says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 64, b"\xff" * 64, None]
)
def test_a_peer_that_is_no_kubelet(node: Node, says: bytes | None) -> None:
    node.seconds = 0.5
    with peer(node.socket, says):
        began = time.monotonic()
        with pytest.raises(DeviceSourceError):
            node.devices(pod("a"))
        assert time.monotonic() - began < 3


def test_a_kubelet_that_goes_away_while_it_answers(node: Node) -> None:
    with FakeKubelet(node.socket, LISTED) as kubelet:
        kubelet.slow = True

        def end() -> None:
            kubelet.begun.wait()
            kubelet.cut()

        ending = threading.Thread(target=end)
        ending.start()
        with pytest.raises(DeviceSourceError, match=r"UNAVAILABLE|CANCELLED"):
            node.devices(pod("a"))
        ending.join()


def test_many_calls_at_once(node: Node) -> None:
    with FakeKubelet(node.socket, LISTED) as kubelet, ThreadPoolExecutor(16) as calls:
        answers = list(calls.map(lambda _: node.devices(pod("a")), range(64)))
        assert answers == [{VF: ["d0"]}] * 64
        assert kubelet.asked == 64


@pytest.mark.parametrize("slow", [False, True])
def test_a_process_of_its_own_ends_at_once_and_says_nothing(node: Node, slow: bool) -> None:
    """A runtime reads our output to its end, and waits for us to be gone."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[2])\n"
        "from multus.devices import choice, podresources\n"
        "assert 'grpc' not in sys.modules\n"
        "try: print(podresources.devices_of_pod(sys.argv[1], 'ns', 'p', 0.5))\n"
        "except podresources.PodResourcesError as error: print(error.reason[:17])\n"
    )
    with FakeKubelet(node.socket, LISTED) as kubelet:
        kubelet.slow = slow
        done = subprocess.run(
            [sys.executable, "-c", code, str(node.socket), str(ROOT)],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    expected = "DEADLINE_EXCEEDED" if slow else str({"a": {VF: ["d0"]}})
    assert (done.stdout.strip(), done.stderr) == (expected, "")


@pytest.mark.parametrize(
    "answer",
    [
        b"\x0a",
        b"\xff" * 20,
        message((1, b"\x0a\xff\xff")),
        listing(LISTED)[:-1],
        b"\x0b\x0c",
        b"\x00\x00",
        message((1, message((1, "p"), (2, "ns"), (3, message((1, b"\xff")))))),
    ],
)
def test_an_answer_that_is_no_message(node: Node, answer: bytes) -> None:
    with FakeKubelet(node.socket) as kubelet:
        kubelet.answer = answer
        with pytest.raises(DeviceSourceError, match="the answer cannot be read"):
            node.devices(pod("a"))


def test_an_answer_that_is_too_large(node: Node) -> None:
    with FakeKubelet(node.socket) as kubelet:
        kubelet.answer = lambda: bytes((16 << 20) + 1)
        with pytest.raises(DeviceSourceError, match="RESOURCE_EXHAUSTED"):
            node.devices(pod("a"))


def test_errors_carry_the_socket(node: Node) -> None:
    with FakeKubelet(node.socket, version="v1alpha1"):
        with pytest.raises(podresources.NotServedError) as error:
            podresources.devices_of_pod(str(node.socket), "ns", "p", 5)
        assert isinstance(error.value, PodResourcesError)
        assert error.value.socket == str(node.socket)


def test_nothing_is_left_behind_in_a_process_that_goes_on(node: Node) -> None:
    """A daemon asks for years: no file descriptor stays, and programs can still be started."""
    with FakeKubelet(node.socket, LISTED):
        node.devices(pod("a"))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            node.devices(pod("a"))
        assert len(os.listdir("/proc/self/fd")) <= before + 4
        done = subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, check=True)
        assert (done.stdout, done.stderr) == (b"1\n", b"")


# ---- bytes ------------------------------------------------------------------------------------

text = st.text(max_size=20)
resources = st.lists(st.tuples(text, st.lists(text, max_size=3)), max_size=3)


@given(st.dictionaries(text, resources, max_size=3))
def test_what_is_encoded_is_decoded(held: dict[str, list[tuple[str, list[str]]]]) -> None:
    expected: dict[str, dict[str, list[str]]] = {name: {} for name in held}
    for name, devices in held.items():
        for resource, ids in devices:
            expected[name].setdefault(resource, []).extend(ids)
    encoded = ListedPod("ns", "p", held).encoded()
    assert podresources._containers(encoded) == expected


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_wire_error(data: bytes) -> None:
    try:
        podresources._containers(data)
    except WireError:
        return
    assert sum(len(value) for _, value in podresources.fields(data)) <= len(data)


@given(st.data())
def test_a_damaged_answer_is_a_message_or_a_wire_error(data: st.DataObject) -> None:
    whole = listing(LISTED, ListedPod("ns", "q", {"b": [(VF, ["d1", "d2"])]}))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    for answer in (damaged, whole[:at]):
        try:
            for number, value in podresources.fields(answer):
                if number == 1:
                    podresources._names(value)
                    podresources._containers(value)
        except WireError:
            pass


def test_fields_of_other_types_are_skipped() -> None:
    others = varint(9 << 3) + varint(1 << 63) + varint(10 << 3 | 1) + bytes(8)
    data = others + message((1, "x")) + varint(11 << 3 | 5) + bytes(4)
    assert list(podresources.fields(data)) == [(1, b"x")]


@pytest.mark.parametrize(
    "data", [b"\x80", b"\x80" * 11, b"\x0d\x00", b"\x09\x00", b"\x0e", b"\x0f"]
)
def test_fields_that_cannot_be_skipped(data: bytes) -> None:
    with pytest.raises(WireError):
        list(podresources.fields(data))


# ---- the checkpoint ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"Data":{"PodDeviceEntries":[{"PodUID":"u1","Conta',
        "[]",
        '{"Data":[]}',
        "{}",
        '{"Data":{"PodDeviceEntries":[1]}}',
        '{"Data":{"PodDeviceEntries":[{"PodUID":"u1","DeviceIDs":"d0"}]}}',
        '{"Data":{"PodDeviceEntries":[{"PodUID":"u1","DeviceIDs":{"0":"d0"}}]}}',
        '{"Data":{"PodDeviceEntries":[{"PodUID":"u1","DeviceIDs":{"0":[1]}}]}}',
        '{"Data":{"PodDeviceEntries":[{"PodUID":"u1","DeviceIDs":[1]}]}}',
        "\xff\x00",
    ],
)
def test_a_torn_checkpoint_is_an_error_with_its_path(node: Node, content: str) -> None:
    node.checkpoint.parent.mkdir()
    node.checkpoint.write_bytes(content.encode("latin-1"))
    with pytest.raises(DeviceSourceError) as error:
        node.devices(pod("a"))
    assert error.value.source == str(node.checkpoint)


def test_an_empty_checkpoint_is_a_node_without_devices(node: Node) -> None:
    node.checkpoint.parent.mkdir()
    node.checkpoint.write_text('{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}}}')
    assert node.devices(pod("a")) == {}


def test_a_checkpoint_cut_anywhere_is_never_half_believed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    write_checkpoint(path, ("u1", {"a": [(VF, ["d0"]), (VF, ["d1"])]}))
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(checkpoint.CheckpointError):
            checkpoint.devices_of_pod(str(path), "u1")
