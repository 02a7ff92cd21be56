"""Plans from facts alone: order, reasons, who is hit, and the reference's cases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwmgr.applyrecord import Given
from hwmgr.desired.changes import Leftover, Plan
from hwmgr.desired.observed import PfNow, VfNow
from hwmgr.desired.planning import matched, plan_pf
from hwmgr.desired.state import Desired, DesiredPf, Selector, VfGroup, numvfs_writes
from hwmgr.model import PF, VF, PciAddress, VFSettings, VlanProto

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/sriov/policy.json").read_text())
ADDRESS = PciAddress("0000:01:00.0")
DEFAULTS = VFSettings(
    mac="00:00:00:00:00:00",
    vlan=0,
    qos=0,
    proto=VlanProto.DOT1Q,
    min_rate=0,
    max_rate=0,
    spoofchk=True,
    trust=False,
)


def pf(count: int = 2, *, address: str = ADDRESS, ifname: str = "eth1", **change: Any) -> PfNow:
    found = PF(PciAddress(address), (ifname,), "igb", "8086", "10c9", 7, count, None)
    now = PfNow(
        pf=found,
        altnames=("blue",),
        mtu=1500,
        up=True,
        mac="a0:36:9f:00:00:01",
        eswitch_mode=None,
        autoprobe=True,
        vfs=tuple(vf(index) for index in range(count)),
        drivers=frozenset({"vfio-pci", "igb_uio", "igbvf"}),
    )
    return replace(now, **change)


def vf(index: int, driver: str | None = "igbvf", **change: Any) -> VfNow:
    address = PciAddress(f"0000:01:10.{index}")
    names = () if driver is None else (f"eth1v{index}",)
    one = VF(address, ADDRESS, index, driver, None, names, "8086", "10ca", None, None)
    now = VfNow(one, driver, DEFAULTS, 1500 if driver else None, "02:00:00:00:00:01")
    return replace(now, **change)


def entry(*groups: VfGroup, **change: Any) -> DesiredPf:
    return DesiredPf(where="pfs[0]", selector=Selector(name="eth1"), groups=groups, **change)


def group(*indices: int, **change: Any) -> VfGroup:
    return VfGroup(where="pfs[0].vfs[0]", indices=indices, **change)


def shown(plan: Plan) -> list[tuple[int | None, str, object, object]]:
    return [(c.index, c.attribute, c.now, c.then) for c in plan.changes]


@pytest.mark.parametrize(
    "case", [c for c in VECTORS["cases"] if c["op"] == "numvfs_plan"], ids=lambda c: c["id"]
)
def test_numvfs_as_the_reference_has_it(case: dict[str, Any]) -> None:
    now = pf(case["current"])
    now = replace(now, pf=replace(now.pf, total_vfs=case["totalvfs"]))
    wanted = entry(num_vfs=case["desired"], externally_managed=case["externally_managed"])
    plan = plan_pf(wanted, now)
    if "expect_error" in case:
        assert plan.problems
        return
    assert plan.problems == ()
    assert numvfs_writes(case["current"], case["desired"]) == case["expect_writes"]
    assert bool(plan.changes) == bool(case["expect_writes"])


def test_nothing_wanted_is_nothing_to_do() -> None:
    assert plan_pf(entry(), pf()) == Plan((), ())
    assert plan_pf(entry(group(0, 1)), pf()) == Plan((), ())


def test_the_order_that_drivers_need() -> None:
    wanted = entry(
        group(0, driver="vfio-pci", settings=VFSettings(vlan=5, trust=True)),
        num_vfs=4,
        mtu=9000,
        up=True,
        eswitch_mode="switchdev",
        autoprobe=False,
    )
    plan = plan_pf(wanted, pf(up=False, eswitch_mode="legacy"))
    assert plan.problems == ()
    assert shown(plan) == [
        (None, "eswitchMode", "legacy", "switchdev"),
        (None, "mtu", 1500, 9000),
        (None, "up", False, True),
        (None, "numVfs", 2, 4),
        (None, "autoprobe", True, False),
        (0, "vlan", None, 5),
        (0, "trust", None, True),
        (0, "driver", None, "vfio-pci"),
    ]


def test_what_is_already_so_is_not_changed() -> None:
    wanted = entry(
        group(0, 1, driver="default", mtu=1500, settings=VFSettings(vlan=0, spoofchk=True)),
        num_vfs=2,
        mtu=1500,
        up=True,
        eswitch_mode="legacy",
        autoprobe=True,
    )
    assert plan_pf(wanted, pf()) == Plan((), ())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"num_vfs": 8}, "pfs[0].numVfs: eth1: it can have 7 VFs, not 8"),
        ({"groups": (group(5),)}, "pfs[0].vfs[0].range: eth1: there is no VF 5, it has 2"),
        ({"groups": (group(0, driver="nvme"),)}, "the driver nvme is not loaded"),
        ({"eswitch_mode": "switchdev", "num_vfs": 2}, "igb has no embedded switch (devlink)"),
        ({"externally_managed": True, "mtu": 9000}, "externally managed, and the MTU is 1500"),
        ({"externally_managed": True, "num_vfs": 3}, "there are 2 VFs of 3"),
    ],
)
def test_what_cannot_be(change: dict[str, Any], problem: str) -> None:
    plan = plan_pf(replace(entry(), **change), pf())
    assert any(problem in text for text in plan.problems), plan.problems


def test_bifurcated_vfs_are_never_rebound() -> None:
    now = pf(vfs=(vf(0, "mlx5_core"), vf(1, "mlx5_core")))
    plan = plan_pf(entry(group(0, driver="vfio-pci")), now)
    assert "never rebound" in plan.problems[0]
    fresh = pf(0, vfs=())
    fresh = replace(fresh, pf=replace(fresh.pf, driver="mlx5_core"))
    plan = plan_pf(entry(group(0, driver="vfio-pci"), num_vfs=1), fresh)
    assert "never rebound" in plan.problems[0]


def test_an_mtu_needs_a_netdev() -> None:
    now = pf(vfs=(vf(0, "vfio-pci"), vf(1)))
    assert "has no netdev" in plan_pf(entry(group(0, mtu=1400)), now).problems[0]
    plan = plan_pf(entry(group(0, mtu=1400, driver="default")), now)
    assert shown(plan) == [(0, "driver", "vfio-pci", "default"), (0, "mtu", 1500, 1400)]


def test_who_is_hit() -> None:
    held = vf(1, holder="held by a pod")
    now = pf(vfs=(vf(0), held))
    assert plan_pf(entry(num_vfs=1), now).hits == (held,)
    assert plan_pf(entry(group(0, settings=VFSettings(vlan=3))), now).hits == ()
    plan = plan_pf(entry(group(0, 1, settings=VFSettings(vlan=3))), now)
    assert [c.hits for c in plan.changes] == [(), (held,)]
    assert plan.hits == (held,)


def test_a_netdev_in_another_namespace_is_no_difference() -> None:
    away = vf(1, mtu=None, mac=None, holder="another namespace has it")
    assert plan_pf(entry(group(1, mtu=1400)), pf(vfs=(vf(0), away))).changes == ()


def test_vfs_that_were_made_and_not_offered_yet() -> None:
    now = pf(autoprobe=False, vfs=(vf(0, None), vf(1, None)))
    wanted = entry(group(0, driver="vfio-pci"), num_vfs=2)
    plan = plan_pf(wanted, now, leftover=Leftover(autoprobe=True))
    assert shown(plan) == [
        (None, "autoprobe", False, True),
        (0, "driver", None, "vfio-pci"),
        (1, "driver", None, "default"),
    ]
    # Somebody who has unbound a VF by hand has done so on purpose.
    assert shown(plan_pf(wanted, now)) == [(0, "driver", None, "vfio-pci")]


def test_a_driver_that_cannot_tell_what_it_took() -> None:
    mute = vf(0, settings=replace(DEFAULTS, trust=None))
    wanted = entry(group(0, settings=VFSettings(trust=True)))
    assert shown(plan_pf(wanted, pf(vfs=(mute,)))) == [(0, "trust", None, True)]
    given = {0: Given(settings=VFSettings(trust=True))}
    assert plan_pf(wanted, pf(vfs=(mute,)), given=given).changes == ()


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        (Selector(name="eth1"), [ADDRESS]),
        (Selector(altname="blue"), [ADDRESS, "0000:02:00.0"]),
        (Selector(altname="blue", name="eth2"), ["0000:02:00.0"]),
        (Selector(vendor="8086", device="10c9"), [ADDRESS, "0000:02:00.0"]),
        (Selector(vendor="15b3"), []),
        (Selector(address=ADDRESS, name="eth2"), []),
    ],
    ids=str,
)
def test_selectors(selector: Selector, found: list[str]) -> None:
    nodes = [pf(), pf(address="0000:02:00.0", ifname="eth2")]
    one = replace(entry(), selector=selector)
    entries, problems = matched(Desired("f", (one,)), nodes)
    assert list(entries) == found
    assert bool(problems) == (not found)
    assert matched(Desired("f", (replace(one, optional=True),)), nodes)[1] == []


def test_two_entries_for_one_pf() -> None:
    other = replace(entry(), where="pfs[1]", selector=Selector(vendor="8086"))
    _entries, problems = matched(Desired("f", (entry(), other)), [pf()])
    assert problems == ["pfs[1]: eth1 is matched by pfs[0] already"]


def test_one_list_of_macs_for_two_pfs() -> None:
    macs = group(0, mac=("02:00:00:00:00:01",))
    one = replace(entry(macs), selector=Selector(vendor="8086"))
    nodes = [pf(), pf(address="0000:02:00.0", ifname="eth2")]
    _entries, problems = matched(Desired("f", (one,)), nodes)
    assert problems == ["pfs[0]: a list of MACs is for one PF, but it matches eth1, eth2"]
