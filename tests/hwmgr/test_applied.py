"""What apply has made: told when it is otherwise by now, and kept by repair."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwmgr import claims
from hwmgr.applyrecord import ApplyRecords, ApplyStage, Given
from hwmgr.desired import applying, reverting
from hwmgr.desired.applypf import Manner
from hwmgr.doctor import examination as doctor
from hwmgr.doctor import repair
from hwmgr.driver import bind, current_override, unbind, write_override
from hwmgr.inventory import inventory
from hwmgr.model import LinkState, PciAddress, VFSettings, VFState, VlanProto
from hwmgr.pci import device_path, list_vfs
from tests.fakes.devlink import FakeDevlink
from tests.fakes.machine import Machine, replace_node
from tests.hwmgr.desired.test_applying import EVERYTHING, PF, PLAIN, wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmgr.doctor.findings import Finding

PATH = f"applied/{PF}.json"


def findings(machine: Machine) -> list[Finding]:
    return [f for f in doctor.examine(machine.node) if f.id != "vf-up"]


@pytest.fixture
def applied(machine: Machine) -> Machine:
    machine.sim.write(device_path(PF, "sriov_numvfs"), "0")
    machine.netlink.edit("eth1", up=False)
    applying.apply(machine.node, wanted(EVERYTHING), PLAIN)
    assert findings(machine) == []
    return machine


def number_changed(machine: Machine) -> str:
    for number in ("0", "5"):
        machine.sim.write(device_path(PF, "sriov_numvfs"), number)
    return "numVfs is 5, it is to be 7"


def fewer_than_were_set_up(machine: Machine) -> str:
    number_changed(machine)
    return "VF 5, which was set up, is gone"


def mtu_changed(machine: Machine) -> str:
    machine.netlink.edit("eth1", mtu=1500)
    return "mtu is 1500, it is to be 9000"


def set_down(machine: Machine) -> str:
    machine.netlink.edit("eth1", up=False)
    return "up is False, it is to be True"


def driver_changed(machine: Machine) -> str:
    bind(machine.sim, machine.nics[0].vf(4), "vfio-pci")
    return "VF 4 is on vfio-pci, it is to be on igb_uio"


def unbound(machine: Machine) -> str:
    unbind(machine.sim, machine.nics[0].vf(0))
    return "VF 0 is on no driver, it is to be on vfio-pci"


def vlan_changed(machine: Machine) -> str:
    machine.sim.vf_side.change(PF, 1, VFSettings(vlan=9))
    return "VF 1 has vlan 9, it is to have 100"


def trust_lost(machine: Machine) -> str:
    machine.sim.vf_side.change(PF, 3, VFSettings(trust=False))
    return "VF 3 has trust False, it is to have True"


@pytest.mark.parametrize(
    "change",
    [
        number_changed,
        fewer_than_were_set_up,
        mtu_changed,
        set_down,
        driver_changed,
        unbound,
        vlan_changed,
        trust_lost,
    ],
)
def test_drift_is_told_and_apply_ends_it(
    applied: Machine, change: Callable[[Machine], str]
) -> None:
    text = change(applied)
    (found,) = [f for f in findings(applied) if f.id == "applied-drift"]
    assert (found.subject, found.cure, found.repair) == (PF, None, "hwmgr apply desired.yaml")
    assert text in [e.fact for e in found.evidence]
    assert all(e.source for e in found.evidence)
    repair.carry_out(applied.node, repair.plan(applied.node))
    applying.apply(applied.node, wanted(EVERYTHING), PLAIN)
    assert findings(applied) == []


BY_HAND = {
    "numVfs": 7,
    "vfs": [
        {"range": "0", "vlan": 100, "qos": 3, "maxTxRate": 100},
        {"range": "1", "trust": True, "linkState": "enable"},
        {"range": "2", "driver": "vfio-pci"},
    ],
}


@pytest.fixture
def by_hand(machine: Machine) -> Machine:
    """Somebody has made of the VFs what the file wants, before it was ever applied."""
    side = machine.sim.vf_side
    side.change(PF, 0, VFSettings(vlan=100, qos=3, proto=VlanProto.DOT1Q))
    side.change(PF, 0, VFSettings(min_rate=0, max_rate=100))
    side.change(PF, 1, VFSettings(trust=True))
    side.change(PF, 1, VFSettings(link_state=LinkState.ENABLE))
    bind(machine.sim, machine.nics[0].vf(2), "vfio-pci")
    return machine


def test_what_was_as_desired_is_not_left_over(by_hand: Machine) -> None:
    vfs = [vf.address for vf in list_vfs(by_hand.sim, PF)]
    assert {f.subject for f in findings(by_hand)} == set(vfs[:3])
    before = by_hand.snapshot()
    for _ in range(2):
        assert applying.apply(by_hand.node, wanted(BY_HAND), PLAIN) == []
        assert findings(by_hand) == []
        assert repair.plan(by_hand.node) == []
        assert {i.state for i in inventory(by_hand.node)} == {VFState.FREE}
    assert by_hand.snapshot() == before
    # Apply changed nothing, so there is nothing to go back to.
    assert reverting.plan_revert(by_hand.node, PLAIN).changes == ()
    assert reverting.revert(by_hand.node, PLAIN) == []
    assert by_hand.snapshot() == before
    assert ApplyRecords(by_hand.node.state).read(PF) is None
    assert {f.subject for f in findings(by_hand)} == set(vfs[:3])


def test_what_the_file_wants_no_more_is_left_over_again(by_hand: Machine) -> None:
    applying.apply(by_hand.node, wanted(BY_HAND), PLAIN)
    applying.apply(by_hand.node, wanted({"numVfs": 7}), PLAIN)
    assert len(findings(by_hand)) == 3


def test_drift_of_what_was_as_desired(by_hand: Machine) -> None:
    applying.apply(by_hand.node, wanted({**BY_HAND, "mtu": 1500}), PLAIN)
    by_hand.sim.vf_side.change(PF, 1, VFSettings(trust=False))
    by_hand.netlink.edit("eth1", mtu=9000)
    (found,) = findings(by_hand)
    facts = [e.fact for e in found.evidence]
    assert facts[0] == "mtu is 9000, it is to be 1500"
    assert facts[1] == "VF 1 has trust False, it is to have True"
    assert len(applying.apply(by_hand.node, wanted({**BY_HAND, "mtu": 1500}), PLAIN)) == 2
    assert findings(by_hand) == []
    # Given back is what was there when apply first changed it.
    reverting.revert(by_hand.node, PLAIN)
    assert by_hand.sim.vf_side.get(PF)[1].trust is False
    assert by_hand.sim.vf_side.get(PF)[0].vlan == 100


def test_an_override_that_was_as_desired_stays(by_hand: Machine) -> None:
    address = by_hand.nics[0].vf(2)
    write_override(by_hand.sim, address, "vfio-pci")
    for _ in range(2):
        assert applying.apply(by_hand.node, wanted(BY_HAND), PLAIN) == []
    assert current_override(by_hand.sim, address) == "vfio-pci"
    assert findings(by_hand) == []


def test_a_record_of_schema_1_is_read(applied: Machine) -> None:
    """What an older version wrote: what was given, not what was wanted."""
    path = applied.node.state.path("applied", f"{PF}.json")
    value = json.loads(Path(path).read_text())
    del value["wanted"], value["wanted_pf"]
    Path(path).write_text(json.dumps({**value, "schema": 1}))
    assert findings(applied) == []
    text = vlan_changed(applied)
    (found,) = [f for f in findings(applied) if f.id == "applied-drift"]
    assert text in [e.fact for e in found.evidence]
    applying.apply(applied.node, wanted(EVERYTHING), PLAIN)
    assert json.loads(Path(path).read_text())["schema"] == 2
    reverting.revert(applied.node, PLAIN)
    assert list_vfs(applied.sim, PF) == []


def mode_changed(machine: Machine) -> str:
    machine.sim.write(device_path(PF, "sriov_numvfs"), "0")
    machine.node.devlink.set_eswitch_mode(PF, "legacy", 1)
    machine.sim.write(device_path(PF, "sriov_numvfs"), "2")
    return "eswitchMode is legacy, it is to be switchdev"


@pytest.mark.parametrize("already", [False, True])
def test_drift_of_the_eswitch_mode(machine: Machine, already: bool) -> None:
    node = replace_node(machine.node, devlink=FakeDevlink(machine.node.sysfs, PF))
    machine = replace(machine, node=node)
    desired = wanted({"numVfs": 2, "eswitchMode": "switchdev"})
    if already:
        machine.sim.write(device_path(PF, "sriov_numvfs"), "0")
        node.devlink.set_eswitch_mode(PF, "switchdev", 1)
        machine.sim.write(device_path(PF, "sriov_numvfs"), "2")
    assert bool(applying.apply(node, desired, PLAIN)) != already
    assert findings(machine) == []
    text = mode_changed(machine)
    (found,) = findings(machine)
    assert (found.id, found.cure) == ("applied-drift", None)
    assert found.evidence[0].fact == text
    assert found.evidence[0].source == f"devlink dev eswitch show pci/{PF}"
    assert found.repair == "hwmgr apply desired.yaml; that makes all its VFs anew"
    # The mode is the administrator's: repair leaves it.
    repair.carry_out(node, repair.plan(node))
    assert node.devlink.eswitch_mode(PF) == "legacy"
    applying.apply(node, desired, PLAIN)
    assert findings(machine) == []


def test_repair_gives_back_what_apply_gave_and_not_less(applied: Machine) -> None:
    side = applied.sim.vf_side
    given = side.get(PF)
    for index in range(7):
        side.change(PF, index, VFSettings(trust=True))
        side.change(PF, index, VFSettings(vlan=9))
    repair.carry_out(applied.node, repair.plan(applied.node))
    assert findings(applied) == []
    assert side.get(PF) == given
    assert applying.apply(applied.node, wanted(EVERYTHING), PLAIN) == []


def test_a_mac_that_another_plugins_pod_had_is_not_wanted(machine: Machine) -> None:
    """``keep`` is of what the VF itself has; sriov-cni's pod takes its MAC along."""
    pod, address, side = machine.namespace(), machine.nics[0].vf(1), machine.sim.vf_side
    own = side.get(PF)[1].mac
    claims.write(machine.state, address, pod.path)
    side.change(PF, 1, VFSettings(mac="02:00:00:00:00:77"))
    desired = wanted({"mtu": 9000, "vfs": [{"range": "1", "mac": "keep", "trust": True}]})
    applying.apply(machine.node, desired, Manner(force=True))
    record = ApplyRecords(machine.state).read(PF)
    assert record is not None
    assert record.wanted == {1: Given(settings=VFSettings(trust=True))}
    claims.release(machine.state, address, pod.path)
    side.change(PF, 1, VFSettings(mac=own))
    assert "applied-drift" not in {f.id for f in findings(machine)}


