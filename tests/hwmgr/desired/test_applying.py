"""Apply on the simulated kernel: as desired, once; refused, forced, killed anywhere, reverted."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwmgr.applyrecord import ApplyRecords, ApplyStage
from hwmgr.desired import applying, reverting
from hwmgr.desired.applypf import Manner
from hwmgr.desired.file import parse
from hwmgr.driver import current_driver, current_override
from hwmgr.errors import (
    ApplyIncomplete,
    BindError,
    DeviceBusy,
    HwmgrError,
    NetlinkError,
    PlanRefused,
    RecordUnusable,
    StateError,
    SysfsError,
    UndoIncomplete,
    WriteHangs,
)
from hwmgr.inventory import inventory
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, DpdkRequest, Kind, PciAddress, VFSettings, VFState
from hwmgr.pci import device_path, list_vfs
from hwmgr.store import StateDir
from tests.fakes.devlink import FakeDevlink
from tests.fakes.machine import Machine, build, replace_node
from tests.fakes.mortal import Killed, Life, mortal
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hwmgr.desired.changes import Change
    from hwmgr.desired.state import Desired
    from hwmgr.node import Node
    from tests.fakes.namespaces import Namespace

PF = PciAddress("0000:01:00.0")
PLAIN = Manner()
FORCED = Manner(force=True)
CONTAINER = "feedbeef" * 8
EVERYTHING = {
    "numVfs": 7,
    "mtu": 9000,
    "up": True,
    "vfs": [
        {"range": "0-2", "driver": "vfio-pci", "mac": "stable", "vlan": 100, "qos": 3},
        {"range": "3", "mtu": 1400, "trust": True, "spoofchk": False, "mac": ["02:00:00:00:00:09"]},
        {"range": "4-5", "driver": "igb_uio", "maxTxRate": 100},
    ],
}


def wanted(*entries: dict[str, Any]) -> Desired:
    """Return the desired state of files with these entries; eth1 where they match nothing else."""
    pfs = [{"match": {"name": "eth1"}, **entry} for entry in entries]
    return parse("desired.yaml", yaml.load(yaml.safe_dump({"pfs": pfs}), yaml.BaseLoader))


def drivers(node: Node) -> list[str | None]:
    return [current_driver(node.sysfs, vf.address) for vf in list_vfs(node.sysfs, PF)]


def attributes(changes: list[Change] | tuple[Change, ...]) -> list[tuple[int | None, str]]:
    return [(c.index, c.attribute) for c in changes]


def differences(before: dict[str, object], after: dict[str, object]) -> dict[str, object]:
    keys = before.keys() | after.keys()
    return {k: (before.get(k), after.get(k)) for k in keys if before.get(k) != after.get(k)}


def attach(
    machine: Machine, index: int, kind: Kind = Kind.VF, ifname: str = "net1", **change: Any
) -> Namespace:
    """Give a VF to a new pod; return the pod's namespace."""
    pod = machine.namespace()
    request = AttachRequest(
        container_id=CONTAINER,
        ifname=ifname,
        netns_path=pod.path,
        kind=kind,
        device=PciAddress(machine.nics[0].vf(index)),
        pod_namespace="default",
        pod_name="web",
        **change,
    )
    Manager(machine.node).attach(request)
    return pod


