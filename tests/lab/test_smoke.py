"""The lab itself: the hardware that the other tests in here build on, without our own code."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

DEVICES = Path("/sys/bus/pci/devices")
DRIVERS = Path("/sys/bus/pci/drivers")
PFS = ("0000:01:00.0", "0000:02:00.0")
VFS_PER_PF = 7
LINK_SECONDS = 20


def on_numa_machine() -> bool:
    return Path("/sys/devices/system/node/node1").exists()


def physical_functions() -> tuple[str, ...]:
    """The NUMA machine has them on other buses."""
    if not on_numa_machine():
        return PFS
    return tuple(sorted(d.name for d in DEVICES.iterdir() if (d / "sriov_numvfs").exists()))


def vfs_of(pf: str) -> list[str]:
    links = [DEVICES / pf / f"virtfn{index}" for index in range(VFS_PER_PF)]
    return [os.path.basename(os.readlink(link)) for link in links]


def driver_of(address: str) -> str | None:
    link = DEVICES / address / "driver"
    return os.path.basename(os.readlink(link)) if link.is_symlink() else None


def netdev_of(address: str) -> str:
    (name,) = os.listdir(DEVICES / address / "net")
    return name


def settle() -> None:
    subprocess.run(["udevadm", "settle", "-t", "60"], check=True)


def rebind(address: str, driver: str | None) -> None:
    """Bind by driver_override; None is the driver that matches by itself."""
    device = DEVICES / address
    (device / "driver_override").write_text(f"{driver or ''}\n")
    if (device / "driver").exists():
        (device / "driver" / "unbind").write_text(address)
    Path("/sys/bus/pci/drivers_probe").write_text(address)
    settle()


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@contextmanager
def namespace(name: str) -> Iterator[str]:
    ip("netns", "add", name)
    try:
        yield name
    finally:
        ip("netns", "del", name)


def test_there_are_two_pfs_with_seven_vfs_each_in_igb_and_igbvf() -> None:
    assert len(physical_functions()) == 2
    for pf in physical_functions():
        assert driver_of(pf) == "igb"
        assert (DEVICES / pf / "sriov_totalvfs").read_text() == "7\n"
        assert (DEVICES / pf / "sriov_numvfs").read_text() == "7\n"
        assert [driver_of(vf) for vf in vfs_of(pf)] == ["igbvf"] * VFS_PER_PF
        assert all(netdev_of(vf).startswith(f"{netdev_of(pf)}v") for vf in vfs_of(pf)), "udev"


def test_every_vf_has_an_iommu_group_of_its_own() -> None:
    vfs = [vf for pf in physical_functions() for vf in vfs_of(pf)]
    groups = [os.readlink(DEVICES / vf / "iommu_group") for vf in vfs]
    assert len(set(groups)) == 2 * VFS_PER_PF
    for vf in vfs:
        assert os.listdir(DEVICES / vf / "iommu_group" / "devices") == [vf]


def test_numa_nodes_are_told() -> None:
    nodes = [(DEVICES / pf / "numa_node").read_text() for pf in physical_functions()]
    assert nodes == (["0\n", "1\n"] if on_numa_machine() else ["-1\n", "-1\n"])


def test_a_vf_goes_to_vfio_pci_and_back() -> None:
    vf = vfs_of(physical_functions()[0])[6]
    name = netdev_of(vf)
    try:
        rebind(vf, "vfio-pci")
        assert driver_of(vf) == "vfio-pci"
        assert not (DEVICES / vf / "net").exists()
        group = os.path.basename(os.readlink(DEVICES / vf / "iommu_group"))
        assert Path(f"/dev/vfio/{group}").is_char_device()
    finally:
        rebind(vf, None)
    assert driver_of(vf) == "igbvf"
    assert netdev_of(vf) == name


@pytest.mark.parametrize("driver", ["igb_uio", "vfio-pci", "uio_pci_generic"])
def test_dpdk_devbind_binds_a_vf_and_gives_it_back(driver: str) -> None:
    vf = vfs_of(physical_functions()[1])[6]
    try:
        subprocess.run(["dpdk-devbind.py", f"--bind={driver}", vf], check=True)
        assert driver_of(vf) == driver
        subprocess.run(["dpdk-devbind.py", "--bind=igbvf", vf], check=True)
        assert driver_of(vf) == "igbvf"
    finally:
        rebind(vf, None)


def test_vfs_are_made_anew() -> None:
    pf = physical_functions()[1]
    numvfs = DEVICES / pf / "sriov_numvfs"
    with pytest.raises(OSError, check=lambda error: error.errno == errno.EBUSY):
        numvfs.write_text("3")
    numvfs.write_text("0")
    assert not (DEVICES / pf / "virtfn0").exists()
    with pytest.raises(OSError, check=lambda error: error.errno == errno.ERANGE):
        numvfs.write_text("8")
    numvfs.write_text("7")
    settle()
    assert [driver_of(vf) for vf in vfs_of(pf)] == ["igbvf"] * VFS_PER_PF


def test_two_vfs_talk_through_their_pfs() -> None:
    first, second = physical_functions()
    for pf in (first, second):
        ip("link", "set", netdev_of(pf), "up")
    ends = {}
    with namespace("smoke-a") as left, namespace("smoke-b") as right:
        for number, (where, vf) in enumerate(
            ((left, vfs_of(first)[0]), (right, vfs_of(second)[3]))
        ):
            name = ends[where] = netdev_of(vf)
            ip("link", "set", name, "netns", where)
            ip("-n", where, "addr", "add", f"10.9.0.{number + 1}/24", "dev", name)
            ip("-n", where, "link", "set", name, "up")
        # igbvf looks for its link every other second and says nothing to wait for.
        ping = ["ip", "netns", "exec", left, "ping", "-q", "-c", "1", "-W", "1", "10.9.0.2"]
        deadline = time.monotonic() + LINK_SECONDS
        while subprocess.run(ping, check=False, stdout=subprocess.DEVNULL).returncode != 0:
            assert time.monotonic() < deadline, "no answer: do the VFs move packets?"
        for where, name in ends.items():
            ip("-n", where, "link", "set", name, "netns", "1")
    settle()


@pytest.fixture
def simulated() -> Iterator[str]:
    """The netdev of a netdevsim device with two VFs: it takes the settings that igb refuses."""
    bus = Path("/sys/bus/netdevsim")
    (bus / "new_device").write_text("7 1")
    try:
        settle()
        (bus / "devices/netdevsim7/sriov_numvfs").write_text("2")
        (name,) = os.listdir(bus / "devices/netdevsim7/net")
        yield name
    finally:
        (bus / "del_device").write_text("7")


def test_netdevsim_takes_what_igb_refuses(simulated: str) -> None:
    ip("link", "set", simulated, "vf", "1", "state", "enable")
    ip("link", "set", simulated, "vf", "1", "max_tx_rate", "200", "min_tx_rate", "100")
    ip("link", "set", simulated, "vf", "1", "vlan", "100", "qos", "3", "proto", "802.1ad")
    (link,) = json.loads(ip("-j", "link", "show", simulated))
    (vf,) = [info for info in link["vfinfo_list"] if info["vf"] == 1]
    assert vf["link_state"] == "enable"
    assert vf["rate"] == {"max_tx": 200, "min_tx": 100}
    assert vf["vlan_list"] == [{"vlan": 100, "qos": 3, "protocol": "802.1ad"}]


def test_igb_refuses_what_netdevsim_takes() -> None:
    name = netdev_of(physical_functions()[0])
    for setting in (("state", "enable"), ("vlan", "5", "proto", "802.1ad")):
        done = subprocess.run(
            ["ip", "link", "set", name, "vf", "0", *setting], check=False, capture_output=True
        )
        assert done.returncode != 0
