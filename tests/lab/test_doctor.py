"""Each kind of damage on real hardware: doctor names it, repair cures it, doctor finds no more.

Beside every damage a VF and a DPDK device are attached to living pods, and nothing of theirs may
change.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.doctor import examination as doctor
from hwmgr.doctor import repair
from hwmgr.doctor.facts import gather
from tests.lab import damage, forked
from tests.lab.damage import DAMAGES, Damage
from tests.lab.host_state import (
    DEVICES,
    PFS,
    announce_vfs,
    differences,
    driver_of,
    ip,
    netdev_of,
    snapshot,
    vfs_of,
)
from tests.lab.settled import await_carrier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.doctor.findings import Finding
    from tests.lab.cni import Pod

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1500)]

COLUMNS = ("damage", "finding", "also", "repaired", "clean", "host", "healthy pods")


@dataclass(frozen=True)
class Healthy:
    """Two attachments that live throughout."""

    kernel: Pod
    dpdk: Pod

    def state(self) -> dict[str, Any]:
        """Return all that can be seen of them: netdevs, addresses, routes, files, devices."""
        addresses = vfs_of(PFS[0])[:2]
        files = {}
        for address in addresses:
            paths = [damage.record_path(address), f"{damage.STATE}/pci/{address}"]
            for path in paths:
                with open(path) as file:
                    files[path] = file.read()
        for name in sorted(os.listdir(damage.STATE)):
            if name.startswith((self.kernel.container_id, self.dpdk.container_id)):
                with open(f"{damage.STATE}/{name}") as file:
                    files[name] = file.read()
        links = ip("-d", "address", "show", netns=self.kernel.netns)
        routes = [
            ip(family, "-d", "route", "show", "table", "all", netns=self.kernel.netns)
            for family in ("-4", "-6")
        ]
        host = snapshot()
        devices = {a: host[a] for a in addresses}
        (pf,) = ip("-d", "link", "show", netdev_of(PFS[0]))
        return {
            "files": files, "links": links, "routes": routes, "devices": devices,
            "vfs": pf["vfinfo_list"][:2],
        }  # fmt: skip


@pytest.fixture(scope="module")
def healthy() -> Iterator[Healthy]:
    for module in ("vfio-pci", "igb_uio"):
        subprocess.run(["modprobe", module], check=True)
    # Without any, a DPDK device is a finding of its own.
    subprocess.run(["sysctl", "-q", "vm.nr_hugepages=2"], check=True)
    announce_vfs()
    vfs = vfs_of(PFS[0])
    with ExitStack() as stack:
        kernel = damage.attach(
            stack, vfs[0], vlan=5, trust="on", spoofchk="off", mac="02:00:00:00:0c:01",
            max_tx_rate=100, ipam={"type": "host-local", "subnet": "18.9.0.0/24"},
        )  # fmt: skip
        dpdk = damage.attach(stack, vfs[1], dpdk={"dpdk_driver": "vfio-pci"})
        await_carrier(kernel)
        yield Healthy(kernel, dpdk)


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[list[str]]]:
    """Collect what was tried and print it when the module is through."""
    rows = [list(COLUMNS)]
    yield rows
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        reporter.write_line("")
        for line in lines:
            reporter.write_line(line)


@pytest.mark.parametrize("case", DAMAGES, ids=[d.make.__name__ for d in DAMAGES])
def test_named_and_cured(case: Damage, healthy: Healthy, table: list[list[str]]) -> None:
    node = forked.node()
    assert doctor.examine(node) == [], "it begins with a clean node"
    before, untouched = snapshot(), healthy.state()
    with ExitStack() as made:
        subject = case.make(made)
        found = doctor.examine(node)
        named = [f for f in found if (f.id, f.subject) == (case.id, subject)]
        assert named, found
        evidence = [f"{e.fact} ({e.source})" for e in named[0].evidence]
        assert case.evidence in " ".join(evidence), evidence
        also = sorted({f.id for f in found} - {case.id})

        outcomes = repair.carry_out(node, repair.plan(node))
        left = doctor.examine(node)
        assert [o.problems for o in outcomes if o.problems] == []
        repaired = "yes"
        if case.admin is not None:
            assert case.id in {f.id for f in left}, "a living owner's is not repair's to take"
            assert named[0].cure is None
            repaired = "by the administrator"
            case.admin(made)
            outcomes += repair.carry_out(node, repair.plan(node))
            left = doctor.examine(node)
        changed = differences(untouched, healthy.state())
    damage.settle()
    after = doctor.examine(node)
    host = _unlike(case, before)
    row = [
        case.name, case.id, ",".join(also) or "-", repaired, _clean(left), _host(case, host),
        "untouched" if not changed else str(changed),
    ]  # fmt: skip
    table.append(row)
    assert left == []
    assert changed == []
    assert after == []
    assert host == []


def test_the_commands_themselves(healthy: Healthy) -> None:
    untouched = healthy.state()
    assert _hwmgr("doctor")[0] == 0
    with ExitStack() as stack:
        subject = damage.nameless_namespace_held_by_a_process(stack)
        status, found = _hwmgr("doctor")
        assert (status, [(f["id"], f["subject"]) for f in found]) == (
            1, [("netns-nameless", subject)],
        )  # fmt: skip
        status, planned = _hwmgr("repair")
        assert (status, planned) == (1, found)
        assert _hwmgr("repair", damage.victim(6)) == (0, [])
        status, done = _hwmgr("repair", "--yes", subject)
        assert (status, [(f["id"], f["result"]) for f in done]) == (
            0, [("netns-nameless", "done")],
        )  # fmt: skip
    assert _hwmgr("doctor") == (0, [])
    assert differences(untouched, healthy.state()) == []


def test_what_the_host_says_is_what_the_kernel_says(healthy: Healthy) -> None:
    """IOMMU groups, huge pages and drivers, beside what other programs read."""
    facts = gather(forked.node())
    dpdk = vfs_of(PFS[0])[1]
    link = f"{DEVICES}/{dpdk}/iommu_group"
    (group,) = facts.groups
    assert group == os.path.basename(os.readlink(link))
    assert [m.address for m in facts.groups[group]] == sorted(os.listdir(f"{link}/devices"))
    assert "vfio-pci" in {m.driver for m in facts.groups[group]}
    with open("/proc/meminfo") as file:
        memory = dict(line.split(":", 1) for line in file)
    (pages,) = [p for p in facts.hugepages if f"{p.size} kB" == memory["Hugepagesize"].strip()]
    assert (pages.total, pages.free) == (
        int(memory["HugePages_Total"]), int(memory["HugePages_Free"]),
    )  # fmt: skip
    assert {"igb", "igbvf", "vfio-pci"} <= facts.drivers


def test_a_group_with_two_functions_is_named_at_bind(healthy: Healthy) -> None:
    """Whoever else is in the group by the kernel's word; in the lab each VF has one of its own."""
    address = damage.victim(5)
    members = os.listdir(f"{DEVICES}/{address}/iommu_group/devices")
    done = subprocess.run(
        ["hwmgr", "vf", "bind", address, "vfio-pci"], capture_output=True, text=True, check=True
    )
    try:
        blocking = [m for m in members if m != address and driver_of(m) not in (None, "vfio-pci")]
        assert all(m in done.stderr for m in blocking)
        assert bool(done.stderr) == bool(blocking)
    finally:
        subprocess.run(["hwmgr", "vf", "bind", address, "igbvf"], check=True)
        damage.settle()
        damage.announce_one(address)


def _unlike(case: Damage, before: dict[str, Any]) -> list[str]:
    if case.unlike == damage.NEW_VFS:
        damage.announce(damage.OTHER)
    found = differences(before, snapshot())
    return [text for text in found if not (case.unlike and re.search(case.unlike, text))]


def _host(case: Damage, unlike: list[str]) -> str:
    if unlike:
        return unlike[0]
    names = {damage.NEW_MAC: "as before but a MAC", damage.NEW_VFS: "as before but the new VFs"}
    return names.get(case.unlike, "as before")


def _hwmgr(*words: str) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(["hwmgr", *words, "-o", "json"], capture_output=True, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return done.returncode, found


def _clean(left: list[Finding]) -> str:
    return "clean" if not left else ",".join(f.id for f in left)