def test_as_desired_and_then_nothing_to_do(machine: Machine) -> None:
    desired = wanted(EVERYTHING)
    made = applying.apply(machine.node, desired, PLAIN)
    assert (None, "mtu") in attributes(made)
    assert drivers(machine.node) == ["vfio-pci"] * 3 + ["igbvf"] + ["igb_uio"] * 2 + ["igbvf"]
    side = machine.sim.vf_side.get(PF)
    assert (side[0].vlan, side[0].qos) == (100, 3)
    assert (side[3].trust, side[3].spoofchk, side[3].mac) == (True, False, "02:00:00:00:00:09")
    assert side[4].max_rate == 100
    netdev = machine.netlink.space()["eth1v3"]
    assert (netdev.mac, netdev.mtu) == ("02:00:00:00:00:09", 1400)
    assert machine.netlink.space()["eth1"].mtu == 9000
    assert all(current_override(machine.sim, machine.nics[0].vf(i)) is None for i in range(7))
    assert applying.make_plan(machine.node, desired, PLAIN).changes == ()
    record = ApplyRecords(machine.state).read(PF)
    assert record is not None
    assert record.stage is ApplyStage.APPLIED
    calls = len(machine.netlink.calls)
    assert applying.apply(machine.node, desired, PLAIN) == []
    assert len(machine.netlink.calls) == calls
    assert ApplyRecords(machine.state).read(PF) == record


def test_revert_gives_back_every_attribute(machine: Machine) -> None:
    before = machine.snapshot()
    applying.apply(machine.node, wanted(EVERYTHING), PLAIN)
    applying.apply(machine.node, wanted({"numVfs": 2}), PLAIN)
    applying.apply(machine.node, wanted({"numVfs": 4, "vfs": [{"range": "0-3", "vlan": 7}]}), PLAIN)
    reverting.revert(machine.node, PLAIN)
    assert differences(before, machine.snapshot()) == {}
    assert ApplyRecords(machine.state).addresses() == []
    assert reverting.revert(machine.node, PLAIN) == []


def test_vfs_that_are_made_anew_come_back_as_they_were(machine: Machine) -> None:
    """What an administrator had set by hand before the first apply is given back too."""
    node = machine.node
    with node.netlink.links() as links:
        pf = links.find("eth1")
        vf = links.find("eth1v2")
        assert pf is not None
        assert vf is not None
        links.set_vf(pf.index, 2, VFSettings(vlan=5, qos=1))
        links.set_vf(pf.index, 2, VFSettings(mac="02:00:00:00:00:77"))
        links.set_mtu(vf.index, 1300)
        links.add_altname(vf.index, "blue")
    applying.apply(node, wanted({"vfs": [{"range": "4", "driver": "vfio-pci"}]}), PLAIN)
    reverting.revert(node, PLAIN)
    machine.sim.write("bus/pci/drivers/igbvf/unbind", machine.nics[0].vf(6))
    before = machine.snapshot()
    applying.apply(node, wanted({"numVfs": 0}), PLAIN)
    assert list_vfs(machine.sim, PF) == []
    reverting.revert(node, PLAIN)
    assert differences(before, machine.snapshot()) == {}


def test_no_netdev_is_made_for_a_vf_that_goes_to_userspace(machine: Machine) -> None:
    machine.sim.write(device_path(PF, "sriov_numvfs"), "0")
    born: list[str] = []
    create = machine.netlink.born
    machine.sim.netdevs = _Heard(create, machine.netlink.gone, born)
    desired = wanted({"numVfs": 4, "vfs": [{"range": "0-2", "driver": "vfio-pci"}]})
    applying.apply(machine.node, desired, PLAIN)
    assert born == [machine.nics[0].vf(3)]
    assert machine.sim.read(device_path(PF, "sriov_drivers_autoprobe")) == "1"


class _Heard:
    def __init__(
        self, born: Callable[[str], None], gone: Callable[[str], None], heard: list[str]
    ) -> None:
        self._born = born
        self.gone = gone
        self._heard = heard

    def born(self, address: str) -> None:
        self._heard.append(address)
        self._born(address)


