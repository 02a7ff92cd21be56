"""Settings of a VF: one change a message, in sriov-cni's order, and back to what they were."""

from __future__ import annotations

import errno
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hwmgr import vfsettings
from hwmgr.errors import NetlinkError
from hwmgr.model import LinkState, VFSettings, VlanProto
from tests.fakes.vf_side import fresh

if TYPE_CHECKING:
    from tests.fakes.machine import Machine

PF = "0000:01:00.0"
ALL = VFSettings(
    mac="02:00:00:00:00:42",
    vlan=100,
    qos=5,
    proto=VlanProto.DOT1AD,
    min_rate=10,
    max_rate=100,
    spoofchk=False,
    trust=True,
    link_state=LinkState.ENABLE,
)
SEQUENCES = json.loads((Path(__file__).parents[1] / "vectors/sriov/sequences.json").read_text())[
    "cases"
]
ADMIN = [c for c in SEQUENCES if c["op"] == "admin_calls"]
ORDER = ["vlan", "mac", "rate", "spoofchk", "trust", "link_state"]


def pf_index(machine: Machine) -> int:
    return machine.netlink.space()["eth1"].index


def drawn() -> st.SearchStrategy[VFSettings]:
    return st.builds(
        VFSettings,
        mac=st.sampled_from([None, "00:00:00:00:00:00", "02:00:00:00:00:01"]),
        vlan=st.sampled_from([None, 0, 5]),
        qos=st.sampled_from([None, 0, 3]),
        proto=st.sampled_from([None, *VlanProto]),
        min_rate=st.sampled_from([None, 0, 10]),
        max_rate=st.sampled_from([None, 0, 100]),
        spoofchk=st.sampled_from([None, True, False]),
        trust=st.sampled_from([None, True, False]),
        link_state=st.sampled_from([None, *LinkState]),
    )


def test_all_of_them_one_by_one_in_order(machine: Machine) -> None:
    with machine.netlink.links() as links:
        vfsettings.apply(machine.node, links, pf_index(machine), 3, ALL)
    history = machine.sim.vf_side.history(PF)
    assert [vf for vf, _ in history] == [3] * 6
    assert [sorted(change) for _, change in history] == [
        ["proto", "qos", "vlan"],
        ["mac"],
        ["max_rate", "min_rate"],
        ["spoofchk"],
        ["trust"],
        ["link_state"],
    ]
    assert machine.sim.vf_side.get(PF)[3] == ALL
    assert machine.sim.vf_side.get(PF)[2] == fresh(2)
    assert machine.checkpoints == [f"attach.set.{name}" for name in ORDER]
    with machine.netlink.links() as links:
        assert vfsettings.give_back(links, pf_index(machine), 3, fresh(3)) == []
    assert machine.sim.vf_side.get(PF)[3] == fresh(3)


@pytest.mark.parametrize("case", ADMIN, ids=[c["id"] for c in ADMIN])
def test_vector_of_what_is_set_when_added(machine: Machine, case: dict[str, Any]) -> None:
    conf = case["config"]
    wanted = VFSettings(
        mac=conf.get("mac"),
        vlan=conf.get("vlan"),
        qos=conf.get("vlanQoS"),
        proto=VlanProto(conf["vlanProto"]) if "vlanProto" in conf else None,
        min_rate=conf.get("min_tx_rate"),
        max_rate=conf.get("max_tx_rate"),
        spoofchk=None if "spoofchk" not in conf else conf["spoofchk"] == "on",
        trust=None if "trust" not in conf else conf["trust"] == "on",
        link_state=LinkState(conf["link_state"]) if "link_state" in conf else None,
    )
    with machine.netlink.links() as links:
        vfsettings.apply(machine.node, links, pf_index(machine), case["vf"], wanted)
    got = [_words(change) for _, change in machine.sim.vf_side.history(PF)]
    assert got == [_expected(call) for call in case["expect_add"]]


def test_a_refusal_is_named_and_what_was_set_before_can_be_taken_back(machine: Machine) -> None:
    machine.sim.vf_side.refuse(PF, "trust")
    with machine.netlink.links() as links:
        with pytest.raises(NetlinkError) as caught:
            vfsettings.apply(machine.node, links, pf_index(machine), 0, ALL)
        assert caught.value.errno == errno.EOPNOTSUPP
        assert vfsettings.give_back(links, pf_index(machine), 0, fresh(0)) == []
    assert machine.sim.vf_side.get(PF)[0] == fresh(0)


def test_what_cannot_be_taken_back_is_said_and_the_rest_is_done(machine: Machine) -> None:
    machine.sim.vf_side.put(PF, 0, ALL)
    machine.sim.vf_side.refuse(PF, "vlan", errno.EPERM)
    with machine.netlink.links() as links:
        problems = vfsettings.give_back(links, pf_index(machine), 0, fresh(0))
    assert len(problems) == 1
    now = machine.sim.vf_side.get(PF)[0]
    assert now == replace(fresh(0), vlan=100, qos=5, proto=VlanProto.DOT1AD)


def test_a_vf_that_the_pf_does_not_list(machine: Machine) -> None:
    with machine.netlink.links() as links:
        assert vfsettings.give_back(links, pf_index(machine), 99, fresh(99)) != []


@given(now=drawn(), wanted=drawn())
def test_differences_are_what_makes_them_equal(now: VFSettings, wanted: VFSettings) -> None:
    change = vfsettings.differences(now, wanted)
    groups = list(vfsettings.steps(change))
    after = now
    for _, step in groups:
        given_ = {f.name: getattr(step, f.name) for f in fields(step)}
        after = replace(after, **{k: v for k, v in given_.items() if v is not None})
    assert vfsettings.differences(after, wanted) == VFSettings()
    for name in ("mac", "spoofchk", "trust", "link_state", "vlan"):
        goal = getattr(wanted, name)
        assert goal is None or getattr(after, name) == goal
        if goal is None:
            assert getattr(after, name) == getattr(now, name)


@given(drawn())
def test_nothing_differs_from_itself(settings: VFSettings) -> None:
    assume(settings.vlan is None or settings.proto is not None)  # a kernel always says which
    assert list(vfsettings.steps(vfsettings.differences(settings, settings))) == []


def _words(change: dict[str, object]) -> list[object]:
    if "vlan" in change:
        return ["vlan", change["vlan"], change["qos"], change["proto"]]
    if "max_rate" in change:
        return ["rate", change["min_rate"], change["max_rate"]]
    ((name, value),) = change.items()
    return [name, value]


def _expected(call: list[Any]) -> list[Any]:
    if call[0] == "vlan":
        proto = {0x8100: "802.1q", 0x88A8: "802.1ad"}.get(call[3], call[3])
        return [*call[:3], proto]
    if call[0] == "link_state":
        return [
            "link_state",
            ["auto", "enable", "disable"][call[1]] if isinstance(call[1], int) else call[1],
        ]
    return call
