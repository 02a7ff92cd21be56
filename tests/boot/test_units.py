"""hwmgr's units, udev rules and networkd file over four boots of a node with NetworkManager.

The tests are one story, in this order.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.boot.machine import Node, machine

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.boot, pytest.mark.timeout(900)]

PF, OTHER_PF = "0000:01:00.0", "0000:02:00.0"
SRIOV = f"/sys/bus/pci/devices/{PF}/sriov_numvfs"
DESIRED = f"""\
pfs:
  - match: {{address: "{PF}"}}
    numVfs: 7
    up: true
    vfs:
      - {{range: 0-2, driver: vfio-pci, mac: stable}}
      - {{range: 3-4, driver: default, trust: true, vlan: 100}}
      - {{range: 5-6, mac: stable, mtu: 1400}}
  - match: {{name: enp2s0}}
    numVfs: 4"""
# Keeps what a kubelet, and a device plugin after it, would find.
KUBELET = """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c "hwmgr vf list -o json > /run/kubelet-sees"
[Install]
WantedBy=multi-user.target"""
STABLE = (0, 1, 2, 5, 6)
PLUGIN = "/usr/local/bin/sriov"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The first boot: a node that knows nothing of hwmgr."""
    with machine(tmp_path_factory.mktemp("node") / "disk") as node:
        yield node


@pytest.fixture(scope="module")
def installed(bare: Node) -> Node:
    """The second boot: what `hwmgr units` installs is there."""
    assert "systemctl enable" in bare.run("hwmgr units --install").stderr
    bare.write("/etc/hwmgr/desired.yaml", DESIRED)
    bare.write("/etc/modules-load.d/hwmgr.conf", "vfio-pci")
    bare.write("/etc/systemd/system/kubelet.service", KUBELET)
    bare("systemctl daemon-reload && systemctl enable hwmgr-apply kubelet")
    assert bare.reboot() == "running", bare("systemctl --failed")
    return bare


@pytest.fixture(scope="module")
def with_a_record(installed: Node) -> Node:
    """The third boot, after one in which a pod had a VF."""
    installed(f"ip netns add pod && /root/call {PLUGIN} ADD left {vfs(installed)[6]['address']}")
    before = macs(installed)
    assert installed.reboot() == "running", installed("systemctl --failed")
    assert macs(installed) == before
    return installed


def vfs(node: Node, pf: str = PF) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = node.json(f"hwmgr vf list --pf {pf} -o json")
    return found


def macs(node: Node) -> list[str]:
    """Return the MACs that `mac: stable` is about."""
    return [vf["mac"] for vf in vfs(node) if vf["index"] in STABLE]


def assert_as_desired(found: list[dict[str, Any]]) -> None:
    mine = [vf for vf in found if vf["pfAddress"] == PF]
    assert [vf["driver"] for vf in mine] == ["vfio-pci"] * 3 + ["igbvf"] * 4
    assert [vf["vlan"] for vf in mine] == [None] * 3 + [100] * 2 + [None] * 2
    assert [vf["trust"] for vf in mine] == [False] * 3 + [True] * 2 + [False] * 2
    assert all(vf["mac"] for vf in mine if vf["index"] in STABLE)


def assert_nobody_else_has_vfs(node: Node) -> None:
    node.managers_have_seen()
    found = node.managed()
    assert len(found) >= 4
    assert set(found.values()) == {("unmanaged", "unmanaged")}, found
    # Not even for a moment since the boot.
    assert taken_by_network_manager(node) == set()


def taken_by_network_manager(node: Node) -> set[str]:
    text = "\n".join(node.journal("NetworkManager"))
    return set(re.findall(r"device \((\w+v\d)\): state change: unmanaged ->", text))


def test_without_the_rules_vfs_are_taken(bare: Node) -> None:
    bare(f"echo 7 > {SRIOV}")
    bare.managers_have_seen()
    found = bare.managed()
    assert len(found) == 7
    assert "unmanaged" not in {state for states in found.values() for state in states}
    assert taken_by_network_manager(bare) == set(found)


