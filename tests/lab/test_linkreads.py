"""Our reading of rtnetlink beside pyroute2's, on the 82576: the same, netdev by netdev."""

from __future__ import annotations

import subprocess

import pytest

from hwmgr.netlink import KernelNetlink
from tests.lab import bypyroute

pytestmark = pytest.mark.lab

PF, VF = "enp1s0", "enp1s0v1"
LONG = "a-name-longer-than-fifteen-bytes"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def test_netdevs_and_addresses_are_read_as_pyroute2_does() -> None:
    ip("link", "set", VF, "alias", "hwmgr:0000:01:10.2;name=é")
    ip("link", "property", "add", "dev", VF, "altname", LONG, "altname", "short0")
    ip("link", "add", "br9", "type", "bridge")
    ip("link", "add", "port9", "type", "dummy")
    ip("link", "set", "port9", "master", "br9")
    ip("address", "add", "10.9.0.1/24", "dev", VF)
    ip("-6", "address", "add", "fd09::1/64", "dev", VF)
    try:
        with KernelNetlink().links() as links:
            assert links.list() == bypyroute.netdevs()
            assert {i: list(a) for i, a in links.addresses().items()} == bypyroute.addresses()
            vf = links.find(VF)
            assert vf is not None
            assert {LONG, "short0"} <= set(vf.altnames)
            assert (vf.alias, vf.parent) == ("hwmgr:0000:01:10.2;name=é", "0000:01:10.2")
            # An interface that is down has no other address of global scope.
            assert set(vf.addresses) == {"10.9.0.1/24", "fd09::1/64"}
            assert links.find(LONG) == links.find("short0") == links.get(vf.index) == vf
            assert links.find("none0") is links.find("none-of-this-name-here") is None
            assert links.get(99999) is None
    finally:
        ip("link", "del", "port9")
        ip("link", "del", "br9")
        ip("address", "flush", "dev", VF)
        ip("link", "set", VF, "alias", "")
        ip("link", "property", "del", "dev", VF, "altname", LONG, "altname", "short0")


def test_vf_settings_are_read_as_pyroute2_does() -> None:
    changes = ("vlan", "77", "qos", "3"), ("spoofchk", "off"), ("trust", "on")
    for change in changes:
        ip("link", "set", PF, "vf", "3", *change)
    try:
        with KernelNetlink().links() as links:
            pf = links.find(PF)
            assert pf is not None
            read = links.vf_settings(pf.index)
            assert read == bypyroute.vf_settings(pf.index)
            assert sorted(read) == list(range(7))
            assert (read[3].vlan, read[3].qos) == (77, 3)
            assert (read[3].spoofchk, read[3].trust) == (False, True)
    finally:
        for back in ("vlan", "0"), ("spoofchk", "on"), ("trust", "off"):
            ip("link", "set", PF, "vf", "3", *back)
