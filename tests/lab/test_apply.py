"""Desired state on real functions: had, had once, and taken back."""

from __future__ import annotations

import json
import os
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hwmgr.desired import applying, reverting
from hwmgr.desired.applypf import Manner
from hwmgr.desired.file import parse
from tests.lab import forked
from tests.lab.cni import Pod, pod
from tests.lab.host_state import (
    DEVICES,
    PFS,
    announce_vfs,
    differences,
    driver_of,
    ip,
    netdev_of,
    snapshot,
    vf_info,
    vfs_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hwmgr.desired.state import Desired

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

PF = PFS[0]
PLAIN = Manner()
MIXED: dict[str, Any] = {
    "match": {"address": PF},
    "numVfs": 4,
    "mtu": 2000,
    "up": True,
    "vfs": [
        {"range": "0", "driver": "vfio-pci", "mac": "stable", "vlan": 100, "qos": 3},
        {"range": "1", "driver": "igb_uio", "spoofchk": False},
        {"range": "2-3", "driver": "igbvf", "mtu": 1400, "trust": True, "mac": "stable"},
    ],
}


def desired(*entries: dict[str, Any]) -> Desired:
    return parse("desired.yaml", yaml.load(yaml.safe_dump({"pfs": list(entries)}), yaml.BaseLoader))


def apply(wanted: Desired, checkpoint: Callable[[str], None] = lambda _: None) -> None:
    applying.apply(forked.node(checkpoint), wanted, PLAIN)


def revert(checkpoint: Callable[[str], None] = lambda _: None) -> None:
    reverting.revert(forked.node(checkpoint), PLAIN)


def hwmgr(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["hwmgr", *words], check=False, capture_output=True, text=True)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[dict[str, Any]]:
    """Give the state before, and hold the test to it: whatever was applied must be reverted."""
    for module in ("vfio-pci", "igb_uio"):
        subprocess.run(["modprobe", module], check=True)
    announce_vfs()
    before = snapshot()
    yield before
    if differences(before, snapshot()):
        assert forked.in_child(revert) == 0
    assert differences(before, snapshot()) == []


def check_mixed() -> None:
    vfs = vfs_of(PF)
    assert [driver_of(vf) for vf in vfs] == ["vfio-pci", "igb_uio", "igbvf", "igbvf"]
    first, second, third = (vf_info(PF, index) for index in (0, 1, 2))
    assert first["vlan_list"][0]["vlan"] == 100
    assert first["vlan_list"][0]["qos"] == 3
    assert second["spoofchk"] is False
    assert third["trust"] is True
    (link,) = ip("link", "show", netdev_of(vfs[2]))
    assert (link["mtu"], link["address"]) == (1400, third["address"])
    assert ip("link", "show", netdev_of(PF))[0]["mtu"] == 2000
    with open(f"{DEVICES}/{PF}/sriov_drivers_autoprobe") as file:
        assert file.read().strip() == "1"


def test_from_seven_to_none_to_four_to_seven(as_before: dict[str, Any], tmp_path: Path) -> None:
    for number in (0, 4, 7):
        path = tmp_path / f"{number}.yaml"
        entry = {**MIXED, "numVfs": number, "vfs": MIXED["vfs"][: 3 if number else 0]}
        if not number:
            del entry["vfs"]
        path.write_text(yaml.safe_dump({"pfs": [entry]}))
        planned = hwmgr("plan", str(path), "-o", "json")
        assert planned.returncode == 1, planned.stderr
        assert "numVfs" in [c["attribute"] for c in json.loads(planned.stdout)["changes"]]
        applied = hwmgr("apply", str(path), "-o", "json")
        assert applied.returncode == 0, applied.stderr
        assert len(vfs_of(PF)) == number
        again = hwmgr("apply", str(path), "-o", "json")
        assert (again.returncode, json.loads(again.stdout)["changes"]) == (0, []), again.stderr
        assert hwmgr("plan", str(path)).returncode == 0
        if number == 4:
            check_mixed()
    assert [driver_of(vf) for vf in vfs_of(PF)][4:] == ["igbvf"] * 3
    reverted = hwmgr("apply", "--revert")
    assert reverted.returncode == 0, reverted.stderr
    assert differences(as_before, snapshot()) == []


def assert_nothing_to_do(wanted: Desired) -> None:
    changes = applying.make_plan(forked.node(), wanted, PLAIN).changes
    assert changes == ()


def test_settings_of_vfs_that_stay(as_before: dict[str, Any]) -> None:
    """Without a new number the same VFs get what is wanted, and give it back."""
    group = {"range": "1-2", "vlan": 7, "trust": True, "spoofchk": False, "mtu": 1300}
    mac = {"range": "4", "mac": ["02:00:00:00:0d:01"]}
    rate = {"range": "5", "maxTxRate": 50}
    wanted = desired({"match": {"address": PF}, "vfs": [group, mac, rate]})
    assert forked.in_child(partial(apply, wanted)) == 0
    assert ip("link", "show", netdev_of(vfs_of(PF)[4]))[0]["address"] == "02:00:00:00:0d:01"
    assert vf_info(PF, 4)["address"] == "02:00:00:00:0d:01"
    assert vf_info(PF, 5)["rate"]["max_tx"] == 50
    assert forked.in_child(lambda: assert_nothing_to_do(wanted)) == 0
    assert forked.in_child(revert) == 0
    assert differences(as_before, snapshot()) == []


def test_what_was_as_desired_before_stays(as_before: dict[str, Any], tmp_path: Path) -> None:
    """A VLAN set by hand is left over until a file wants it; then neither repair nor apply acts."""
    name = netdev_of(PF)
    path = tmp_path / "desired.yaml"
    group = {"range": "1", "vlan": 100, "qos": 3, "trust": True}
    path.write_text(yaml.safe_dump({"pfs": [{"match": {"address": PF}, "vfs": [group]}]}))
    subprocess.run(["ip", "link", "set", name, "vf", "1", "vlan", "100", "qos", "3"], check=True)
    subprocess.run(["ip", "link", "set", name, "vf", "1", "trust", "on"], check=True)
    try:
        assert _findings() == [("vf-settings", vfs_of(PF)[1])]
        by_hand = _hardware()
        for _ in range(2):
            done = hwmgr("apply", str(path))
            assert (done.returncode, done.stderr) == (0, "hwmgr: nothing to do\n")
            assert _findings() == []
            repaired = hwmgr("repair", "--yes")
            assert (repaired.returncode, repaired.stderr) == (0, "hwmgr: nothing to repair\n")
            assert differences(by_hand, _hardware()) == []
        assert hwmgr("plan", str(path)).returncode == 0
        assert hwmgr("apply", "--revert").returncode == 0
        assert differences(by_hand, _hardware()) == []
        assert _findings() == [("vf-settings", vfs_of(PF)[1])]
    finally:
        subprocess.run(["ip", "link", "set", name, "vf", "1", "vlan", "0"], check=True)
        subprocess.run(["ip", "link", "set", name, "vf", "1", "trust", "off"], check=True)
    assert differences(as_before, snapshot()) == []


def _hardware() -> dict[str, Any]:
    return {what: found for what, found in snapshot().items() if what != "records"}


def _findings() -> list[tuple[str, str]]:
    found = json.loads(hwmgr("doctor", "-o", "json").stdout)
    return [(f["id"], f["subject"]) for f in found]


def test_stable_macs_are_made_from_the_cards_own(as_before: dict[str, Any]) -> None:
    """A bond gives its ports another one; what VFs have been given is still what is wanted."""
    wanted = desired({"match": {"address": PF}, "vfs": [{"range": "0-1", "mac": "stable"}]})
    name = netdev_of(PF)
    own = ip("link", "show", name)[0]["address"]
    assert forked.in_child(partial(apply, wanted)) == 0
    subprocess.run(["ip", "link", "set", name, "address", "02:00:00:00:00:b0"], check=True)
    try:
        assert forked.in_child(lambda: assert_nothing_to_do(wanted)) == 0
    finally:
        subprocess.run(["ip", "link", "set", name, "address", own], check=True)
    assert forked.in_child(revert) == 0
    assert differences(as_before, snapshot()) == []


def test_a_pf_that_the_node_needs(as_before: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "desired.yaml"
    path.write_text(yaml.safe_dump({"pfs": [{"match": {"address": PF}, "mtu": 2000, "up": False}]}))
    name = netdev_of(PF)
    for words in (
        "link add br9 up type bridge",
        f"link set {name} master br9",
        "address add 192.0.2.1/24 dev br9",
        "route add default via 192.0.2.254 dev br9 metric 9",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    try:
        planned = json.loads(hwmgr("plan", str(path), "-o", "json").stdout)
        refused = hwmgr("apply", str(path))
    finally:
        subprocess.run(["ip", "link", "delete", "br9"], check=True)
    said = "it is a port of br9; the node's default route leads through br9"
    assert [w.partition(":")[0] for w in planned["warnings"]] == ["pfs[0].up", "pfs[0].mtu"]
    assert all(said in warning for warning in planned["warnings"])
    assert (refused.returncode, "--force" in refused.stderr) == (1, True), refused.stderr
    assert differences(as_before, snapshot()) == []


def test_a_module_is_loaded_for_its_driver(as_before: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "desired.yaml"
    group = {"range": "0", "driver": "igb_uio"}
    path.write_text(yaml.safe_dump({"pfs": [{"match": {"address": PF}, "vfs": [group]}]}))
    subprocess.run(["modprobe", "-r", "igb_uio"], check=True)
    planned = json.loads(hwmgr("plan", str(path), "-o", "json").stdout)
    assert [c["attribute"] for c in planned["changes"]] == ["module", "driver"]
    assert not os.path.exists("/sys/bus/pci/drivers/igb_uio")
    applied = hwmgr("apply", str(path))
    assert applied.returncode == 0, applied.stderr
    assert driver_of(vfs_of(PF)[0]) == "igb_uio"
    assert forked.in_child(revert) == 0
    subprocess.run(["modprobe", "-r", "uio_pci_generic"], check=True)
    bound = hwmgr("vf", "bind", vfs_of(PF)[1], "uio_pci_generic")
    assert bound.returncode == 0, bound.stderr
    assert hwmgr("vf", "bind", vfs_of(PF)[1], "igbvf").returncode == 0
    subprocess.run(["udevadm", "settle"], check=True)


def test_what_was_made_before_a_driver_declines(as_before: dict[str, Any], tmp_path: Path) -> None:
    """The PF's driver refuses a link state; what came before it stays, and goes by --revert."""
    path = tmp_path / "desired.yaml"
    groups = [{"range": "0", "vlan": 7, "linkState": "enable"}, {"range": "1", "trust": True}]
    path.write_text(yaml.safe_dump({"pfs": [{"match": {"address": PF}, "vfs": groups}]}))
    failed = hwmgr("apply", str(path), "-o", "json")
    told = json.loads(failed.stdout)
    brief = [
        [(c["index"], c["attribute"]) for c in told[key]]
        for key in ("changes", "failed", "notTried")
    ]
    assert (failed.returncode, told["done"]) == (1, False)
    assert brief == [[(0, "vlan")], [(0, "linkState")], [(1, "trust")]], failed.stdout
    assert "'hwmgr apply --revert' goes back" in failed.stderr
    assert vf_info(PF, 0)["vlan_list"][0]["vlan"] == 7
    assert hwmgr("apply", "--revert").returncode == 0
    assert differences(as_before, snapshot()) == []


def test_a_pods_vf_stays(as_before: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "desired.yaml"
    path.write_text(yaml.safe_dump({"pfs": [{**MIXED, "numVfs": 7}]}))
    conf: dict[str, object] = {
        "cniVersion": "1.0.0", "name": "apply", "type": "sriov", "deviceID": vfs_of(PF)[5],
    }  # fmt: skip
    with pod() as one:
        assert forked.in_child(lambda: _attach(one, conf)) == 0
        held = snapshot()
        path.write_text(yaml.safe_dump({"pfs": [MIXED]}))
        planned = hwmgr("plan", str(path), "-o", "json")
        hits = [h["owner"]["containerId"] for h in json.loads(planned.stdout)["changes"][1]["hits"]]
        assert hits == [one.container_id]
        refused = hwmgr("apply", str(path))
        assert refused.returncode == 1
        assert one.container_id[:13] in refused.stderr
        assert "--force" in refused.stderr
        assert differences(held, snapshot()) == []
        forced = hwmgr("apply", "--force", str(path))
        assert forced.returncode == 0, forced.stderr
        check_mixed()
        assert forked.in_child(lambda: _detach(one, conf)) == 0
        check_mixed()
        assert forked.in_child(revert) == 0
    assert differences(as_before, snapshot()) == []


def _attach(one: Pod, conf: dict[str, object]) -> None:
    forked.plugin(_nowhere).add(forked.call("ADD", conf, one.container_id, one.path))


def _detach(one: Pod, conf: dict[str, object]) -> None:
    forked.plugin(_nowhere).delete(forked.call("DEL", conf, one.container_id, one.path))


def _nowhere(_name: str) -> None:
    return


def test_new_vfs_are_unmanaged_from_the_start(as_before: dict[str, Any]) -> None:
    """The udev rule speaks of VFs and of nothing else, also of those that are made later."""
    written = subprocess.run(
        ["hwmgr", "units", "--install", "--program", "/usr/bin/hwmgr"],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    # The rule starts nothing on a node that has no desired state.
    os.makedirs("/etc/hwmgr", exist_ok=True)
    with open("/etc/hwmgr/desired.yaml", "x") as file:
        file.write("pfs: [{match: {name: none}, optional: true}]\n")
    written.append(file.name)
    try:
        subprocess.run(["udevadm", "control", "--reload"], check=True)
        wanted = desired({"match": {"address": PF}, "numVfs": 3})
        assert forked.in_child(partial(apply, wanted)) == 0
        subprocess.run(["udevadm", "settle"], check=True)
        for vf in vfs_of(PF):
            found = _properties(netdev_of(vf))
            assert found["NM_UNMANAGED"] == "1"
            assert found["ID_NET_MANAGED_BY"] == "hwmgr"
            assert found["HWMGR_VF"] == "1"
        assert "NM_UNMANAGED" not in _properties(netdev_of(PF))
        tried = subprocess.run(
            ["udevadm", "test", "-a", "change", f"{DEVICES}/{PF}"],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert f"hwmgr-vfs@{PF}.service" in tried.stdout + tried.stderr
    finally:
        for path in written:
            os.unlink(path)
        subprocess.run(["udevadm", "control", "--reload"], check=True)
    assert forked.in_child(revert) == 0


def _properties(ifname: str) -> dict[str, str]:
    shown = subprocess.run(
        ["udevadm", "info", "-q", "property", "-p", f"/sys/class/net/{ifname}"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return dict(line.split("=", 1) for line in shown.splitlines())