def test_autoprobe_off_leaves_vfs_without_a_driver(machine: Machine) -> None:
    before = machine.snapshot()
    group = {"range": "1", "driver": "igbvf"}
    desired = wanted({"numVfs": 3, "autoprobe": False, "vfs": [group]})
    applying.apply(machine.node, desired, PLAIN)
    assert drivers(machine.node) == [None, "igbvf", None]
    assert machine.sim.read(device_path(PF, "sriov_drivers_autoprobe")) == "0"
    assert applying.make_plan(machine.node, desired, PLAIN).changes == ()
    by_itself = wanted({"autoprobe": False, "vfs": [{"range": "1", "driver": "default"}]})
    with pytest.raises(PlanRefused, match="with autoprobe off no driver takes a VF by itself"):
        applying.apply(machine.node, by_itself, PLAIN)
    reverting.revert(machine.node, PLAIN)
    assert differences(before, machine.snapshot()) == {}


def test_vfs_that_no_driver_wants_are_offered_once(machine: Machine) -> None:
    machine.sim.write(device_path(PF, "sriov_numvfs"), "0")
    machine.sim.fail("probe/igbvf/.*", errno.ENODEV, 99)
    desired = wanted({"numVfs": 3, "vfs": [{"range": "0", "driver": "vfio-pci"}]})
    applying.apply(machine.node, desired, PLAIN)
    assert drivers(machine.node) == ["vfio-pci", None, None]
    assert applying.apply(machine.node, desired, PLAIN) == []


def test_drivers_there_and_back(machine: Machine) -> None:
    for name, expected in (("none", None), ("igb_uio", "igb_uio"), ("default", "igbvf")):
        applying.apply(machine.node, wanted({"vfs": [{"range": "0-1", "driver": name}]}), PLAIN)
        assert drivers(machine.node)[:3] == [expected, expected, "igbvf"]


def test_a_pinned_mac_is_changed_by_resetting_the_driver(machine: Machine) -> None:
    for number in (1, 2):
        mac = f"02:00:00:00:00:0{number}"
        applying.apply(machine.node, wanted({"vfs": [{"range": "0", "mac": [mac]}]}), PLAIN)
        assert machine.netlink.space()["eth1v0"].mac == mac
        assert machine.sim.vf_side.get(PF)[0].mac == mac


def test_keep_pins_the_mac_that_a_vf_has(machine: Machine) -> None:
    mac = machine.netlink.space()["eth1v1"].mac
    desired = wanted({"vfs": [{"range": "1", "mac": "keep"}]})
    applying.apply(machine.node, desired, PLAIN)
    assert machine.sim.vf_side.get(PF)[1].mac == mac
    assert applying.apply(machine.node, desired, PLAIN) == []


@pytest.mark.parametrize(
    "entry",
    [
        {"numVfs": 3},
        {"vfs": [{"range": "1", "driver": "vfio-pci"}]},
        {"vfs": [{"range": "1", "vlan": 3}]},
    ],
    ids=["number", "driver", "vlan"],
)
def test_a_vf_of_a_pod_is_not_touched(machine: Machine, entry: dict[str, Any]) -> None:
    attach(machine, 1, settings=VFSettings(vlan=100))
    before = machine.snapshot()
    plan = applying.make_plan(machine.node, wanted(entry), PLAIN)
    assert [h.vf.index for h in plan.hits] == [1]
    with pytest.raises(DeviceBusy, match=r"pod default/web.*--force"):
        applying.apply(machine.node, wanted(entry), PLAIN)
    assert differences(before, machine.snapshot()) == {}
    assert ApplyRecords(machine.state).addresses() == []


def test_a_pods_own_settings_are_no_difference(machine: Machine) -> None:
    desired = wanted({"numVfs": 7, "vfs": [{"range": "0-6", "vlan": 5, "driver": "default"}]})
    applying.apply(machine.node, desired, PLAIN)
    attach(machine, 1, settings=VFSettings(vlan=100))
    attach(machine, 2, Kind.DPDK, ifname="net2", dpdk=DpdkRequest("vfio-pci"))
    assert applying.apply(machine.node, desired, PLAIN) == []
    assert machine.sim.vf_side.get(PF)[1].vlan == 100
    Manager(machine.node).detach_container(CONTAINER)
    assert machine.sim.vf_side.get(PF)[1].vlan == 5
    assert applying.apply(machine.node, desired, PLAIN) == []


