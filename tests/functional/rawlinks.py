"""One RTM_GETLINK dump, read by hand: what the harness needs to know and hwmgr.netlink does not."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

_RTM_NEWLINK, _RTM_GETLINK, _NLMSG_DONE = 16, 18, 3
_REQUEST_DUMP = 0x301
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_TXQLEN, _IFLA_GROUP = 1, 3, 4, 13, 27
_TXQLEN = 1000  # veth's own; the harness adds the number of the port


@dataclass(frozen=True, slots=True)
class RawLink:
    """A netdev of this thread's namespace; ``group`` says which function it stands for."""

    index: int
    name: str
    group: int
    port: int
    mac: str
    mtu: int
    up: bool


def links() -> list[RawLink]:
    """Return the netdevs of this thread's namespace."""
    found: list[RawLink] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as door:
        door.bind((0, 0))
        ask = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
        door.send(struct.pack("=IHHII", 16 + len(ask), _RTM_GETLINK, _REQUEST_DUMP, 1, 0) + ask)
        while True:
            data = door.recv(1 << 20)
            while len(data) >= 16:
                length, kind = struct.unpack_from("=IH", data)
                if kind == _NLMSG_DONE:
                    return found
                if kind == _RTM_NEWLINK:
                    found.append(_parse(data[16:length]))
                data = data[(length + 3) & ~3 :]


def _parse(body: bytes) -> RawLink:
    index, flags = struct.unpack_from("=iI", body, 4)
    values: dict[int, bytes] = {}
    rest = body[16:]
    while len(rest) >= 4:
        length, kind = struct.unpack_from("=HH", rest)
        values[kind & 0x3FFF] = rest[4:length]
        rest = rest[(length + 3) & ~3 :]

    def number(kind: int) -> int:
        return int(struct.unpack_from("=I", values.get(kind, b"\0\0\0\0"))[0])

    return RawLink(
        index=index,
        name=os.fsdecode(values[_IFLA_IFNAME].rstrip(b"\0")),
        group=number(_IFLA_GROUP),
        port=max(0, number(_IFLA_TXQLEN) - _TXQLEN),
        mac=values.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=number(_IFLA_MTU),
        up=bool(flags & 1),
    )