def test_a_spoof_check_that_apply_set_is_not_odd(machine: Machine) -> None:
    entry = {"numVfs": 7, "vfs": [{"range": "2", "spoofchk": False}]}
    applying.apply(machine.node, wanted(entry), PLAIN)
    assert findings(machine) == []
    machine.sim.vf_side.change(PF, 4, VFSettings(spoofchk=False))
    assert [(f.id, f.subject) for f in findings(machine)] == [
        ("vf-settings", machine.nics[0].vf(4))
    ]


def test_a_vf_that_is_to_have_no_driver(machine: Machine) -> None:
    applying.apply(machine.node, wanted({"vfs": [{"range": "2", "driver": "none"}]}), PLAIN)
    (found,) = findings(machine)
    assert (found.id, found.severity, found.cure) == ("vf-unbound", "info", None)


@pytest.mark.parametrize(
    ("text", "id_"),
    [
        (b"{", "applied-torn"),
        (b"[]", "applied-torn"),
        (b"{}", "applied-torn"),
        (b'{"schema": 9}', "applied-schema"),
        (b'{"schema": 1}', "applied-torn"),
    ],
)
def test_what_cannot_be_read_is_told_and_its_vfs_are_left(
    applied: Machine, text: bytes, id_: str
) -> None:
    before = applied.snapshot()
    applied.state.write_bytes(text, *PATH.split("/"))
    assert [(f.id, f.subject, f.cure) for f in findings(applied)] == [(id_, PF, None)]
    repair.carry_out(applied.node, repair.plan(applied.node))
    assert applied.snapshot() == before
    assert applied.state.read_bytes(*PATH.split("/")) == text