def test_force_takes_a_vf_back_first(machine: Machine) -> None:
    attach(machine, 1)
    applying.apply(machine.node, wanted({"numVfs": 3}), FORCED)
    assert machine.node.journal.addresses() == []
    assert drivers(machine.node) == ["igbvf"] * 3
    Manager(machine.node).detach(CONTAINER, "net1")


def test_a_vf_of_an_earlier_boot_stands_in_nobodys_way(machine: Machine) -> None:
    machine.kill(attach(machine, 1))
    applying.apply(machine.rebooted(), wanted({"numVfs": 3}), PLAIN)
    assert len(list_vfs(machine.sim, PF)) == 3


def test_a_record_of_an_earlier_boot_is_nothing_to_go_back_to(machine: Machine) -> None:
    applying.apply(machine.node, wanted({"numVfs": 3}), PLAIN)
    later = machine.rebooted()
    assert reverting.plan_revert(later, PLAIN).changes == ()
    assert reverting.revert(later, PLAIN) == []
    assert ApplyRecords(machine.state).addresses() == []
    assert len(list_vfs(machine.sim, PF)) == 3


def test_revert_waits_for_pods(machine: Machine) -> None:
    applying.apply(machine.node, wanted({"numVfs": 4}), PLAIN)
    attach(machine, 1)
    with pytest.raises(DeviceBusy, match="pod default/web"):
        reverting.revert(machine.node, PLAIN)
    assert len(list_vfs(machine.sim, PF)) == 4
    reverting.revert(machine.node, FORCED)
    assert drivers(machine.node) == ["igbvf"] * 7
    assert machine.node.journal.addresses() == []


def test_externally_managed_vfs_are_verified_and_set_up(machine: Machine) -> None:
    group = {"range": "0-1", "vlan": 9}
    entry = {"externallyManaged": True, "numVfs": 5, "vfs": [group]}
    made = applying.apply(machine.node, wanted(entry), PLAIN)
    assert {c.attribute for c in made} == {"vlan"}
    assert len(list_vfs(machine.sim, PF)) == 7
    machine.sim.write(device_path(PF, "sriov_numvfs"), "0")
    machine.sim.write(device_path(PF, "sriov_numvfs"), "4")
    with pytest.raises(PlanRefused, match="externally managed, and there are 4 VFs of 5"):
        applying.apply(machine.node, wanted(entry), PLAIN)
    entry = {"externallyManaged": True, "autoprobe": False}
    with pytest.raises(PlanRefused, match=r"autoprobe: eth1: externally managed, and it is on"):
        applying.apply(machine.node, wanted(entry), PLAIN)


def test_the_same_changes_once_more_are_closed_too(machine: Machine) -> None:
    """The record is in the end what it was before, and not meanwhile."""
    desired = wanted({"vfs": [{"range": "5", "vlan": 55}]})
    applying.apply(machine.node, desired, PLAIN)
    first = ApplyRecords(machine.state).read(PF)
    machine.sim.vf_side.put(PF, 5, replace(machine.sim.vf_side.get(PF)[5], vlan=0))
    assert len(applying.apply(machine.node, desired, PLAIN)) == 1
    assert first is not None
    assert first.stage is ApplyStage.APPLIED
    assert ApplyRecords(machine.state).read(PF) == first


def test_only_vfs_after_somebody_made_them_anew(machine: Machine) -> None:
    desired = wanted({"numVfs": 4, "vfs": [{"range": "0-3", "driver": "vfio-pci", "vlan": 2}]})
    applying.apply(machine.node, desired, PLAIN)
    machine.sim.write(device_path(PF, "sriov_numvfs"), "0")
    machine.sim.write(device_path(PF, "sriov_numvfs"), "2")
    applying.apply(machine.node, desired, Manner(only_vfs=True))
    assert drivers(machine.node) == ["vfio-pci"] * 2
    assert [s.vlan for s in machine.sim.vf_side.get(PF).values()] == [2, 2]


