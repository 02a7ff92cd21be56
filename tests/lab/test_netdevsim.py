"""VF settings that the 82576 refuses (link state, minimum rate, 802.1ad), on netdevsim's VFs.

netdevsim's PF is no PCI function, so the settings part of attach and restore is run on its netdev
directly; the rest of an attachment is the same for every NIC.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml

from hwmgr import representor, vfsettings
from hwmgr.desired import applying, reverting
from hwmgr.desired.applypf import Manner
from hwmgr.desired.file import parse
from hwmgr.devlink import KernelDevlink
from hwmgr.doctor import examination as doctor
from hwmgr.doctor import repair
from hwmgr.errors import NetlinkError
from hwmgr.model import LinkState, VFSettings, VlanProto
from hwmgr.netlink import KernelNetlink
from hwmgr.sysfs import Sysfs
from tests.lab import bypyroute, forked
from tests.lab.host_state import PFS, announce_vfs, differences, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

BUS = "/sys/bus/netdevsim"
EVERYTHING = VFSettings(
    mac="02:00:00:00:0c:01",
    vlan=200,
    qos=5,
    proto=VlanProto.DOT1AD,
    min_rate=10,
    max_rate=100,
    spoofchk=True,
    trust=True,
    link_state=LinkState.DISABLE,
)


@pytest.fixture
def pf_name() -> Iterator[str]:
    subprocess.run(["modprobe", "netdevsim"], check=True)
    _write(f"{BUS}/new_device", "77 1")
    try:
        subprocess.run(["udevadm", "settle"], check=True)
        _write(f"{BUS}/devices/netdevsim77/sriov_numvfs", "4")
        yield os.listdir(f"{BUS}/devices/netdevsim77/net")[0]
    finally:
        _write(f"{BUS}/del_device", "77")


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)


def test_every_setting_there_and_back(pf_name: str) -> None:
    with KernelNetlink().links() as links:
        pf = links.find(pf_name)
        assert pf is not None
        before = links.vf_settings(pf.index)
        assert len(before) == 4
        vfsettings.apply(forked.node(), links, pf.index, 2, EVERYTHING)
        now = links.vf_settings(pf.index)
        assert now[2] == EVERYTHING
        assert now == bypyroute.vf_settings(pf.index)
        assert {i: s for i, s in now.items() if i != 2} == {
            i: s for i, s in before.items() if i != 2
        }
        pinned = EVERYTHING.mac
        assert vfsettings.give_back(links, pf.index, 2, before[2], pinned) == []
        assert links.vf_settings(pf.index) == before


def test_the_mode_of_an_embedded_switch(pf_name: str) -> None:
    devlink = KernelDevlink()
    assert devlink.eswitch_mode("netdevsim77", "netdevsim") == "legacy"
    before = set(os.listdir("/sys/class/net"))
    devlink.set_eswitch_mode("netdevsim77", "switchdev", 30, "netdevsim")
    assert devlink.eswitch_mode("netdevsim77", "netdevsim") == "switchdev"
    assert len(set(os.listdir("/sys/class/net")) - before) == 4
    devlink.set_eswitch_mode("netdevsim77", "legacy", 30, "netdevsim")
    assert devlink.eswitch_mode("netdevsim77", "netdevsim") == "legacy"
    assert pf_name in os.listdir("/sys/class/net")


class BorrowedSwitch(KernelDevlink):
    """A devlink in which the lab's first PF has the embedded switch of netdevsim's."""

    def eswitch_mode(self, address: str, bus: str = "pci") -> str | None:
        if address == PFS[0]:
            return super().eswitch_mode("netdevsim77", "netdevsim")
        return super().eswitch_mode(address, bus)

    def set_eswitch_mode(self, address: str, mode: str, seconds: float, bus: str = "pci") -> None:
        assert (address, bus) == (PFS[0], "pci")
        super().set_eswitch_mode("netdevsim77", mode, seconds, "netdevsim")


@pytest.mark.usefixtures("pf_name")
def test_a_mode_that_somebody_has_changed_since_apply() -> None:
    """Doctor tells, repair leaves it to the administrator, apply sets it, revert undoes it."""
    node = replace(forked.node(), devlink=BorrowedSwitch())
    entry = {"match": {"address": PFS[0]}, "numVfs": 7, "eswitchMode": "switchdev"}
    desired = parse("desired.yaml", yaml.load(yaml.safe_dump({"pfs": [entry]}), yaml.BaseLoader))
    announce_vfs()
    before = snapshot()
    try:
        made = applying.apply(node, desired, Manner())
        assert "eswitchMode" in [c.attribute for c in made]
        assert doctor.examine(node) == []
        device = "netdevsim/netdevsim77"
        subprocess.run(["devlink", "dev", "eswitch", "set", device, "mode", "legacy"], check=True)
        for _ in range(2):
            (found,) = doctor.examine(node)
            assert (found.id, found.subject, found.cure) == ("applied-drift", PFS[0], None)
            assert found.evidence[0].fact == "eswitchMode is legacy, it is to be switchdev"
            assert found.repair == "hwmgr apply desired.yaml; that makes all its VFs anew"
            repair.carry_out(node, repair.plan(node))
        applying.apply(node, desired, Manner())
        assert node.devlink.eswitch_mode(PFS[0]) == "switchdev"
        assert applying.apply(node, desired, Manner()) == []
        assert doctor.examine(node) == []
    finally:
        reverting.revert(node, Manner())
    assert node.devlink.eswitch_mode(PFS[0]) == "legacy"
    assert differences(before, snapshot()) == []


def test_the_82576_has_no_embedded_switch() -> None:
    assert KernelDevlink().eswitch_mode(PFS[0]) is None
    with pytest.raises(NetlinkError, match="set eswitch mode switchdev"):
        KernelDevlink().set_eswitch_mode(PFS[0], "switchdev", 30)


@pytest.mark.parametrize("proto", [VlanProto.DOT1Q, VlanProto.DOT1AD])
def test_the_tag_protocol_reaches_the_driver(pf_name: str, proto: VlanProto) -> None:
    with KernelNetlink().links() as links:
        pf = links.find(pf_name)
        assert pf is not None
        links.set_vf(pf.index, 0, VFSettings(vlan=7, qos=1, proto=proto))
        shown = subprocess.run(
            ["ip", "-d", "link", "show", pf_name], check=True, capture_output=True, text=True
        ).stdout
        line = next(text for text in shown.splitlines() if "vf 0 " in text)
        assert "vlan 7, qos 1" in line
        assert ("802.1ad" in line) == (proto is VlanProto.DOT1AD)


def test_a_refusal_names_what_was_refused(pf_name: str) -> None:
    with KernelNetlink().links() as links:
        pf = links.find(pf_name)
        assert pf is not None
        with pytest.raises(NetlinkError, match="VLAN 5 of VF 9"):
            links.set_vf(pf.index, 9, VFSettings(vlan=5))


def test_representors_are_found_as_devlink_names_them(pf_name: str) -> None:
    sysfs = Sysfs("/sys")
    assert not representor.is_representor(sysfs, pf_name)
    assert representor.representor(sysfs, pf_name, 1) is None
    device = "netdevsim/netdevsim77"
    subprocess.run(["devlink", "dev", "eswitch", "set", device, "mode", "switchdev"], check=True)
    subprocess.run(["udevadm", "settle"], check=True)
    told = subprocess.run(
        ["devlink", "-j", "port", "show"], check=True, capture_output=True, text=True
    ).stdout
    ports = json.loads(told)["port"].values()
    expected = {p["vfnum"]: p["netdev"] for p in ports if p.get("flavour") == "pcivf"}
    assert sorted(expected) == [0, 1, 2, 3]
    assert {n: representor.representor(sysfs, pf_name, n) for n in expected} == expected
    assert all(representor.is_representor(sysfs, name) for name in expected.values())
    assert not representor.is_representor(sysfs, pf_name)
