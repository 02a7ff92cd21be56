"""A kubelet as far as devices go: its pod-resources socket, served by gRPC, and its checkpoint."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

Containers = dict[str, list[tuple[str, list[str]]]]


@dataclass(frozen=True, slots=True)
class ListedPod:
    """A pod with container → [(resource, device ids)]; one pair for each NUMA node."""

    namespace: str
    name: str
    containers: Mapping[str, Sequence[tuple[str, Sequence[str]]]] = field(default_factory=dict)

    def encoded(self) -> bytes:
        return message(
            (1, self.name),
            (2, self.namespace),
            *((3, _container(name, devices)) for name, devices in self.containers.items()),
        )


def listing(*pods: ListedPod) -> bytes:
    """Return a ListPodResourcesResponse."""
    return message(*((1, pod.encoded()) for pod in pods))


def _container(name: str, devices: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    topology = message((1, varint(1 << 3 | 0) + varint(1)))
    return message(
        (1, name),
        *(
            (2, message((1, resource), *((2, item) for item in ids), (3, topology)))
            for resource, ids in devices
        ),
        # cpu_ids, packed; kubelet has had them since 1.21.
        (3, varint(0) + varint(300)),
    )


def message(*fields: tuple[int, bytes | str]) -> bytes:
    """Encode length-delimited fields."""
    encoded = bytearray()
    for number, value in fields:
        data = value.encode() if isinstance(value, str) else value
        encoded += varint(number << 3 | 2) + varint(len(data)) + data
    return bytes(encoded)


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


class FakeKubelet:
    """Serves ``pods`` on a unix socket while used as a context.

    ``version`` is that of the API: "v1", or "v1alpha1" as kubelet had alone up to 1.19. ``answer``
    stands in for the listing. While ``slow`` is set nobody gets an answer. ``asked`` counts, and
    ``begun`` is set by the first question.
    """

    def __init__(self, socket: Path, *pods: ListedPod, version: str = "v1") -> None:
        self.socket = socket
        self.pods = list(pods)
        self.answer: bytes | Callable[[], bytes] | None = None
        self.fails: tuple[grpc.StatusCode, str] | None = None
        self.slow = False
        self.asked = 0
        self.begun = threading.Event()
        self._counting = threading.Lock()
        self._over = threading.Event()
        self._workers = ThreadPoolExecutor(max_workers=4)
        self._server = grpc.server(self._workers)
        method = grpc.unary_unary_rpc_method_handler(self._list)
        service = f"{version}.PodResourcesLister"
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"List": method}),)
        )

    def __enter__(self) -> Self:
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self._server.add_insecure_port(f"unix:{self.socket}")
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._workers.shutdown()

    def cut(self) -> None:
        """End as a process does that is killed: in the middle of its answers."""
        ended = self._server.stop(grace=None)
        self._over.set()
        ended.wait()

    def _list(self, request: bytes, context: Any) -> bytes:
        with self._counting:
            self.asked += 1
        self.begun.set()
        assert request == b"", "ListPodResourcesRequest has no fields"
        if self.slow:
            self._over.wait()
        if self.fails:
            context.abort(*self.fails)
        if self.answer is not None:
            return self.answer() if callable(self.answer) else self.answer
        return listing(*self.pods)


def write_checkpoint(path: Path, *pods: tuple[str, Containers], old: bool = False) -> None:
    """Write kubelet's record: pod uid and container → [(resource, ids)], a pair a NUMA node.

    ``old`` is the form before kubelet 1.20, without NUMA nodes.
    """
    entries = []
    for uid, containers in pods:
        for container, devices in containers.items():
            for resource in dict.fromkeys(name for name, _ in devices):
                nodes = [ids for name, ids in devices if name == resource]
                by_node = {str(node): ids for node, ids in enumerate(nodes)}
                ids = [item for node in nodes for item in node]
                entries.append(
                    {
                        "PodUID": uid,
                        "ContainerName": container,
                        "ResourceName": resource,
                        "DeviceIDs": ids if old else by_node,
                        "AllocResp": "CikK",
                    }
                )
    data = {"PodDeviceEntries": entries, "RegisteredDevices": {}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"Data": data, "Checksum": 229855270}))