def test_eswitch_mode(machine: Machine) -> None:
    devlink = FakeDevlink(machine.sim, PF)
    node = replace_node(machine.node, devlink=devlink)
    before = machine.snapshot()
    desired = wanted({"numVfs": 7, "eswitchMode": "switchdev"})
    plan = applying.make_plan(node, desired, PLAIN)
    assert attributes(plan.changes) == [(None, "eswitchMode"), (None, "numVfs")]
    applying.apply(node, desired, PLAIN)
    assert (devlink.modes[PF], len(list_vfs(machine.sim, PF))) == ("switchdev", 7)
    assert applying.apply(node, desired, PLAIN) == []
    reverting.revert(node, PLAIN)
    assert devlink.modes[PF] == "legacy"
    assert differences(before, machine.snapshot()) == {}


def test_a_pf_without_an_embedded_switch(machine: Machine) -> None:
    desired = wanted({"numVfs": 7, "eswitchMode": "switchdev"})
    with pytest.raises(PlanRefused, match="igb has no embedded switch"):
        applying.apply(machine.node, desired, PLAIN)
    legacy = wanted({"numVfs": 7, "eswitchMode": "legacy"})
    assert applying.apply(machine.node, legacy, PLAIN) == []


def test_a_write_that_hangs_is_named(machine: Machine) -> None:
    machine.sim.fail(".*/sriov_numvfs", errno.ETIMEDOUT)
    with pytest.raises(WriteHangs, match=r"writing '0' to .*sriov_numvfs hangs .* over 5 s"):
        applying.apply(machine.node, wanted({"numVfs": 3}), Manner(write_seconds=5))
    applying.apply(machine.node, wanted({"numVfs": 3}), PLAIN)
    assert len(list_vfs(machine.sim, PF)) == 3


def test_a_number_that_the_platform_has_no_room_for(machine: Machine) -> None:
    machine.sim.fail(".*/sriov_numvfs", 0)
    machine.sim.fail(".*/sriov_numvfs", errno.ENOMEM)
    machine.sim.write(device_path(PF, "sriov_numvfs"), "0")
    with pytest.raises(HwmgrError) as raised:
        applying.apply(machine.node, wanted({"numVfs": 3}), PLAIN)
    assert any("pci=realloc" in note for note in raised.value.__notes__)


def test_a_driver_that_declines(machine: Machine) -> None:
    vf = machine.nics[0].vf(1)
    machine.sim.fail(f"probe/vfio-pci/{vf}", errno.EIO, 9)
    with pytest.raises(BindError, match="vfio-pci did not take it"):
        applying.apply(machine.node, wanted({"vfs": [{"range": "1", "driver": "vfio-pci"}]}), PLAIN)
    reverting.revert(machine.node, PLAIN)
    assert drivers(machine.node) == ["igbvf"] * 7


def test_a_setting_that_is_refused_is_named(machine: Machine) -> None:
    machine.sim.vf_side.refuse(PF, "trust")
    with pytest.raises(NetlinkError) as raised:
        applying.apply(machine.node, wanted({"vfs": [{"range": "1", "trust": True}]}), PLAIN)
    assert "eth1 VF 1" in raised.value.__notes__[0]
    assert "pfs[0].vfs[0]" in raised.value.__notes__[0]


def test_a_change_that_does_not_stay(machine: Machine) -> None:
    """A driver that says yes and does nothing is found out, not asked for ever."""

    class Deaf(FakeDevlink):
        def set_eswitch_mode(
            self, address: str, mode: str, seconds: float, bus: str = "pci"
        ) -> None:
            return

    node = replace_node(machine.node, devlink=Deaf(machine.sim, PF))
    with pytest.raises(ApplyIncomplete, match="eswitchMode is legacy and does not become switch"):
        applying.apply(node, wanted({"numVfs": 7, "eswitchMode": "switchdev"}), PLAIN)


