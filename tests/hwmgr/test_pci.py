"""PCI addresses and discovery, on recorded answers, written trees and machines of any size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwmgr.errors import NoSuchDevice
from hwmgr.model import PciAddress
from hwmgr.pci import (
    address_key,
    find_pf,
    find_vf,
    list_pfs,
    list_vfs,
    netdevs_of,
    parse_address,
    parse_override,
    pf_named,
    vf_address,
    virtfn_indices,
)
from hwmgr.representor import parse_port_name, representor
from hwmgr.sysfs import Sysfs
from tests.fakes.machine import Machine, build
from tests.fakes.tree import Nic, Shown

ROOT = Path(__file__).parents[2]
CASES = json.loads((ROOT / "tests/vectors/sriov/pci_names.json").read_text())["cases"]


def fixture(name: str) -> Sysfs:
    return Sysfs(str(ROOT / "sysfs_fixtures" / name / "sys"))


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_vector(case: dict[str, Any]) -> None:
    got: object
    if case["op"] == "phys_port_name":
        port = parse_port_name(case["value"])
        got = port and [port.flavour.value, port.controller, port.pf, port.number]
    elif case["op"] == "vf_bdf":
        got = vf_address(PciAddress(case["pf"]), case["offset"], case["stride"], case["n"])
    elif case["op"] == "sort_virtfn":
        got = [f"virtfn{n}" for n in virtfn_indices(case["value"])]
    else:
        got = parse_override(case["value"].removesuffix("\n"))
    assert got == case["expect"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "0000:01:00", "01:00.0", "0000:01:00.8", "0000:01:20.0", "000:01:00.0"),
        *("g000:01:00.0", "0000:01:00.0/../x", "0000:01:00.0\n", "../0000:01:00.0"),
        *("0000:01:00.0.1", "0000:1:00.0", "0000:01:00.00", "+000:01:00.0"),
    ],
)
def test_what_is_not_an_address_is_refused(text: str) -> None:
    assert parse_address(text) is None


@given(
    domain=st.integers(0, 0xFFFFF),
    bus=st.integers(0, 255),
    device=st.integers(0, 31),
    function=st.integers(0, 7),
)
def test_every_address_is_taken_in_any_case(
    domain: int, bus: int, device: int, function: int
) -> None:
    text = f"{domain:04x}:{bus:02x}:{device:02x}.{function}"
    assert parse_address(text.upper()) == text


@given(st.text(max_size=20))
def test_no_text_breaks_the_parser(text: str) -> None:
    found = parse_address(text)
    assert found is None or ("/" not in found and found == found.lower())


def test_x710_tree() -> None:
    sysfs = fixture("x710-i40e")
    first, second = list_pfs(sysfs)
    assert (first.address, first.ifname, first.driver) == ("0000:3b:00.0", "enp59s0f0", "i40e")
    assert (first.total_vfs, first.num_vfs, first.numa_node) == (64, 4, 0)
    vfs = list_vfs(sysfs, first.address)
    assert [v.driver for v in vfs] == ["iavf", "iavf", "vfio-pci", None]
    assert [v.driver_override for v in vfs] == [None, None, "vfio-pci", None]
    assert [v.ifname for v in vfs] == ["enp59s0f0v0", "enp59s0f0v1", None, None]
    assert list_vfs(sysfs, second.address)[0].address == "0000:3b:0a.0"
    assert len({v.iommu_group for v in vfs}) == 4


def test_wide_domain_tree() -> None:
    sysfs = fixture("wide-domain")
    (pf,) = list_pfs(sysfs)
    assert pf.address == "10000:01:00.0"
    vf = find_vf(sysfs, "10000:01:02.1")
    assert (vf.index, vf.pf_address, vf.iommu_group) == (1, pf.address, None)
    assert min(["10000:01:00.0", "ffff:01:00.0"], key=address_key) == "ffff:01:00.0"


def test_switchdev_tree() -> None:
    sysfs = fixture("cx5-switchdev")
    (pf,) = list_pfs(sysfs)
    assert pf.netdevs == ("enp94s0f0np0",)
    assert representor(sysfs, "enp94s0f0np0", 2) == "enp94s0f0r2"
    assert representor(sysfs, "enp94s0f0np0", 7) is None
    assert list_vfs(sysfs, pf.address)[1].netdevs == ("enp94s0f0np0v1",)


def test_shared_tree_has_port_0_first(tmp_path: Path) -> None:
    sysfs = fixture("cx3-shared")
    assert find_pf(sysfs, "0000:04:00.0").netdevs == ("ens1", "ens1d1")
    assert [v.netdevs for v in list_vfs(sysfs, PciAddress("0000:04:00.0"))] == [
        ("ens1v0", "ens1v0d1"),
        ("ens1v1", "ens1v1d1"),
    ]
    made = build(str(tmp_path), Nic(vfs=1))
    address = made.nics[0].vf(0)
    made.sim.tree.hide_netdev(address, "eth1v0")
    made.sim.tree.show_netdev(address, Shown(index=9, name="aaa", mac="02:00:00:00:00:01", port=1))
    made.sim.tree.show_netdev(address, Shown(index=12, name="zzz", mac="02:00:00:00:00:02"))
    assert netdevs_of(made.sim, address) == ("zzz", "aaa")


def test_representor_of_a_driver_that_gives_the_bare_number(tmp_path: Path) -> None:
    made = build(str(tmp_path), Nic(vfs=1, switch_id="aa00"))
    for index in range(12):
        shown = Shown(50 + index, f"rep{index}", "02:00:00:00:01:00", switch_id="aa00")
        shown = Shown(**{**_fields(shown), "port_name": str(index)})
        made.sim.tree.show_netdev("0000:01:00.0", shown)
    assert representor(made.sim, "eth1", 1) == "rep1"
    assert representor(made.sim, "eth1", 11) == "rep11"
    assert representor(made.sim, "eth1v0", 1) is None


def test_representor_where_the_uplink_is_numbered_by_its_port(tmp_path: Path) -> None:
    first = Nic(vfs=1, switch_id="aa00")
    second = Nic(address="0000:02:00.0", ifname="eth2", vfs=1, switch_id="aa00")
    made = build(str(tmp_path), first, second)
    made.sim.tree.put("class/net/eth1/phys_port_name", "p1")
    made.sim.tree.put("class/net/eth2/phys_port_name", "p7")
    for number, (name, address, port) in enumerate(
        [
            ("aa-other-host", first.address, "c1pf0vf0"),
            ("first", first.address, "pf0vf0"),
            ("second", second.address, "pf1vf0"),
            ("third", "0000:02:10.0", "pf7vf3"),
        ]
    ):
        shown = Shown(70 + number, name, "02:00:00:00:02:00", switch_id="aa00", port_name=port)
        made.sim.tree.show_netdev(address, shown)
    assert representor(made.sim, "eth1", 0) == "first"
    assert representor(made.sim, "eth2", 0) == "second"
    assert representor(made.sim, "eth2", 3) == "third"
    assert representor(made.sim, "eth1", 3) is None


def test_what_is_not_there_is_named(machine: Machine) -> None:
    with pytest.raises(NoSuchDevice, match="no such PCI function"):
        find_vf(machine.sim, "0000:99:00.0")
    with pytest.raises(NoSuchDevice, match="not a virtual function"):
        find_vf(machine.sim, "0000:01:00.0")
    with pytest.raises(NoSuchDevice, match="no SR-IOV"):
        find_pf(machine.sim, machine.nics[0].vf(0))
    for name in ("eth9", "", "..", "../../etc", "0000:77:00.0"):
        with pytest.raises(NoSuchDevice):
            pf_named(machine.sim, name)


def test_pf_by_name_and_by_address(machine: Machine) -> None:
    assert pf_named(machine.sim, "eth1") == pf_named(machine.sim, "0000:01:00.0")


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_any_number_of_cards_and_vfs(counts: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as base:
        nics = [
            Nic(address=f"0000:{16 * n + 1:02x}:00.0", ifname=f"p{n}", total=64, vfs=count)
            for n, count in enumerate(counts)
        ]
        made = build(base, *nics)
        pfs = list_pfs(made.sim)
        assert [p.num_vfs for p in pfs] == counts
        for pf, nic in zip(pfs, nics, strict=True):
            vfs = list_vfs(made.sim, pf.address)
            assert [v.index for v in vfs] == list(range(nic.vfs))
            assert [v.address for v in vfs] == [nic.vf(i) for i in range(nic.vfs)]
            assert all(find_vf(made.sim, v.address) == v for v in vfs)


def _fields(shown: Shown) -> dict[str, Any]:
    return {name: getattr(shown, name) for name in Shown.__slots__}
