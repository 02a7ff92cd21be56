"""Reads of rtnetlink in plain structs: netdevs, addresses, VF settings; no client library.

Reading is what every listing and most calls do, and importing pyroute2 costs more than the rest of
them together; what changes something goes through pyroute2 (hwmgr.netlink).
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from hwmgr.errors import NetlinkError
from hwmgr.model import LinkState, Netdev, VFSettings, VlanProto

if TYPE_CHECKING:
    from collections.abc import Iterator

# include/uapi/linux/netlink.h, rtnetlink.h
_ERROR, _DONE, _REQUEST, _DUMP = 2, 3, 0x1, 0x300
_NEWLINK, _GETLINK, _NEWADDR, _GETADDR = 16, 18, 20, 22
_DUMP_INTERRUPTED = 0x10
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
# RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS. Without the second, per-VF counters make the answer of
# a PF with many VFs larger than a u16 attribute can be.
_EXT_MASK = 1 | 8
_SKIP_STATS = 8
# include/uapi/linux/if_link.h, if_addr.h
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_IFALIAS = 1, 3, 4, 10, 20
_IFLA_VFINFO_LIST, _IFLA_EXT_MASK, _IFLA_PROP_LIST = 22, 29, 52
_IFLA_ALT_IFNAME, _IFLA_PERM_ADDRESS, _IFLA_PARENT_DEV_NAME = 53, 54, 56
_VF_MAC, _VF_VLAN, _VF_SPOOFCHK, _VF_LINK_STATE, _VF_RATE, _VF_TRUST, _VF_VLAN_LIST = (
    *(1, 2, 4, 5, 6, 9, 12),
)
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_SCOPE_UNIVERSE = 0
_ETHERTYPE_8021AD = 0x88A8
_LINK_STATES = (LinkState.AUTO, LinkState.ENABLE, LinkState.DISABLE)
_UNSET = 0xFFFFFFFF  # rtnl_fill_vfinfo() starts from memset(-1): the driver did not say
_ENODEV = 19
_LARGEST = 1 << 20
_TRIES = 8


class LinkReads:
    """One socket of the namespace in which it is made; one thread at a time.

    All methods raise NetlinkError when the kernel refuses.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, 0))
        # Linux 4.20: a dump of addresses is of the link that is asked for; before, it is of all.
        with suppress(OSError):
            self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def find(self, name: str) -> Netdev | None:
        """Return the netdev of that name or alternative name, with its addresses."""
        data = os.fsencode(name)
        found = None
        if len(data) <= 15:
            found = self._link(f"look up {name}", 0, _attribute(_IFLA_IFNAME, data + b"\0"))
        if found is None:
            found = self._link(f"look up {name}", 0, _attribute(_IFLA_ALT_IFNAME, data + b"\0"))
        return None if found is None else self._whole(found)

    def get(self, index: int) -> Netdev | None:
        """Return the netdev of that index, with its addresses."""
        found = self._link(f"look up link {index}", index)
        return None if found is None else self._whole(found)

    def is_running(self, index: int) -> bool:
        """Tell whether a netdev has carrier; one that is not there has none."""
        found = self._link(f"look up link {index}", index)
        return found is not None and bool(_LINK.unpack_from(found)[3] & _IFF_RUNNING)

    def permanent_mac(self, index: int) -> str | None:
        """Return the MAC that the hardware has of itself; a bond gives its ports one of its own.

        None where the driver does not tell, and before Linux 5.6.
        """
        found = self._link(f"look up link {index}", index)
        values = dict(_attributes(found, _LINK.size)) if found else {}
        mac = values.get(_IFLA_PERM_ADDRESS, b"")
        return mac.hex(":") if any(mac) else None

    def netdevs(self) -> list[Netdev]:
        """Return every netdev, without addresses."""
        body = _LINK.pack(0, 0, 0, 0, 0) + _mask(_SKIP_STATS)
        answers = self._ask("list links", _GETLINK, _DUMP, body)
        return [_netdev(answer, ()) for kind, answer in answers if kind == _NEWLINK]

    def addresses(self, index: int = 0) -> dict[int, tuple[str, ...]]:
        """Return the addresses of global scope by the index of their netdev, of all or of one."""
        found: dict[int, tuple[str, ...]] = {}
        body = _ADDRESS.pack(0, 0, 0, 0, index)
        for kind, answer in self._ask("list addresses", _GETADDR, _DUMP, body):
            family, prefix, _flags, scope, of = _ADDRESS.unpack_from(answer)
            if kind != _NEWADDR or scope != _SCOPE_UNIVERSE:
                continue
            values = dict(_attributes(answer, _ADDRESS.size))
            ip = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
            if ip is not None and family in (socket.AF_INET, socket.AF_INET6):
                text = f"{socket.inet_ntop(family, ip)}/{prefix}"
                found[of] = (*found.get(of, ()), text)
        return found

    def vf_settings(self, pf_index: int) -> dict[int, VFSettings]:
        """Return what the PF's driver says of each of its VFs, by VF index."""
        answer = self._link(f"ask link {pf_index} for its VFs", pf_index)
        settings = {}
        for kind, listed in _attributes(answer, _LINK.size) if answer else ():
            if kind != _IFLA_VFINFO_LIST:
                continue
            for _kind, info in _attributes(listed, 0):
                values = dict(_attributes(info, 0))
                mac = values.get(_VF_MAC)
                if mac:
                    settings[int.from_bytes(mac[:4], sys.byteorder)] = _vf_settings(mac, values)
        return settings

    def _link(self, text: str, index: int, asked: bytes = b"") -> bytes | None:
        body = _LINK.pack(0, 0, index, 0, 0) + asked + _mask(_EXT_MASK)
        try:
            answers = self._ask(text, _GETLINK, 0, body)
        except NetlinkError as error:
            if error.errno == _ENODEV:
                return None
            raise
        return next((answer for kind, answer in answers if kind == _NEWLINK), None)

    def _whole(self, link: bytes) -> Netdev:
        (index,) = struct.unpack_from("=i", link, 4)
        return _netdev(link, self.addresses(index).get(index, ()))

    def _ask(self, text: str, kind: int, flags: int, body: bytes) -> list[tuple[int, bytes]]:
        """Send one request; return the answers, asking again where a dump was cut across by a
        change (NLM_F_DUMP_INTR)."""
        for _ in range(_TRIES):
            self._sequence += 1
            length = _HEADER.size + len(body)
            header = _HEADER.pack(length, kind, _REQUEST | flags, self._sequence, 0)
            try:
                self._socket.send(header + body)
                answers, whole = self._answers(text, dump=bool(flags))
            except OSError as error:
                raise NetlinkError(text, error.errno or 0) from error
            if whole:
                return answers
        raise NetlinkError(f"{text} (the list kept changing)", 4)

    def _answers(self, text: str, *, dump: bool) -> tuple[list[tuple[int, bytes]], bool]:
        found: list[tuple[int, bytes]] = []
        whole = True
        while True:
            data = self._socket.recv(_LARGEST)
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
                body = data[offset + _HEADER.size : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & _DUMP_INTERRUPTED
                if kind in (_ERROR, _DONE):
                    code = -int(struct.unpack_from("=i", body)[0]) if len(body) >= 4 else 0
                    if code > 0:
                        raise NetlinkError(text, code)
                    return found, whole
                found.append((kind, body))
                if not dump:
                    return found, whole


def _attribute(kind: int, payload: bytes) -> bytes:
    data = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload
    return data + bytes(-len(data) % 4)


def _mask(bits: int) -> bytes:
    return _attribute(_IFLA_EXT_MASK, struct.pack("=I", bits))


def _attributes(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield type and payload of each attribute behind ``offset``; stops at one that is cut off."""
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            return
        yield kind & _TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def _text(data: bytes | None) -> str | None:
    """Return a text as the names of files are read: a name is bytes of anybody's, and is found and
    taken off again by the very same."""
    return None if data is None else os.fsdecode(data.rstrip(b"\0"))


def _number(data: bytes | None, position: int = 0) -> int | None:
    """Return the n-th u32 of a struct; None where it is absent or the driver left it unset."""
    if data is None or len(data) < 4 * position + 4:
        return None
    value = int.from_bytes(data[4 * position : 4 * position + 4], sys.byteorder)
    return None if value == _UNSET else value


def _netdev(link: bytes, addresses: tuple[str, ...]) -> Netdev:
    _family, _type, index, flags, _change = _LINK.unpack_from(link)
    values = dict(_attributes(link, _LINK.size))
    properties = values.get(_IFLA_PROP_LIST, b"")
    names = [data for kind, data in _attributes(properties, 0) if kind == _IFLA_ALT_IFNAME]
    return Netdev(
        index=index,
        name=_text(values.get(_IFLA_IFNAME)) or "",
        mac=values.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=_number(values.get(_IFLA_MTU)) or 0,
        up=bool(flags & _IFF_UP),
        altnames=tuple(_text(name) or "" for name in names),
        alias=_text(values.get(_IFLA_IFALIAS)),
        master=_number(values.get(_IFLA_MASTER)),
        # Linux 5.14+: the PCI address, also where no sysfs is mounted for the namespace.
        parent=_text(values.get(_IFLA_PARENT_DEV_NAME)),
        addresses=addresses,
    )


def _vf_settings(mac: bytes, values: dict[int, bytes]) -> VFSettings:
    vlan, rate = values.get(_VF_VLAN), values.get(_VF_RATE)
    state = _number(values.get(_VF_LINK_STATE), 1)
    spoofchk = _number(values.get(_VF_SPOOFCHK), 1)
    trust = _number(values.get(_VF_TRUST), 1)
    listed = next(_attributes(values.get(_VF_VLAN_LIST, b""), 0), None)
    # struct ifla_vf_vlan_info: vf, vlan, qos, and the protocol in network byte order.
    ethertype = int.from_bytes(listed[1][12:14], "big") if listed else 0
    return VFSettings(
        # 32 bytes, of which an Ethernet driver fills six.
        mac=mac[4:10].hex(":"),
        vlan=_number(vlan, 1),
        qos=_number(vlan, 2),
        proto=VlanProto.DOT1AD if ethertype == _ETHERTYPE_8021AD else VlanProto.DOT1Q,
        min_rate=_number(rate, 1),
        max_rate=_number(rate, 2),
        spoofchk=None if spoofchk is None else bool(spoofchk),
        trust=None if trust is None else bool(trust),
        link_state=_LINK_STATES[state] if state in (0, 1, 2) else None,
    )