def test_netdevs_that_are_late_after_somebody_made_vfs(machine: Machine) -> None:
    desired = wanted({"vfs": [{"range": "0-2", "driver": "vfio-pci"}]})
    machine.sim.write(device_path(PF, "sriov_numvfs"), "0")
    machine.netlink.late = True
    machine.sim.write(device_path(PF, "sriov_numvfs"), "3")
    machine.udev.later = [lambda: None, machine.netlink.deliver]
    applying.apply(machine.node, desired, Manner(only_vfs=True))
    assert drivers(machine.node) == ["vfio-pci"] * 3


def test_one_pf_that_fails_does_not_keep_the_others(machine: Machine) -> None:
    machine.sim.add_nic(Nic(address="0000:03:00.0", ifname="eth3", vfs=0))
    machine.sim.add_nic(Nic(address="0000:04:00.0", ifname="eth4", vfs=0))
    desired = wanted({"numVfs": 2}, *({"match": {"name": f"eth{n}"}, "numVfs": 3} for n in (3, 4)))
    machine.sim.fail(".*/0000:01:00.0/sriov_numvfs", errno.EIO)
    with pytest.raises(SysfsError, match="sriov_numvfs"):
        applying.apply(machine.node, desired, PLAIN)
    machine.sim.fail(".*/0000:0[14]:00.0/sriov_numvfs", errno.EIO, 9)
    desired = wanted({"numVfs": 2}, {"match": {"name": "eth4"}, "numVfs": 1})
    with pytest.raises(ApplyIncomplete) as raised:
        applying.apply(machine.node, desired, PLAIN)
    assert len(raised.value.problems) == 2
    assert len(list_vfs(machine.sim, PciAddress("0000:03:00.0"))) == 3


def test_a_damaged_record_is_told_and_kept(machine: Machine) -> None:
    applying.apply(machine.node, wanted({"numVfs": 4}), PLAIN)
    whole = machine.state.read_bytes("applied", f"{PF}.json") or b""
    other = whole.replace(PF.encode(), b"0000:03:00.0")
    for text in (b"{", b"[]", b"{}", b'{"schema": 2}', other):
        machine.state.write_bytes(text, "applied", f"{PF}.json")
        with pytest.raises(StateError, match=r"is damaged .* move it away"):
            applying.apply(machine.node, wanted({"numVfs": 3}), PLAIN)
        with pytest.raises(UndoIncomplete, match="is damaged"):
            reverting.revert(machine.node, PLAIN)
        assert machine.state.read_bytes("applied", f"{PF}.json") == text
        assert len(inventory(machine.node)) == 4


def test_a_record_of_a_later_version_is_not_to_be_moved_away(machine: Machine) -> None:
    text = b'{"schema": 9}'
    machine.state.write_bytes(text, "applied", f"{PF}.json")
    with pytest.raises(RecordUnusable, match=r"schema 9.*use the version of hwmgr that") as raised:
        applying.apply(machine.node, wanted({"numVfs": 3}), PLAIN)
    assert "move it away" not in raised.value.message
    with pytest.raises(UndoIncomplete, match="use the version of hwmgr that") as undone:
        reverting.revert(machine.node, PLAIN)
    assert "move it away" not in undone.value.message
    assert machine.state.read_bytes("applied", f"{PF}.json") == text


def test_a_pf_that_cannot_be_applied_stays_reverted(machine: Machine) -> None:
    records = ApplyRecords(machine.state)
    records.note_reverted(PF, machine.node.boot_id)
    machine.state.write_bytes(b"{", "applied", f"{PF}.json")
    with pytest.raises(RecordUnusable):
        applying.apply(machine.node, wanted({"numVfs": 3}), PLAIN)
    machine.state.remove("applied", f"{PF}.json")
    assert records.is_reverted(PF, machine.node.boot_id)
    applying.apply(machine.node, wanted({"numVfs": 3}), PLAIN)
    assert not records.is_reverted(PF, machine.node.boot_id)