def test_a_driver_with_a_path_in_its_name_is_damage(applied: Machine) -> None:
    value = json.loads(applied.state.read_bytes(*PATH.split("/")) or b"")
    before: dict[str, object] = {
        "driver": "../../devices",
        "driver_override": None,
        "settings": None,
        "netdevs": [],
    }
    value["vfs"]["0"] = before
    applied.state.write_json(value, *PATH.split("/"))
    assert [f.id for f in findings(applied)] == ["applied-torn"]


def test_a_record_of_another_pf_is_damage(applied: Machine) -> None:
    data = applied.state.read_bytes(*PATH.split("/"))
    applied.state.write_bytes(data or b"", "applied", "0000:09:00.0.json")
    assert [(f.id, f.subject) for f in findings(applied)] == [("applied-torn", "0000:09:00.0")]


def test_a_pf_that_is_gone(applied: Machine) -> None:
    record = ApplyRecords(applied.state).read(PF)
    assert record is not None
    gone = replace(record, address=PciAddress("0000:09:00.0"))
    ApplyRecords(applied.state).write(gone)
    assert [(f.id, f.subject) for f in findings(applied)] == [("applied-no-device", "0000:09:00.0")]
    repair.carry_out(applied.node, repair.plan(applied.node))
    assert findings(applied) == []
    assert applied.state.list("applied") == [f"{PF}.json"]


def test_of_an_earlier_boot_until_it_is_applied_again(applied: Machine) -> None:
    node = replace_node(applied.node, boot_id="another")
    found = [f for f in doctor.examine(node) if f.id == "applied-other-boot"]
    assert [f.repair for f in found] == [
        "hwmgr apply desired.yaml; if it is wanted no more, hwmgr apply --revert"
    ]
    reverting.revert(node, PLAIN)
    assert "applied-other-boot" not in {f.id for f in doctor.examine(node)}


@pytest.mark.parametrize("stage", [ApplyStage.APPLYING, ApplyStage.REVERTING])
def test_unfinished_unless_somebody_is_at_work(applied: Machine, stage: ApplyStage) -> None:
    records = ApplyRecords(applied.state)
    record = records.read(PF)
    assert record is not None
    records.write(replace(record, stage=stage))
    assert [f.id for f in findings(applied)] == ["applied-unfinished"]
    with applied.node.locks.pf(PF):
        assert findings(applied) == []
