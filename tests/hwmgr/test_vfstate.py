"""The decision on a VF's state, fact by fact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hwmgr.model import (
    VF,
    Before,
    Kind,
    LinkState,
    NetnsIdentity,
    Owner,
    PciAddress,
    Record,
    Stage,
    VFSettings,
    VFState,
)
from hwmgr.vfstate import Facts, HostNetdev, decide

ADDRESS = PciAddress("0000:01:10.0")
PF = PciAddress("0000:01:00.0")
FRESH = VF(ADDRESS, PF, 0, "igbvf", None, ("eth1v0",), "8086", "10ca", None, "1")
PLAIN = Facts(vf=FRESH, netdevs=(HostNetdev("eth1v0"),), settings=VFSettings(vlan=0, trust=False))
AWAY = replace(FRESH, netdevs=())
BOUND = replace(FRESH, netdevs=(), driver="vfio-pci")


def record(**change: Any) -> Record:
    fields: dict[str, Any] = {
        "address": ADDRESS,
        "kind": Kind.VF,
        "stage": Stage.ATTACHED,
        "boot_id": "b",
        "owner": Owner("c" * 64, "net1", NetnsIdentity("/p", 4, 5), 1.0, pod_name="p"),
        "pf_address": PF,
        "pf_ifname": "eth1",
        "index": 0,
        "before": Before(driver="igbvf"),
    }
    return Record(**{**fields, **change})


def held(**change: Any) -> Facts:
    fields: dict[str, Any] = {"vf": AWAY, "record": record(), "owner_alive": True}
    return Facts(**{**fields, **change})


def settings(**change: Any) -> Facts:
    return replace(PLAIN, settings=VFSettings(**change))


def netdev(**change: Any) -> Facts:
    return replace(PLAIN, netdevs=(HostNetdev(**{"name": "eth1v0", **change}),))


DPDK = record(kind=Kind.DPDK, driver="vfio-pci")

CASES: list[tuple[str, Facts, VFState, str]] = [
    ("fresh", PLAIN, VFState.FREE, ""),
    ("settings unknown", replace(PLAIN, settings=None), VFState.FREE, ""),
    ("random admin MAC", settings(mac="5a:3d:42:2e:c7:a6"), VFState.FREE, ""),
    ("spoof check", settings(spoofchk=True), VFState.FREE, ""),
    ("held", held(), VFState.ALLOCATED, "pod None/p"),
    ("dpdk held", held(vf=BOUND, record=DPDK), VFState.ALLOCATED, "held by"),
    (
        "being attached",
        held(record=record(stage=Stage.INTENDED)),
        VFState.ALLOCATED,
        "not finished",
    ),
    ("going", held(record=record(stage=Stage.DETACHING)), VFState.ALLOCATED, "taking it back"),
    ("owner gone", held(owner_alive=False), VFState.LEAKED, "namespace is gone"),
    ("rebooted", held(same_boot=False), VFState.LEAKED, "rebooted"),
    ("torn", replace(PLAIN, torn="no JSON"), VFState.BROKEN, "no JSON"),
    ("other index", held(record=record(index=3)), VFState.BROKEN, "VF 3"),
    ("other PF", held(record=record(pf_address=PciAddress("0000:02:00.0"))), VFState.BROKEN, ""),
    ("other driver", held(vf=AWAY, record=DPDK), VFState.BROKEN, "left on vfio-pci"),
    ("unbound", held(vf=replace(AWAY, driver=None)), VFState.BROKEN, "without a driver"),
    ("netdev is here", held(vf=FRESH), VFState.BROKEN, "eth1v0 is here"),
    ("no driver", Facts(vf=replace(AWAY, driver=None)), VFState.BROKEN, "no driver"),
    ("elsewhere", Facts(vf=AWAY), VFState.FOREIGN, "another namespace"),
    ("claimed", replace(PLAIN, claim="/proc/7/ns/net"), VFState.FOREIGN, "/proc/7/ns/net"),
    ("vfio", Facts(vf=BOUND, holder="process 7 (qemu)"), VFState.FOREIGN, "qemu"),
    ("enslaved", netdev(master="br0"), VFState.FOREIGN, "port of br0"),
    ("address", netdev(addressed=True), VFState.FOREIGN, "an address"),
    ("route", netdev(routed=True), VFState.FOREIGN, "a route"),
    ("VLAN", settings(vlan=5), VFState.DIRTY, "VLAN 5"),
    ("rate", settings(max_rate=100), VFState.DIRTY, "rate 0-100"),
    ("trust", settings(trust=True), VFState.DIRTY, "trust on"),
    ("link", settings(link_state=LinkState.DISABLE), VFState.DIRTY, "link state disable"),
    ("override", replace(PLAIN, vf=replace(FRESH, driver_override="x")), VFState.DIRTY, "x"),
    ("userspace", Facts(vf=BOUND), VFState.DIRTY, "driver vfio-pci"),
    ("dev name", netdev(name="dev7"), VFState.DIRTY, "name dev7"),
    ("hw name", netdev(name="hw12"), VFState.DIRTY, "name hw12"),
    ("pod name", netdev(name="net1"), VFState.DIRTY, "name net1"),
    ("mark", netdev(alias=f"hwmgr:{ADDRESS};name=eth1v0"), VFState.DIRTY, "our mark"),
    ("other's alias", netdev(alias="hwmgr:0000:09:00.0;name=x"), VFState.FREE, ""),
    ("PF held", Facts(vf=FRESH, pf_record=record(), owner_alive=True), VFState.ALLOCATED, "whole"),
    ("PF leaked", Facts(vf=FRESH, pf_record=record()), VFState.LEAKED, "whole"),
]


@pytest.mark.parametrize(
    ("facts", "state", "reason"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_state(facts: Facts, state: VFState, reason: str) -> None:
    found, why = decide(facts)
    assert found is state
    assert reason in why
    assert (why == "") is (state is VFState.FREE)