class _NotOurs(StateDir):
    """What another user's file looks like."""

    def read_bytes(self, *names: str) -> bytes | None:
        raise StateError(self.path(*names), errno.EACCES)


def test_a_record_that_only_root_may_read_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(RecordUnusable, match="Permission denied; run it as root") as raised:
        ApplyRecords(_NotOurs(str(tmp_path))).read(PF)
    assert "damaged" not in raised.value.message


def test_what_apply_gave_is_not_left_over(machine: Machine) -> None:
    applying.apply(machine.node, wanted(EVERYTHING), PLAIN)
    assert {info.state for info in inventory(machine.node)} == {VFState.FREE}
    machine.sim.vf_side.put(PF, 3, replace(machine.sim.vf_side.get(PF)[3], vlan=9))
    machine.sim.write("bus/pci/drivers/igb_uio/unbind", machine.nics[0].vf(4))
    assert [i.state for i in inventory(machine.node)][3:5] == [VFState.DIRTY, VFState.BROKEN]


def test_late_netdevs_are_waited_for(machine: Machine) -> None:
    machine.netlink.late = True
    machine.udev.later = [machine.netlink.deliver] * 9
    desired = wanted({"numVfs": 3, "vfs": [{"range": "0-2", "mtu": 1400}]})
    applying.apply(machine.node, desired, PLAIN)
    assert [machine.netlink.space()[f"eth1v{i}"].mtu for i in range(3)] == [1400] * 3


def test_a_pf_that_appears_late_is_waited_for(machine: Machine) -> None:
    late = {"match": {"name": "late0"}, "numVfs": 2}
    card = Nic(address="0000:03:00.0", ifname="late0", vfs=0)
    machine.udev.later = [lambda: None, lambda: machine.sim.add_nic(card)]
    applying.await_pfs(machine.node, wanted(late), 30)
    applying.apply(machine.node, wanted(late), PLAIN)
    assert len(list_vfs(machine.sim, PciAddress(card.address))) == 2


@pytest.mark.parametrize(
    "entry",
    [
        {
            "numVfs": 3,
            "mtu": 9000,
            "vfs": [
                {"range": "0", "driver": "vfio-pci", "mac": "stable", "vlan": 100, "qos": 3},
                {"range": "1", "mtu": 1400, "trust": True, "mac": ["02:00:00:00:00:09"]},
            ],
        },
        {"numVfs": 2, "autoprobe": False, "up": False},
        {"vfs": [{"range": "2", "driver": "igb_uio", "mac": ["02:00:00:00:00:55"]}]},
    ],
    ids=["made anew", "fewer, down", "one VF"],
)
def test_killed_anywhere_then_again_then_reverted(in_memory: Path, entry: dict[str, Any]) -> None:
    desired = wanted(entry)
    count, reverts = _effects(in_memory, desired)
    assert count > 10
    for at in range(1, count + 1):
        machine = build(f"{in_memory}/{at}", Nic(vfs=4))
        before = machine.snapshot()
        with pytest.raises(Killed):
            applying.apply(mortal(machine.node, Life(at)), desired, PLAIN)
        if at % 2:
            reverting.revert(machine.node, PLAIN)
            assert differences(before, machine.snapshot()) == {}, at
            applying.apply(machine.node, desired, PLAIN)
        else:
            applying.apply(machine.node, desired, PLAIN)
        assert applying.make_plan(machine.node, desired, PLAIN).changes == (), at
        if at <= reverts:
            with pytest.raises(Killed):
                reverting.revert(mortal(machine.node, Life(at)), PLAIN)
        reverting.revert(machine.node, PLAIN)
        assert differences(before, machine.snapshot()) == {}, at


