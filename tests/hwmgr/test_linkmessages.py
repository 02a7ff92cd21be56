"""What rtnetlink is asked to change: an attribute a message, bytes where pyroute2's are wrong."""

from __future__ import annotations

import struct

import pytest

from hwmgr import linkmessages
from hwmgr.model import LinkState, VFSettings, VlanProto


def test_only_what_is_asked_for_is_set_each_by_itself() -> None:
    change = VFSettings(mac="02:00:00:00:00:01", vlan=0, trust=False, link_state=LinkState.DISABLE)
    assert list(linkmessages.vf_attributes(change)) == [
        ("MAC 02:00:00:00:00:01", {"mac": "02:00:00:00:00:01"}),
        ("VLAN 0", {"vlan": {"vlan": 0, "qos": 0}}),
        ("trust", {"trust": 0}),
        ("link state", {"link_state": 2}),
    ]


def test_a_rate_that_is_not_asked_for_is_none() -> None:
    ((what, message),) = linkmessages.vf_attributes(VFSettings(max_rate=200))
    assert (what, message) == (
        "rate 0-200 Mbit/s",
        {"rate": {"min_tx_rate": 0, "max_tx_rate": 200}},
    )


def test_a_vlan_of_802_1ad_is_a_message_of_its_own() -> None:
    change = VFSettings(vlan=100, qos=3, proto=VlanProto.DOT1AD)
    assert list(linkmessages.vf_attributes(change)) == []
    message = linkmessages.dot1ad_vlan(7, 2, change)
    length, kind = struct.unpack_from("=IH", message)
    assert (length, kind) == (len(message), 19)
    assert struct.unpack_from("=i", message, 20) == (7,)
    # The kernel refuses a struct ifla_vf_vlan_info without its padding.
    assert message[-20:-16] == struct.pack("=HH", 20, 1)
    assert message[-16:] == struct.pack("=III", 2, 100, 3) + b"\x88\xa8\0\0"


@pytest.mark.parametrize(("code", "errno"), [(0, 0), (-22, 22)])
def test_the_answer_tells_the_errno(code: int, errno: int) -> None:
    assert linkmessages.error_code(bytes(16) + struct.pack("=i", code)) == errno


@pytest.mark.parametrize(
    ("dst", "gateway", "rest"),
    [
        ("10.0.0.0/8", "10.1.0.1", {"gateway": "10.1.0.1", "family": 2}),
        ("10.0.0.0/8", None, {"scope": 253, "family": 2}),
        ("fd00::/8", None, {"scope": 0, "family": 10}),
    ],
)
def test_a_route_without_gateway_is_of_the_link(
    dst: str, gateway: str | None, rest: dict[str, object]
) -> None:
    request = linkmessages.route_request(3, dst, gateway, {"priority": 5})
    assert request == {"dst": dst, "oif": 3, "priority": 5, **rest}
