"""The 2018 plugin's state file: recorded files of every vintage, and our own in its form."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hwmgr import seedstate
from hwmgr.errors import RecordTorn
from hwmgr.model import (
    Before,
    Kind,
    Netdev,
    NetnsIdentity,
    Owner,
    PciAddress,
    Record,
    Stage,
    VFSettings,
)
from hwmgr.store import StateDir
from hwmgr.sysfs import Sysfs

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors/sriov/legacy_state.json").read_text(encoding="utf-8")
)
FILES = [c for c in VECTORS["cases"] if "path" in c]
CONTAINER = "7d888af4d7da943a41ee063f0606ec0b558eb583de12a165a530e392992e751c"
KEYS = [
    "type",
    "ipam",
    "dns",
    "DPDKMode",
    "Sharedvf",
    "dpdk",
    "cniDir",
    "if0",
    "if0name",
    "l2enable",
    "vlan",
    "pfOnly",
    "pci_addr",
]


def adopt(path: str, value: object, **change: Any) -> Record:
    data = json.dumps(value).encode()
    record = seedstate.to_record(path, data, Sysfs("/nonexistent"), **change)
    assert record is not None
    return record


@pytest.mark.parametrize("case", FILES, ids=[c["id"] for c in FILES])
def test_recorded_files(case: dict[str, Any]) -> None:
    record, expect = adopt(case["path"], case["content"]), case["expect"]
    assert record.owner.container_id == expect["container_id"]
    assert record.owner.netns.inode == (expect["netns_inode"] or 0)
    assert record.address == expect["bdf"]
    assert record.kind is (Kind.DPDK if expect["mode"] == "dpdk" else Kind.VF)
    if "vf" in expect:
        assert record.index == expect["vf"]
    if "pf" in expect:
        assert record.pf_ifname == expect["pf"]
    if "restore_exec" in expect:
        assert record.before.driver == expect["restore_exec"][2]


@pytest.mark.parametrize("case", FILES, ids=[c["id"] for c in FILES])
def test_the_name_is_split_as_recorded(case: dict[str, Any]) -> None:
    name = case["path"].rpartition("/")[2]
    wanted = (case["expect"]["container_id"], case["expect"]["ifname"])
    assert seedstate.split_name(name) == wanted
    assert seedstate.split_name(name + ".json") == wanted


def test_other_container_ids_split_at_the_last_dash() -> None:
    assert seedstate.split_name("cnitool-a-b-net1") == ("cnitool-a-b", "net1")


def record(kind: Kind = Kind.DPDK, **change: Any) -> Record:
    fields: dict[str, Any] = {
        "address": PciAddress("0000:04:10.5"),
        "kind": kind,
        "stage": Stage.ATTACHED,
        "boot_id": "b",
        "owner": Owner(CONTAINER, "Dpdk1-4s0f1", NetnsIdentity("/p", 4, 4026533211), 1.0),
        "pf_address": PciAddress("0000:04:00.1"),
        "pf_ifname": "enp4s0f1",
        "index": 2,
        "before": Before(driver="ixgbevf"),
        "driver": "igb_uio" if kind is Kind.DPDK else None,
    }
    return Record(**{**fields, **change})


def test_a_dpdk_device_is_saved_as_the_document_shows_it() -> None:
    seed = FILES[0]
    conf = {
        "type": "sriov",
        "IF0": "enp4s0f1",
        "if0Name": "Dpdk1-4s0f1",
        "dpdk": {k: v for k, v in seed["content"]["dpdk"].items() if k.endswith(("tool", "river"))},
    }
    written = seedstate.content(record(), conf)
    assert written == json.dumps(seed["content"], separators=(",", ":")).encode()
    assert list(json.loads(written)) == KEYS


def test_a_netdev_is_saved_with_an_empty_dpdk_object() -> None:
    value = json.loads(
        seedstate.content(
            record(Kind.VF, settings=VFSettings(vlan=7)),
            {
                "name": "net",
                "cniVersion": "0.2.0",
                "type": "sriov",
                "ipam": {"type": "host-local", "subnet": "10.0.0.0/8"},
                "dns": {"nameservers": ["10.0.0.1"], "search": []},
                "l2enable": True,
            },
        )
    )
    assert list(value) == ["name", "cniVersion", *KEYS]
    assert value["ipam"] == {"type": "host-local"}
    assert value["dns"] == {"nameservers": ["10.0.0.1"]}
    assert (value["DPDKMode"], value["l2enable"], value["vlan"]) == (False, True, 7)
    assert not any(value["dpdk"].values())


def test_a_shared_vf_and_a_whole_pf_say_so() -> None:
    two = tuple(Netdev(n, f"e{n}", "", 1500, up=False) for n in (1, 2))
    shared = record(Kind.VF, before=Before(netdevs=two))
    assert json.loads(seedstate.content(shared, {}))["Sharedvf"] is True
    pf = record(Kind.PF, pf_address=PciAddress("0000:04:10.5"), index=None)
    assert json.loads(seedstate.content(pf, {}))["pfOnly"] is True


def test_a_name_that_is_no_text_is_saved_all_the_same() -> None:
    odd = os.fsdecode(b"\xff\xe9")
    assert json.loads(seedstate.content(record(pf_ifname=odd), {}))["if0"] == odd


@pytest.mark.parametrize("kind", [Kind.DPDK, Kind.VF])
def test_what_is_written_is_understood(kind: Kind) -> None:
    original = record(kind, settings=VFSettings(vlan=9))
    path = seedstate.path("/d", 4026533211, CONTAINER, "", "Dpdk1-4s0f1")
    again = adopt(path, json.loads(seedstate.content(original, {"type": "sriov"})))
    for name in ("address", "kind", "driver", "pf_ifname"):
        assert getattr(again, name) == getattr(original, name)
    assert again.owner.container_id == CONTAINER
    assert again.owner.ifname == "Dpdk1-4s0f1"
    assert again.before.settings is not None
    assert again.before.settings.vlan == 0
    assert again.saved_files == (path,)


def test_a_pf_on_a_userspace_driver_is_a_pf() -> None:
    content = {**FILES[0]["content"], "pfOnly": True}
    found = adopt(FILES[0]["path"], content)
    assert (found.kind, found.index, found.pf_address) == (Kind.DPDK, None, found.address)


def test_files_are_found_with_and_without_suffix(tmp_path: Path) -> None:
    state = StateDir(str(tmp_path))
    for folder, name in (
        ("41", f"{CONTAINER}-x"),
        ("42", f"{CONTAINER}-x.json"),
        ("43", f"{CONTAINER}-"),
        ("43", f"{CONTAINER}-y"),
        ("journal", f"{CONTAINER}-x"),
    ):
        state.write_bytes(b"{}", folder, name)
    assert seedstate.candidates(state, CONTAINER, "x", "net1") == [
        ("41", f"{CONTAINER}-x"),
        ("42", f"{CONTAINER}-x.json"),
    ]
    assert seedstate.candidates(state, CONTAINER, "x", "net1", 42) == [
        ("42", f"{CONTAINER}-x.json")
    ]
    assert seedstate.candidates(state, CONTAINER, "", "y") == [
        ("43", f"{CONTAINER}-"),
        ("43", f"{CONTAINER}-y"),
    ]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"a":\xff}', b"7"])
def test_a_torn_file_is_told(data: bytes) -> None:
    with pytest.raises(RecordTorn, match="/d/f"):
        seedstate.to_record("/d/f", data, Sysfs("/nonexistent"))


@pytest.mark.parametrize("value", [{}, {"dpdk": {}}, {"dpdk": 3}, {"dpdk": {}, "pci_addr": "x"}])
def test_another_kind_of_file_is_not_taken(value: object) -> None:
    data = json.dumps(value).encode()
    assert seedstate.to_record("/d/f", data, Sysfs("/nonexistent")) is None
