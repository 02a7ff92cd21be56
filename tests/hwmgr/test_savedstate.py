"""State files of every format are listed, damaged ones with the reason; none stops the list."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from hwmgr import claims, savedstate
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, Kind
from hwmgr.savedstate import Format, all_entries

if TYPE_CHECKING:
    from tests.fakes.machine import Machine

CONTAINER = "feedbeef" * 8
DPDK = {"pci_addr": "0000:04:10.5", "ifname": "net0", "dpdk_driver": "igb_uio", "VFID": 2}


@pytest.fixture
def full(machine: Machine) -> Machine:
    """A state directory with a file of every kind, whole and damaged."""
    state = machine.state
    pod = machine.namespace()
    Manager(machine.node).attach(
        AttachRequest(CONTAINER, "net1", pod.path, Kind.VF, pf_name="eth1")
    )
    state.write_json({"type": "sriov", "if0": "p0", "dpdk": DPDK, "DPDKMode": True}, "42", "c-d0")
    state.write_json({"type": "sriov", "pci_addr": "0000:04:10.7"}, "43", f"{CONTAINER}-")
    state.write_json(DPDK, "c-net0")
    claims.write(state, "0000:04:10.1", "/proc/1/ns/nothing")
    state.write_bytes(b"\xff{", "journal", "0000:01:10.2.json")
    state.write_bytes(b"{}", "journal", "0000:01:10.4.json")
    state.write_bytes(b"old", "journal-torn", "0000:01:10.6.json")
    state.write_bytes(b"", "44", "c-torn")
    state.write_bytes(b"[]", "c-list")
    state.write_bytes(b"{}", "c-nothing")
    state.write_json({"deviceID": "none", "OrigVfState": {}}, "c-odd")
    state.write_bytes(b"", "locks", "pf", "x.lock")
    return machine


def test_every_format_is_listed(full: Machine) -> None:
    found = {e.id: e for e in all_entries(full.state)}
    journal = found["journal/0000:01:10.0.json"]
    assert (journal.format, journal.container_id, journal.ifname, journal.mode, journal.pf) == (
        Format.JOURNAL, CONTAINER, "net1", Kind.VF, "eth1",
    )  # fmt: skip
    seed = found["42/c-d0"]
    assert (seed.format, seed.address, seed.mode, seed.pf, seed.netns_inode, seed.problem) == (
        Format.SEED, "0000:04:10.5", Kind.DPDK, "p0", 42, None,
    )  # fmt: skip
    assert (found[f"43/{CONTAINER}-"].mode, found[f"43/{CONTAINER}-"].ifname) == (Kind.VF, "")
    intel = found["c-net0"]
    assert (intel.format, intel.address, intel.ifname) == (Format.INTEL, "0000:04:10.5", "net0")
    ours = found[f"{CONTAINER}-net1"]
    assert (ours.format, ours.address) == (Format.SRIOV_CNI, "0000:01:10.0")
    assert found["pci/0000:01:10.0"].problem is None
    assert all(e.mtime > 0 for e in found.values())


def test_damaged_ones_have_a_problem(full: Machine) -> None:
    problems = {e.id for e in all_entries(full.state) if e.problem}
    assert problems == {
        "journal/0000:01:10.2.json",
        "journal/0000:01:10.4.json",
        "journal-torn/0000:01:10.6.json",
        "pci/0000:04:10.1",
        "44/c-torn",
        "c-list",
        "c-nothing",
        "c-odd",
    }


def test_an_empty_directory_has_none(machine: Machine) -> None:
    assert all_entries(machine.state) == []


def test_entries_are_found_by_id_address_and_container(full: Machine) -> None:
    state = full.state
    assert [e.id for e in savedstate.find(state, "42/c-d0")] == ["42/c-d0"]
    assert {e.id for e in savedstate.find(state, "0000:04:10.5")} == {"42/c-d0", "c-net0"}
    assert len(savedstate.find(state, CONTAINER[:12])) == 3
    assert savedstate.find(state, "") == []
    assert savedstate.find(state, "nobody") == []


def test_the_content_is_shown_even_of_what_is_no_json(full: Machine) -> None:
    by_id = {e.id: e for e in all_entries(full.state)}
    assert savedstate.content(full.state, by_id["c-net0"]) == json.loads(json.dumps(DPDK))
    assert savedstate.content(full.state, by_id["journal/0000:01:10.2.json"]) == "\ufffd{"
    assert savedstate.content(full.state, by_id["pci/0000:04:10.1"]) == "/proc/1/ns/nothing"
