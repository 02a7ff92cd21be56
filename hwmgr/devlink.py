"""The only module that speaks devlink: the mode of a NIC's embedded switch (eswitch).

Generic netlink by hand, since pyroute2 has no eswitch commands and costs more to import than the
two messages. Numbers: include/uapi/linux/genetlink.h and devlink.h.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Protocol

from hwmgr.deadline import within
from hwmgr.errors import NetlinkError

if TYPE_CHECKING:
    from socket import socket

_NETLINK_GENERIC = 16
_GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY = 3
_CTRL_ATTR_FAMILY_ID = 1
_CTRL_ATTR_FAMILY_NAME = 2
_ESWITCH_GET = 29
_ESWITCH_SET = 30
_ATTR_BUS_NAME = 1
_ATTR_DEV_NAME = 2
_ATTR_ESWITCH_MODE = 25
_NLM_F_REQUEST_ACK = 5
_NLMSG_ERROR = 2
_HEADER = 20  # struct nlmsghdr and struct genlmsghdr
_MODES = ("legacy", "switchdev")
_ABSENT = (errno.ENODEV, errno.EOPNOTSUPP, errno.ENOENT, errno.EINVAL)


class Devlink(Protocol):
    """Asks and sets how a PF's embedded switch works."""

    def eswitch_mode(self, address: str, bus: str = "pci") -> str | None:
        """Return ``legacy`` or ``switchdev``; None where the driver has no such switch."""

    def set_eswitch_mode(self, address: str, mode: str, seconds: float, bus: str = "pci") -> None:
        """Set the mode. Raises NetlinkError; ETIMEDOUT when it is not done after ``seconds``."""


class NoDevlink:
    """A node without devlink: no driver has an embedded switch."""

    def eswitch_mode(self, address: str, bus: str = "pci") -> str | None:  # noqa: ARG002
        """See Devlink."""
        return None

    def set_eswitch_mode(self, address: str, mode: str, seconds: float, bus: str = "pci") -> None:  # noqa: ARG002
        """See Devlink."""
        raise NetlinkError(f"set eswitch mode {mode} of {bus}/{address}", errno.EOPNOTSUPP)


class KernelDevlink:
    """The kernel's devlink."""

    def eswitch_mode(self, address: str, bus: str = "pci") -> str | None:
        """See Devlink."""
        try:
            answer = _ask(_ESWITCH_GET, _handle(bus, address))
        except NetlinkError as error:
            if error.errno in _ABSENT:
                return None
            raise
        mode = _attributes(answer).get(_ATTR_ESWITCH_MODE)
        number = struct.unpack("=H", mode[:2])[0] if mode else None
        return _MODES[number] if number in (0, 1) else None

    def set_eswitch_mode(self, address: str, mode: str, seconds: float, bus: str = "pci") -> None:
        """See Devlink. A change of mode makes netdevs anew, and a driver can hang in it."""
        wanted = struct.pack("=H", _MODES.index(mode))
        request = _handle(bus, address) + _attribute(_ATTR_ESWITCH_MODE, wanted)

        def work() -> int:
            try:
                _ask(_ESWITCH_SET, request)
            except NetlinkError as error:
                return error.errno
            return 0

        code = within(seconds, work)
        if code != 0:
            what = f"set eswitch mode {mode} of {bus}/{address}"
            raise NetlinkError(what, errno.ETIMEDOUT if code is None else code)


def _ask(command: int, body: bytes) -> bytes:
    """Send a devlink command and return the attributes of its answer, b"" for a mere ack."""
    import socket

    name = _attribute(_CTRL_ATTR_FAMILY_NAME, b"devlink\0")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as door:
        door.bind((0, 0))
        family = _attributes(_exchange(door, _GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, 1, name))
        (number,) = struct.unpack("=H", family[_CTRL_ATTR_FAMILY_ID][:2])
        return _exchange(door, number, command, 1, body)


def _exchange(door: socket, family: int, command: int, version: int, body: bytes) -> bytes:
    header = struct.pack("=IHHII", _HEADER + len(body), family, _NLM_F_REQUEST_ACK, 1, 0)
    door.sendall(header + struct.pack("=BBH", command, version, 0) + body)
    found = b""
    while True:
        data = door.recv(65536)
        while data:
            length, kind = struct.unpack_from("=IH", data)
            if kind == _NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", data, 16)
                if code:
                    raise NetlinkError(f"devlink command {command}", -code)
                return found
            found = data[_HEADER:length]
            data = data[(length + 3) & ~3 :]


def _handle(bus: str, name: str) -> bytes:
    return _attribute(_ATTR_BUS_NAME, bus.encode() + b"\0") + _attribute(
        _ATTR_DEV_NAME, name.encode() + b"\0"
    )


def _attribute(kind: int, payload: bytes) -> bytes:
    text = struct.pack("=HH", len(payload) + 4, kind) + payload
    return text + b"\0" * (-len(text) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found