def test_doctor_says_who_took_them_and_how_it_lets_go(bare: Node) -> None:
    """NetworkManager tells of a device that has a carrier, in /run, and of one that it let go."""
    carrier = "device (enp1s0v.): state change: unavailable -> disconnected"
    bare.await_journal("NetworkManager", carrier)
    found = bare.json("hwmgr doctor -o json || true")
    assert {f["finding"].split()[0] for f in found} == {"NetworkManager", "systemd-networkd"}
    one = next(f for f in found if f["finding"].startswith("NetworkManager"))
    command = one["repair"].partition("this one: ")[2]
    name = command.split()[3]
    assert command == f"nmcli device set {name} managed no"
    bare(command)
    bare.await_journal("NetworkManager", f"device ({name}): state change: .* -> unmanaged")
    left = bare.json("hwmgr doctor -o json || true")
    assert one["finding"] not in [f["finding"] for f in left]


def test_systemd_has_nothing_to_say_of_them(installed: Node) -> None:
    units = "/etc/systemd/system/hwmgr-apply.service /etc/systemd/system/hwmgr-vfs@.service"
    done = installed.run(f"systemd-analyze verify {units}")
    assert (done.status, done.stdout, done.stderr) == (0, "", "")
    said = installed("journalctl -b -o cat")
    assert "ordering cycle" not in said
    assert "79-hwmgr-vfs.rules" not in said
    assert "05-hwmgr-vfs.network" not in said


def test_vfs_are_there_before_anybody_looks(installed: Node) -> None:
    assert_as_desired(vfs(installed))
    assert len(vfs(installed, OTHER_PF)) == 4
    assert_as_desired(installed.json("cat /run/kubelet-sees"))
    assert installed("systemctl is-active hwmgr-apply.service") == "active"
    done = installed.moment("hwmgr-apply.service", "ActiveEnter")
    assert done <= installed.moment("network-pre.target", "ActiveEnter")
    for unit in ("NetworkManager", "systemd-networkd", "kubelet", "containerd"):
        assert done < installed.moment(f"{unit}.service", "InactiveExit"), unit
    assert installed.run("hwmgr plan /etc/hwmgr/desired.yaml").status == 0


def test_nobody_else_takes_them(installed: Node) -> None:
    assert_nobody_else_has_vfs(installed)
    assert installed("hwmgr doctor -o json") == "[]"


def test_nobody_else_takes_one_that_comes_back(installed: Node) -> None:
    """It comes back by the name that it had in the pod, and has its own when udevd looks."""
    vf = vfs(installed)[5]
    installed(f"ip netns add pod && /root/call {PLUGIN} ADD c1 {vf['address']}")
    assert vf["ifname"] not in installed.managed()
    installed(f"/root/call {PLUGIN} DEL c1 {vf['address']} && ip netns delete pod")
    assert vf["ifname"] in installed.managed()
    assert_nobody_else_has_vfs(installed)


def test_vfs_made_anew_by_hand(installed: Node) -> None:
    unit, text = "hwmgr-vfs@*", f"Finished hwmgr-vfs@{PF}.service"
    before, already = macs(installed), installed.said(unit, text)
    installed(f"echo 0 > {SRIOV} && echo 7 > {SRIOV}")
    installed.await_journal(unit, text, already)
    assert_as_desired(vfs(installed))
    assert macs(installed) == before


def test_records_of_an_earlier_boot(with_a_record: Node) -> None:
    assert_as_desired(vfs(with_a_record))
    (finding,) = with_a_record.json("hwmgr doctor -o json || true")
    assert finding["id"] == "record-other-boot"
    with_a_record("hwmgr repair --yes")
    assert with_a_record("hwmgr doctor -o json") == "[]"
    assert_nobody_else_has_vfs(with_a_record)


def test_a_file_that_is_wrong(with_a_record: Node) -> None:
    node = with_a_record
    node.write("/etc/hwmgr/desired.yaml", f'pfs: [{{match: {{address: "{PF}"}}, numVFs: 7}}]')
    assert node.reboot() == "degraded"
    assert node("systemctl --failed --plain --no-legend").split()[0] == "hwmgr-apply.service"
    said = "\n".join(node.journal("hwmgr-apply"))
    assert "desired.yaml: pfs[0].numVFs: unknown key; known are" in said
    for unit in ("network-pre.target", "kubelet.service", "containerd.service"):
        assert node(f"systemctl is-active {unit}") == "active"
    node.write("/etc/hwmgr/desired.yaml", DESIRED)
    node("systemctl restart hwmgr-apply")
    assert_as_desired(vfs(node))
