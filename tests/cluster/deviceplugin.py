"""A device plugin: offers devices of one resource to kubelet, and keeps what kubelet gave out.

Its messages are those of k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1/api.proto.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc

from multus.devices.podresources import fields
from tests.fakes.kubelet import message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FOLDER = Path("/var/lib/kubelet/device-plugins")
_REGISTER = "/v1beta1.Registration/Register"
_SERVICE = "v1beta1.DevicePlugin"
_OPTIONS = [("grpc.default_authority", "localhost")]


class DevicePlugin:
    """Offers ``devices`` of ``resource`` inside its ``with``; ``given`` are the lists allocated."""

    def __init__(self, resource: str, devices: Sequence[str]) -> None:
        self.resource, self._devices = resource, list(devices)
        self.given: list[list[str]] = []
        self._ended = threading.Event()
        self._socket = _FOLDER / f"{resource.replace('/', '-')}.sock"
        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self._server.add_insecure_port(f"unix://{self._socket}")

    def __enter__(self) -> Self:
        self._server.start()
        request = message((1, "v1beta1"), (2, self._socket.name), (3, self.resource))
        with grpc.insecure_channel(f"unix://{_FOLDER}/kubelet.sock", _OPTIONS) as channel:
            channel.unary_unary(_REGISTER)(request, timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.stop(grace=5).wait()
        self._socket.unlink(missing_ok=True)

    def _handlers(self) -> Any:
        answers = {
            "GetDevicePluginOptions": grpc.unary_unary_rpc_method_handler(self._nothing),
            "PreStartContainer": grpc.unary_unary_rpc_method_handler(self._nothing),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(self._list),
            "Allocate": grpc.unary_unary_rpc_method_handler(self._allocate),
        }
        return grpc.method_handlers_generic_handler(_SERVICE, answers)

    def _nothing(self, _request: bytes, _context: object) -> bytes:
        return b""

    def _list(self, _request: bytes, _context: object) -> Iterator[bytes]:
        devices = [message((1, name), (2, "Healthy")) for name in self._devices]
        yield message(*((1, device) for device in devices))
        self._ended.wait()

    def _allocate(self, request: bytes, _context: object) -> bytes:
        containers = [content for number, content in fields(request) if number == 1]
        asked = [[name.decode() for _, name in fields(each)] for each in containers]
        self.given += asked
        return message(*((1, b"") for _ in asked))
