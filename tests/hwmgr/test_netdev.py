"""Moving a netdev there and back, with the kernel's refusals in between."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hwmgr import netdev
from hwmgr.errors import NameTaken, NetlinkError
from hwmgr.model import Netdev

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.machine import Machine
    from tests.fakes.namespaces import Namespace

POD_ETH0 = Netdev(index=0, name="eth0", mac="02:00:00:00:00:99", mtu=1500, up=True)


@pytest.fixture
def home_fd() -> Iterator[int]:
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    yield fd
    os.close(fd)


def dressed(machine: Machine) -> Netdev:
    machine.netlink.edit(
        "eth1v0", up=True, mtu=3333, alias="mine", altnames=("enp1s16", "ens1v0"),
        addresses=("10.0.0.1/24",),
    )  # fmt: skip
    return machine.netlink.space()["eth1v0"]


def pod_with(machine: Machine, *names: str) -> Namespace:
    pod = machine.namespace()
    for name in names:
        machine.netlink.add(replace(POD_ETH0, name=name), pod.key)
    return pod


def hand_over(machine: Machine, before: Netdev, pod: Namespace) -> None:
    with machine.node.netlink.links(pod.fd) as there:
        netdev.hand_over(machine.node, before, pod.fd, there, "net1", "mark")


def test_there_and_back(machine: Machine, home_fd: int) -> None:
    before = dressed(machine)
    pod = pod_with(machine, "lo", "eth0")
    hand_over(machine, before, pod)
    there = machine.netlink.space(pod.key)["net1"]
    assert (there.up, there.altnames, there.alias) == (False, (), "mark")
    assert "eth1v0" not in machine.netlink.space()
    machine.netlink.edit("net1", pod.key, up=True, mtu=4444, altnames=("podname",))
    there = machine.netlink.space(pod.key)["net1"]
    netdev.bring_home(machine.node, there, pod.fd, home_fd, before.name)
    with machine.netlink.links() as links:
        now = machine.netlink.space()["eth1v0"]
        assert netdev.give_back(links, now, before) == []
    after = machine.netlink.space()["eth1v0"]
    assert replace(after, altnames=()) == replace(before, altnames=())
    assert set(after.altnames) == set(before.altnames)


def test_a_taken_name_is_refused_before_anything(machine: Machine) -> None:
    before = dressed(machine)
    pod = pod_with(machine, "net1")
    calls = len(machine.netlink.calls)
    with pytest.raises(NameTaken):
        hand_over(machine, before, pod)
    assert machine.netlink.calls[calls:] == []
    assert machine.netlink.space()["eth1v0"] == before


@pytest.mark.parametrize("taken", [("eth1v0",), ("net1",), ("net1", "eth1v0")])
def test_it_comes_home_whatever_names_are_taken(
    machine: Machine, home_fd: int, taken: tuple[str, ...]
) -> None:
    before = machine.netlink.space()["eth1v0"]
    pod = pod_with(machine)
    hand_over(machine, before, pod)
    for name in taken:
        machine.netlink.add(replace(POD_ETH0, name=name))
    there = machine.netlink.space(pod.key)["net1"]
    netdev.bring_home(machine.node, there, pod.fd, home_fd, before.name)
    assert machine.netlink.space(pod.key) == {}
    mine = [n for n in machine.netlink.space().values() if n.parent == before.parent]
    assert len(mine) == 1


def test_a_name_that_the_host_has_as_the_pods_altname(machine: Machine, home_fd: int) -> None:
    before = machine.netlink.space()["eth1v0"]
    pod = pod_with(machine)
    hand_over(machine, before, pod)
    machine.netlink.edit("net1", pod.key, altnames=("eth1v1", "eth1v0"))
    there = machine.netlink.space(pod.key)["net1"]
    netdev.bring_home(machine.node, there, pod.fd, home_fd, before.name)
    assert "eth1v0" in machine.netlink.space()


def test_other_refusals_are_told(machine: Machine, home_fd: int) -> None:
    before = machine.netlink.space()["eth1v0"]
    pod = pod_with(machine)
    machine.netlink.fail("move", errno.EINVAL)
    with pytest.raises(NetlinkError):
        hand_over(machine, before, pod)
    assert "eth1v0" in machine.netlink.space()


def test_an_altname_that_udevd_made_of_the_old_name(machine: Machine) -> None:
    before = machine.netlink.space()["eth1v0"]
    machine.netlink.edit("eth1v0", name="net1", up=True, altnames=("eth1v0",))
    with machine.netlink.links() as links:
        now = machine.netlink.space()["net1"]
        assert netdev.give_back(links, now, before) == []
    assert machine.netlink.space()["eth1v0"] == before


def test_what_cannot_be_given_back_is_said_and_the_rest_is_done(machine: Machine) -> None:
    before = replace(dressed(machine), alias=None)
    machine.netlink.edit("eth1v0", mtu=1500, up=False, addresses=())
    machine.netlink.fail("set_mtu", errno.EINVAL)
    with machine.netlink.links() as links:
        now = machine.netlink.space()["eth1v0"]
        problems = netdev.give_back(links, now, before)
    assert len(problems) == 1
    after = machine.netlink.space()["eth1v0"]
    assert (after.up, after.alias, after.addresses) == (True, None, before.addresses)


def test_an_altname_that_came_by_itself_is_no_problem(machine: Machine) -> None:
    before = replace(machine.netlink.space()["eth1v0"], altnames=("enp1s16",))
    machine.netlink.fail("add_altname", errno.EEXIST)
    with machine.netlink.links() as links:
        now = machine.netlink.space()["eth1v0"]
        machine.netlink.edit("eth1v0", altnames=("enp1s16",))
        assert netdev.give_back(links, now, before) == []


def test_a_mac_that_the_driver_takes_late_or_never(machine: Machine) -> None:
    index = machine.netlink.space()["eth1v0"].index
    mac = "02:00:00:00:00:77"
    real = machine.netlink.space()["eth1v0"].mac
    with machine.netlink.links() as links:
        netdev.set_mac(machine.node, links, index, mac)
        assert machine.udev.waits == []
        machine.netlink.edit("eth1v0", mac=real)
    with machine.netlink.links() as links:

        class Late:
            """Takes a MAC only while somebody waits, as iavf does."""

            def __getattr__(self, name: str) -> object:
                return getattr(links, name)

            def set_mac(self, index: int, mac: str) -> None:
                machine.udev.later.append(lambda: links.set_mac(index, mac))

        netdev.set_mac(machine.node, Late(), index, mac)  # type: ignore[arg-type]
        assert machine.netlink.space()["eth1v0"].mac == mac

        class Deaf(Late):
            def set_mac(self, index: int, mac: str) -> None:
                return

        with pytest.raises(NetlinkError) as caught:
            netdev.set_mac(machine.node, Deaf(), index, "02:00:00:00:00:78")  # type: ignore[arg-type]
        assert caught.value.errno == errno.EADDRNOTAVAIL
