"""scripts/record-sysfs: what it records reads as the original does, and names no board or host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hwmgr.inventory import inventory
from hwmgr.pfinventory import pf_inventory
from hwmgr.rdma import rdma_devices
from hwmgr.representor import representor
from scripts.benchrig.sysfstree import Size, write_tree
from tests.fakes.nodes import node_on

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "sysfs_fixtures"
# Planted on the original; no part of them may be in what is recorded.
SECRETS = {
    "mac": "3c:fd:fe:a1:b2:c3",
    "mac without colons": "3cfdfea1b2c3",
    "port GUID": "b8:59:9f:03:00:d4:e5:f6",
    "node GUID": "b859:9f03:00d4:e5f6",
    "serial": "MT2043X09871",
    "bridge id": "8000.3cfdfea1b2c3",
    "name by GUID": "rocex3cfdfe0300a1b2c3",
    "given address": "fa:16:3e:9c:11:22",
    "instance": "6e9c2f0b-7a51-4c1d-9d3e-0a1b2c3d4e5f",
    "name of an RDMA device that another file tells": "b8599f0300d4e5f6",
    "switch id": "b8599f0300d4e5f6",
    "host": "rack12-customer",
}


def record(original: Path, folder: Path) -> None:
    words = [sys.executable, str(ROOT / "scripts/record-sysfs"), "--sysfs", str(original)]
    done = subprocess.run([*words, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def everything(folder: Path) -> str:
    """Return all that is in a tree as one text: names, targets of links, contents."""
    found = []
    for path in sorted(folder.rglob("*")):
        found.append(str(path.relative_to(folder)))
        if path.is_symlink():
            found.append(os.readlink(path))
        elif path.is_file():
            found.append(path.read_text())
    return "\n".join(found).lower()


@pytest.mark.parametrize(
    "name", ["igb-82576", "x710-i40e", "82599-ixgbe", "e810-switchdev", "cx6-rdma", "wide-domain"]
)
def test_a_node_is_read_from_its_record_as_from_itself(name: str, tmp_path: Path) -> None:
    record(FIXTURES / name / "sys", tmp_path / "copy")
    was, now = node_on(FIXTURES / name), node_on(tmp_path / "copy")
    assert inventory(now) == inventory(was)
    assert [replace(pf, mac=None) for pf in pf_inventory(now)] == [
        replace(pf, mac=None) for pf in pf_inventory(was)
    ]
    for info in inventory(was):
        vf, pf = info.vf, info.pf_ifname or ""
        assert rdma_devices(now.sysfs, vf.address) == rdma_devices(was.sysfs, vf.address)
        assert representor(now.sysfs, pf, vf.index) == representor(was.sysfs, pf, vf.index)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A copy of cx4-infiniband whose first VF has a netdev named by its MAC, and much to hide."""
    base = tmp_path / "original"
    shutil.copytree(FIXTURES / "cx4-infiniband" / "sys", base / "sys", symlinks=True)
    function = base / "sys/devices/pci0000:00/0000:82:00.1"
    name = "enx" + SECRETS["mac without colons"]
    (base / "sys/class/net/ibp130s0v0").unlink()
    netdev = function / "net" / name
    (function / "net/ibp130s0v0").rename(netdev)
    (base / "sys/class/net" / name).symlink_to(f"../../devices/pci0000:00/0000:82:00.1/net/{name}")
    for path, text in {
        netdev / "uevent": f"INTERFACE={name}\nIFINDEX=7\n",
        netdev / "address": f"{SECRETS['mac'].upper()}\n",
        netdev / "ifalias": f"{SECRETS['host']} uplink\n",
        netdev / "phys_switch_id": f"{SECRETS['switch id']}\n",
        base / "sys/class/net/ibp130s0/address": "80:00:02:08:fe:80:00:00:00:00:00:00:"
        f"{SECRETS['port GUID']}\n",
        function / "infiniband/mlx5_1/node_guid": f"{SECRETS['node GUID']}\n",
        function / "infiniband/mlx5_1/node_desc": f"{SECRETS['host']} mlx5_1\n",
        function
        / "infiniband/mlx5_1/ports/1/gids/0": f"fe80:0000:0000:0000:{SECRETS['node GUID']}\n",
        function / "serial_number": f"{SECRETS['serial']}\n",
        # The bridge's own address is that of its first port, without colons.
        netdev / "brport/designated_root": f"{SECRETS['bridge id']}\n",
        function / f"infiniband/{SECRETS['name by GUID']}/node_type": "1: CA\n",
        # The file comes before the one that tells what is secret in it.
        function / "aaa": f"board {SECRETS['serial']}, port {SECRETS['switch id']}\n",
        base / "sys/class/net/ibp130s0v1/address": f"{SECRETS['given address']}\n",
        function / "modalias": f"vmbus:{SECRETS['instance']}\n",
        function / f"mlx5_{SECRETS['switch id']}/x": "y\n",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return base


def test_no_board_no_host_and_no_address_is_in_the_record(planted: Path, tmp_path: Path) -> None:
    assert all(secret.lower() in everything(planted) for secret in SECRETS.values())
    record(planted / "sys", tmp_path / "copy")
    text = everything(tmp_path / "copy")
    assert {what for what, secret in SECRETS.items() if secret.lower() in text} == set()
    first, _second = inventory(node_on(tmp_path / "copy"))
    (name,) = first.vf.netdevs
    address = (tmp_path / "copy/sys/class/net" / name / "address").read_text().strip()
    # The name and the address are masked alike, so that they still belong together.
    assert name == "enx" + address.replace(":", "")


def test_a_record_of_a_record_is_consistent(planted: Path, tmp_path: Path) -> None:
    """What was masked already is masked once more, each time to one thing."""
    record(planted / "sys", tmp_path / "copy")
    record(tmp_path / "copy/sys", tmp_path / "again")
    (first, _), (again, _) = (inventory(node_on(tmp_path / n)) for n in ("copy", "again"))
    (name,) = again.vf.netdevs
    address = (tmp_path / "again/sys/class/net" / name / "address").read_text().strip()
    assert name == "enx" + address.replace(":", "")
    assert replace(again.vf, netdevs=()) == replace(first.vf, netdevs=())


def test_a_file_that_is_no_text_is_named(planted: Path, tmp_path: Path) -> None:
    netdev = planted / "sys/class/net/ibp130s0v1"
    (netdev / "odd").write_bytes(b"\xff\xfe")
    (netdev / "ifalias").write_bytes(b"caf\xc3\xa9\n")
    record(planted / "sys", tmp_path / "copy")
    assert "`odd` (no text)" in (tmp_path / "copy/README.md").read_text()
    assert (tmp_path / "copy/sys/class/net/ibp130s0v1/ifalias").read_text() == "\n"


def test_more_vfs_than_256(tmp_path: Path) -> None:
    write_tree(f"{tmp_path}/sys", Size(pfs=1, vfs=300))
    record(tmp_path / "sys", tmp_path / "copy")
    assert len(inventory(node_on(tmp_path / "copy"))) == 300


def test_a_folder_with_a_record_in_it_is_left_alone(tmp_path: Path) -> None:
    record(FIXTURES / "wide-domain/sys", tmp_path)
    before = everything(tmp_path)
    words = [str(ROOT / "scripts/record-sysfs"), "--sysfs", str(FIXTURES / "igb-82576/sys")]
    done = subprocess.run([*words, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, "remove it first" in done.stderr) == (1, True)
    assert everything(tmp_path) == before
