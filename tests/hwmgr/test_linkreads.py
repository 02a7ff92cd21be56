"""Reading rtnetlink: beside pyroute2 on this kernel, and on answers made by hand."""

from __future__ import annotations

import errno
import struct
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmgr import linkreads
from hwmgr.errors import NetlinkError
from hwmgr.linkreads import LinkReads
from hwmgr.model import LinkState, VFSettings, VlanProto
from tests.lab import bypyroute

if TYPE_CHECKING:
    from collections.abc import Iterator

UNSET = 0xFFFFFFFF
MAC = bytes.fromhex("02000000000a")


def attribute(kind: int, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    data = struct.pack("=HH", 4 + len(payload), kind) + payload
    return data + bytes(-len(data) % 4)


def link(index: int, *attributes: bytes, flags: int = 1) -> bytes:
    return struct.pack("=BxHiII", 0, 1, index, flags, 0) + b"".join(attributes)


def vf(number: int, *attributes: bytes) -> bytes:
    mac = attribute(1, struct.pack("=I", number), MAC, bytes(26))
    return attribute(1, mac, *attributes)


def numbers(kind: int, *values: int) -> bytes:
    return attribute(kind, struct.pack(f"={len(values)}I", *values))


class Wire:
    """Stands in for the socket: answers each request with the next of some lists of messages."""

    def __init__(self, *answers: list[tuple[int, int, bytes]]) -> None:
        self._answers = list(answers)
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, _size: int) -> bytes:
        (sequence,) = struct.unpack_from("=I", self.sent[-1], 8)
        found = b""
        for kind, flags, body in self._answers.pop(0):
            found += struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body
            found += bytes(-len(found) % 4)
        return found

    def close(self) -> None:
        return


@pytest.fixture
def reads() -> Iterator[LinkReads]:
    with closing(LinkReads()) as made:
        yield made


def answering(reads: LinkReads, *answers: list[tuple[int, int, bytes]]) -> Wire:
    reads._socket.close()
    wire = Wire(*answers)
    reads._socket = wire  # type: ignore[assignment]
    return wire


def test_this_kernel_is_read_as_pyroute2_reads_it(reads: LinkReads) -> None:
    netdevs = reads.netdevs()
    assert netdevs == bypyroute.netdevs()
    assert {i: list(a) for i, a in reads.addresses().items()} == bypyroute.addresses()
    lo = reads.find("lo")
    assert lo is not None
    assert lo == reads.get(lo.index)
    assert lo.name in {netdev.name for netdev in netdevs}
    assert reads.vf_settings(lo.index) == {}
    assert reads.find("no-such0") is reads.find("no-such-interface-here") is None
    assert reads.get(2**31 - 1) is None


def test_settings_of_a_vf(reads: LinkReads) -> None:
    vlans = attribute(12, attribute(1, struct.pack("=III", 1, 9, 2), b"\x88\xa8\0\0"))
    known = vf(
        1, numbers(2, 1, 9, 2), numbers(4, 1, 1), numbers(5, 1, 2), numbers(6, 1, 10, 100),
        numbers(9, 1, 0), vlans,
    )  # fmt: skip
    unset = vf(0, *(numbers(kind, 0, UNSET) for kind in (4, 5, 9)))
    answer = link(7, attribute(3, b"pf0\0"), attribute(22, unset, known))
    answering(reads, [(16, 0, answer)])
    found = reads.vf_settings(7)
    assert found[0] == VFSettings(mac="02:00:00:00:00:0a", proto=VlanProto.DOT1Q)
    assert found[1] == VFSettings(
        mac="02:00:00:00:00:0a",
        vlan=9,
        qos=2,
        proto=VlanProto.DOT1AD,
        min_rate=10,
        max_rate=100,
        spoofchk=True,
        trust=False,
        link_state=LinkState.DISABLE,
    )


def test_an_infiniband_address_is_whole(reads: LinkReads) -> None:
    data = bytes(range(20))
    answering(reads, [(16, 0, link(5, attribute(1, data), attribute(3, b"ib0\0"))), (3, 0, b"")])
    (netdev,) = reads.netdevs()
    assert (netdev.name, netdev.mac, netdev.up) == ("ib0", data.hex(":"), True)


def test_a_list_that_changed_while_it_was_read_is_read_again(reads: LinkReads) -> None:
    whole = link(1, attribute(3, b"lo\0"))
    torn = [(16, 0x10, whole), (3, 0, struct.pack("=i", 0))]
    wire = answering(reads, torn, torn, [(16, 0, whole), (16, 0, whole), (3, 0, b"")])
    assert [netdev.name for netdev in reads.netdevs()] == ["lo", "lo"]
    assert len(wire.sent) == 3
    answering(reads, *([torn] * 99))
    with pytest.raises(NetlinkError, match="kept changing"):
        reads.netdevs()


def test_a_refusal_has_its_errno(reads: LinkReads) -> None:
    answering(reads, [(2, 0, struct.pack("=i", -errno.EPERM))])
    with pytest.raises(NetlinkError, match="ask link 3 for its VFs") as refused:
        reads.vf_settings(3)
    assert refused.value.errno == errno.EPERM


@given(st.binary(max_size=200))
def test_no_answer_breaks_the_reader(data: bytes) -> None:
    listed = list(linkreads._attributes(data, 0))
    assert sum(len(payload) + 4 for _kind, payload in listed) <= len(data) + 3 * len(listed)
    with closing(LinkReads()) as reads:
        answer = [(16, 0, link(1, data))]
        answering(reads, answer, [*answer, (3, 0, b"")])
        reads.vf_settings(1)
        assert len(reads.netdevs()) == 1