def _effects(folder: Path, desired: Desired) -> tuple[int, int]:
    """Return how many effects an apply and its revert have."""
    machine = build(f"{folder}/count", Nic(vfs=4))
    life, second = Life(), Life()
    applying.apply(mortal(machine.node, life), desired, PLAIN)
    reverting.revert(mortal(machine.node, second), PLAIN)
    return len(life.names), len(second.names)


def test_everything_refused_once_then_again(in_memory: Path) -> None:
    """A full disk, an EIO, a refused message at any step: applying again goes on."""
    desired = wanted(EVERYTHING)
    count, _ = _effects(in_memory, desired)
    for at in range(1, count + 1, 3):
        machine = build(f"{in_memory}/{at}", Nic(vfs=4))
        before = machine.snapshot()
        try:
            applying.apply(mortal(machine.node, Life(at, dies=False)), desired, PLAIN)
        except HwmgrError:
            applying.apply(machine.node, desired, PLAIN)
        assert applying.make_plan(machine.node, desired, PLAIN).changes == (), at
        reverting.revert(machine.node, PLAIN)
        assert differences(before, machine.snapshot()) == {}, at


def test_what_cannot_be_given_back_keeps_its_record(machine: Machine) -> None:
    applying.apply(machine.node, wanted({"vfs": [{"range": "1", "vlan": 3}]}), PLAIN)
    machine.sim.vf_side.refuse(PF, "vlan")
    with pytest.raises(UndoIncomplete):
        reverting.revert(machine.node, PLAIN)
    machine.sim.vf_side.forgive(PF)
    reverting.revert(machine.node, PLAIN)
    assert machine.sim.vf_side.get(PF)[1].vlan == 0


def groups() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Up to three groups of disjoint VFs out of four, with any of their keys."""

    def group(where: str) -> st.SearchStrategy[dict[str, Any]]:
        keys: dict[str, st.SearchStrategy[Any]] = {
            "driver": st.sampled_from(["default", "none", "vfio-pci", "igb_uio", "igbvf"]),
            "mac": st.sampled_from(["keep", "stable"]),
            "trust": st.booleans(),
            "spoofchk": st.booleans(),
            "vlan": st.integers(0, 4094),
            "linkState": st.sampled_from(["auto", "enable", "disable"]),
            "maxTxRate": st.integers(0, 1000),
        }
        return st.fixed_dictionaries({"range": st.just(where)}, optional=keys)

    each = [st.none() | group(where) for where in ("0", "1,3", "2")]
    return st.tuples(*each).map(lambda found: [g for g in found if g])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sequence=st.lists(
        st.tuples(groups(), st.sampled_from([None, 4, 5, 7]), st.sampled_from([None, 1500, 9000])),
        min_size=1,
        max_size=3,
    ),
    first=st.sampled_from([4, 7]),
)
def test_any_file_is_had_once_and_undone(
    in_memory: Path,
    sequence: list[tuple[list[dict[str, Any]], int | None, int | None]],
    first: int,
) -> None:
    """Apply(plan) is what is desired, a second plan is empty, and revert is the identity."""
    import tempfile

    with tempfile.TemporaryDirectory(dir=in_memory) as folder:
        machine = build(folder, Nic(vfs=first))
        before = machine.snapshot()
        for vfs, number, mtu in sequence:
            pairs = (("vfs", vfs), ("numVfs", number), ("mtu", mtu))
            desired = wanted({key: value for key, value in pairs if value})
            applying.apply(machine.node, desired, PLAIN)
            assert applying.make_plan(machine.node, desired, PLAIN).changes == ()
            assert applying.apply(machine.node, desired, PLAIN) == []
        reverting.revert(machine.node, PLAIN)
        assert differences(before, machine.snapshot()) == {}
