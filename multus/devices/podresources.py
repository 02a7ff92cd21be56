"""Ask kubelet which devices it gave to a pod: its pod-resources API, version 1, on a unix socket.

Messages are those of k8s.io/kubelet/pkg/apis/podresources/v1/api.proto. Four small messages are
read by hand rather than by generated code, which would be tied to one version of protobuf.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKET = "/var/lib/kubelet/pod-resources/kubelet.sock"
METHOD = "/v1.PodResourcesLister/List"

_LARGEST_ANSWER = 16 << 20  # what kubelet itself sends at most (pkg/kubelet/apis/podresources)
_LONGEST_REASON = 300

# Field numbers.
_PODS = 1
_POD_NAME, _POD_NAMESPACE, _POD_CONTAINERS = 1, 2, 3
_CONTAINER_NAME, _CONTAINER_DEVICES = 1, 2
_RESOURCE_NAME, _DEVICE_ID = 1, 2

# Wire types (protobuf.dev/programming-guides/encoding).
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT = 10


class PodResourcesError(Exception):
    """Kubelet's socket gave no usable answer; ``reason`` is one line."""

    def __init__(self, socket: str, reason: str) -> None:
        super().__init__(f"{socket}: {reason}")
        self.socket = socket
        self.reason = reason


class NotServedError(PodResourcesError):
    """Kubelet is there and does not know version 1 of the API (before 1.20)."""


class AmbiguousPodError(PodResourcesError):
    """Two pods of that name: one that is gone is still listed, and the answer has no uids."""


class WireError(ValueError):
    """The bytes are not the message that they should be."""


def devices_of_pod(
    socket: str, namespace: str, name: str, timeout: float
) -> dict[str, dict[str, list[str]]]:
    """Return container → resource → device ids; {} for a pod that kubelet does not list.

    ``timeout`` is in seconds. Raises PodResourcesError.
    """
    data = _ask(socket, timeout)
    try:
        pods = [pod for pod in _all(data, _PODS) if _names(pod) == (namespace, name)]
        if len(pods) > 1:
            raise AmbiguousPodError(socket, f"kubelet lists {len(pods)} pods {namespace}/{name}")
        return _containers(pods[0]) if pods else {}
    except WireError as error:
        raise PodResourcesError(socket, f"the answer cannot be read: {error}") from error


def _ask(socket: str, timeout: float) -> bytes:
    from urllib.parse import quote

    import grpc

    options = (
        # Without it the authority is the socket's path, which Go servers refuse as malformed.
        ("grpc.default_authority", "localhost"),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", _LARGEST_ANSWER),
        # A pool shared by the process would remember an earlier refusal and not even try again.
        ("grpc.use_local_subchannel_pool", 1),
    )
    with grpc.insecure_channel(f"unix:{quote(os.path.abspath(socket))}", options) as channel:
        try:
            answer: bytes = channel.unary_unary(METHOD)(b"", timeout=max(timeout, 0.0))
        except grpc.RpcError as error:
            code, details = error.code(), " ".join(str(error.details()).split())
            kind = NotServedError if code is grpc.StatusCode.UNIMPLEMENTED else PodResourcesError
            raise kind(socket, f"{code.name}: {details[:_LONGEST_REASON]}") from error
    return answer


def _names(pod: bytes) -> tuple[str, str]:
    return _text(pod, _POD_NAMESPACE), _text(pod, _POD_NAME)


def _containers(pod: bytes) -> dict[str, dict[str, list[str]]]:
    containers: dict[str, dict[str, list[str]]] = {}
    for container in _all(pod, _POD_CONTAINERS):
        resources = containers.setdefault(_text(container, _CONTAINER_NAME), {})
        for devices in _all(container, _CONTAINER_DEVICES):
            # One message for each NUMA node, so a resource can come more than once.
            ids = resources.setdefault(_text(devices, _RESOURCE_NAME), [])
            ids += [_decoded(item) for item in _all(devices, _DEVICE_ID)]
    return containers


def _text(message: bytes, number: int) -> str:
    """Return a string field, the last one if it is repeated."""
    values = _all(message, number)
    return _decoded(values[-1]) if values else ""


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WireError("a string is not UTF-8") from error


def _all(message: bytes, number: int) -> list[bytes]:
    return [value for field, value in fields(message) if field == number]


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of the length-delimited fields of a message, skipping all others.

    Raises WireError.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire_type = key >> 3, key & 7
        if not number:
            raise WireError("field number 0")
        if wire_type == _VARINT:
            _, at = _varint(message, at)
        elif wire_type == _BYTES:
            size, start = _varint(message, at)
            at = _after(message, start, size)
            yield number, message[start:at]
        elif wire_type in _FIXED_SIZES:
            at = _after(message, at, _FIXED_SIZES[wire_type])
        else:
            raise WireError(f"wire type {wire_type}")


def _after(message: bytes, start: int, size: int) -> int:
    if size > len(message) - start:
        raise WireError(f"a field of {size} bytes where {len(message) - start} are left")
    return start + size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(message[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, at + index + 1
    raise WireError("a number without an end")
