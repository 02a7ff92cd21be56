"""The addresses of one link, asked of the kernel by hand.

pyroute2 asks for the addresses of all links and throws away those of the others: 7 ms on a host
with 100 veths, at every look at one netdev. The kernel can choose by itself (Linux 4.20,
NETLINK_GET_STRICT_CHK); an older one answers with all, of which we take ours.
"""

from __future__ import annotations

import socket
import struct
from contextlib import nullcontext
from typing import TYPE_CHECKING

from hwmgr.errors import NetlinkError
from hwmgr.netns import entered

if TYPE_CHECKING:
    from collections.abc import Iterator

# include/uapi/linux/netlink.h, rtnetlink.h and if_addr.h
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NEWADDR, _GETADDR = 20, 22
_REQUEST_DUMP = 0x1 | 0x300
_DUMP_INTERRUPTED = 0x10
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_SCOPE_UNIVERSE = 0
_HEADER = struct.Struct("=IHHII")
_IFADDRMSG = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_ANSWER_BYTES = 1 << 16
_MORE_TRIES = 4


def of_link(ns_fd: int | None, index: int) -> tuple[str, ...]:
    """Return a link's addresses of global scope as ``ip/prefix``, in the kernel's order.

    ``ns_fd`` is the link's namespace, None the thread's own. Raises NetlinkError.
    """
    text = f"list addresses of link {index}"
    try:
        with entered(ns_fd) if ns_fd is not None else nullcontext():
            door = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        with door:
            _be_strict(door)
            found, whole = _dump(door, index, text)
            for _ in range(_MORE_TRIES):
                if whole:
                    break
                found, whole = _dump(door, index, text)
    except OSError as error:
        raise NetlinkError(text, error.errno or 0) from error
    return found


def _be_strict(door: socket.socket) -> None:
    try:
        door.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
    except OSError:
        return  # before 4.20: it lists all


def _dump(door: socket.socket, index: int, text: str) -> tuple[tuple[str, ...], bool]:
    """Ask once; return what was found, and False when it changed while the kernel listed it."""
    length = _HEADER.size + _IFADDRMSG.size
    request = _HEADER.pack(length, _GETADDR, _REQUEST_DUMP, 1, 0)
    door.send(request + _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, index))
    found: list[str] = []
    whole = True
    while True:
        answer = door.recv(_ANSWER_BYTES)
        for kind, flags, body in _messages(answer):
            whole = whole and not flags & _DUMP_INTERRUPTED
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                code = struct.unpack_from("=i", body)[0] if body else 0
                if code:
                    raise NetlinkError(text, -code)
                return tuple(found), whole
            if kind == _NEWADDR:
                found += _address(body, index)


def _messages(answer: bytes) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(answer):
        length, kind, flags, _sequence, _port = _HEADER.unpack_from(answer, offset)
        yield kind, flags, answer[offset + _HEADER.size : offset + length]
        offset += max((length + 3) & ~3, _HEADER.size)


def _address(body: bytes, index: int) -> list[str]:
    family, prefix, _flags, scope, of = _IFADDRMSG.unpack_from(body)
    if of != index or scope != _SCOPE_UNIVERSE or family not in (socket.AF_INET, socket.AF_INET6):
        return []
    values = dict(_attributes(body[_IFADDRMSG.size :]))
    packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
    return [] if packed is None else [f"{socket.inet_ntop(family, packed)}/{prefix}"]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        yield kind, data[offset + _ATTRIBUTE.size : offset + length]
        offset += max((length + 3) & ~3, _ATTRIBUTE.size)
