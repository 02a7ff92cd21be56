"""sriov-cni's state file: ours has its keys and types, and its own of any version is understood."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from hwmgr import sriovcni_state
from hwmgr.errors import RecordTorn
from hwmgr.model import (
    Before,
    Kind,
    LinkState,
    Netdev,
    NetnsIdentity,
    Owner,
    PciAddress,
    Record,
    Stage,
    VFSettings,
    VlanProto,
)
from hwmgr.sysfs import Sysfs

CONTAINER = "0123456789abcdef0123456789abcdef"
PATH = f"/var/lib/cni/sriov/{CONTAINER}-net1"
# What sriov-cni 2.9 and later write (DPDKMode: those before 2.8); None: a Go pointer not set.
STATE: dict[str, Any] = {
    "DPDKMode": False,
    "MAC": "02:00:00:00:00:42",
    "MTU": 1500,
    "Master": "enp4s0f1",
    "OrigVfState": {
        "AdminMAC": "00:00:00:00:00:00",
        "EffectiveMAC": "02:00:00:00:00:07",
        "HostIFName": "enp4s0f1v2",
        "LinkState": 0,
        "MTU": 1500,
        "MaxTxRate": 0,
        "MinTxRate": 0,
        "SpoofChk": True,
        "Trust": False,
        "Vlan": 0,
        "VlanProto": 33024,
        "VlanQoS": 0,
    },
    "VFID": 2,
    "ContIFNames": "net1",  # read by 2.0 to 2.7
    "cniVersion": "0.4.0",
    "deviceID": "0000:04:10.5",
    "dns": {},
    "ipam": {"type": "host-local"},
    "link_state": "enable",
    "max_tx_rate": 100,
    "min_tx_rate": None,
    "name": "net-a",
    "runtimeConfig": {},
    "spoofchk": "off",
    "trust": "on",
    "type": "sriov",
    "vlan": 100,
    "vlanProto": "802.1q",
    "vlanQoS": 3,
}
BEFORE = VFSettings(
    mac="00:00:00:00:00:00",
    vlan=0,
    qos=0,
    proto=VlanProto.DOT1Q,
    min_rate=0,
    max_rate=0,
    spoofchk=True,
    trust=False,
    link_state=LinkState.AUTO,
)
CONF = {
    "cniVersion": "0.4.0",
    "name": "net-a",
    "type": "sriov",
    "deviceID": "0000:04:10.5",
    "ipam": {"type": "host-local", "subnet": "10.0.0.0/24"},
    "vlan": 100,
    "vlanQoS": 3,
    "vlanProto": "802.1q",
    "mac": "02:00:00:00:00:42",
    "spoofchk": "off",
    "trust": "on",
    "link_state": "enable",
    "max_tx_rate": 100,
    "unknown": 1,
}


def record(**change: Any) -> Record:
    netdev = Netdev(9, "enp4s0f1v2", "02:00:00:00:00:07", 1500, up=True)
    fields: dict[str, Any] = {
        "address": PciAddress("0000:04:10.5"),
        "kind": Kind.VF,
        "stage": Stage.ATTACHED,
        "boot_id": "b",
        "owner": Owner(CONTAINER, "net1", NetnsIdentity("/p", 4, 5), 1.0),
        "pf_address": PciAddress("0000:04:00.1"),
        "pf_ifname": "enp4s0f1",
        "index": 2,
        "before": Before(driver="ixgbevf", settings=BEFORE, netdevs=(netdev,)),
        "settings": VFSettings(mac="02:00:00:00:00:42", vlan=100),
    }
    return Record(**{**fields, **change})


def adopt(value: object, **change: Any) -> Record:
    data = json.dumps(value).encode()
    found = sriovcni_state.to_record(PATH, data, Sysfs("/nonexistent"), **change)
    assert found is not None
    return found


def test_ours_is_what_sriov_cni_would_have_written() -> None:
    written = sriovcni_state.content(record(), CONF)
    assert json.loads(written) == STATE
    assert list(json.loads(written)) == sorted(STATE)


def test_no_key_is_there_twice_in_two_cases() -> None:
    keys = [k.lower() for k in json.loads(sriovcni_state.content(record(), CONF))]
    assert len(keys) == len(set(keys))


def test_a_name_that_is_no_text_is_saved_all_the_same() -> None:
    odd = os.fsdecode(b"\xff\xe9")
    written = sriovcni_state.content(
        record(before=Before(netdevs=(Netdev(9, odd, "", 1500, up=False),))), {}
    )
    assert json.loads(written)["OrigVfState"]["HostIFName"] == odd


def test_ours_of_a_dpdk_device() -> None:
    dpdk = record(kind=Kind.DPDK, before=Before(driver="vfio-pci"), settings=VFSettings())
    value = json.loads(sriovcni_state.content(dpdk, {"type": "sriov"}))
    assert value["DPDKMode"] is True
    assert value["OrigVfState"]["HostIFName"] == ""
    assert value["MTU"] is None
    assert value["vlan"] is None
    assert adopt(value).kind is Kind.DPDK


def test_theirs_becomes_a_record() -> None:
    found = adopt(STATE, netns=NetnsIdentity("/proc/1/ns/net", 4, 77), mtime=5.0, boot_id="x")
    assert found.owner.container_id == CONTAINER
    assert found.owner.ifname == "net1"
    assert found.owner.netns.inode == 77
    assert (found.owner.since, found.boot_id) == (5.0, "x")
    assert (found.address, found.index, found.kind) == ("0000:04:10.5", 2, Kind.VF)
    assert found.before.settings == BEFORE
    name, mac, mtu = ("enp4s0f1v2", "02:00:00:00:00:07", 1500)
    assert [(n.name, n.mac, n.mtu) for n in found.before.netdevs] == [(name, mac, mtu)]
    assert found.settings.vlan == 100
    assert found.settings.trust is True
    assert found.settings.link_state is LinkState.ENABLE
    assert found.saved_files == (PATH,)


def test_what_the_configuration_left_alone_is_not_given_back() -> None:
    """Go writes false and 0 where the driver told nothing, which must not be set."""
    untouched = {
        k: v
        for k, v in STATE.items()
        if k not in ("vlan", "max_tx_rate", "spoofchk", "trust", "link_state")
    }
    found = adopt(untouched)
    assert found.before.settings == VFSettings(mac="00:00:00:00:00:00")


def test_before_2_8_there_is_no_trust_and_no_protocol() -> None:
    saved = {
        k: v for k, v in STATE["OrigVfState"].items() if k not in ("Trust", "VlanProto", "MTU")
    }
    found = adopt({**STATE, "OrigVfState": saved})
    assert found.before.settings is not None
    assert found.before.settings.trust is None
    assert found.before.settings.proto is VlanProto.DOT1Q
    assert found.before.netdevs[0].mtu == 0


def test_the_mode_is_known_although_2_8_and_later_do_not_save_it() -> None:
    saved = {**STATE["OrigVfState"], "HostIFName": ""}
    value = {k: v for k, v in STATE.items() if k != "DPDKMode"}
    assert adopt({**value, "OrigVfState": saved}).kind is Kind.DPDK
    assert adopt(value).kind is Kind.VF


@pytest.mark.parametrize("value", [{}, {"dpdk_driver": "x"}, {"deviceID": "eth0"}])
def test_another_kind_of_file_is_not_taken(value: object) -> None:
    data = json.dumps(value).encode()
    assert sriovcni_state.to_record(PATH, data, Sysfs("/nonexistent")) is None


def test_a_torn_file_is_told() -> None:
    with pytest.raises(RecordTorn):
        sriovcni_state.to_record(PATH, b'{"deviceID"', Sysfs("/nonexistent"))
