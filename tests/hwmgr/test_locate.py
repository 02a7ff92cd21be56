"""Where a function's netdevs are: what a pod can pretend, and what it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.locate import inside, mark
from hwmgr.model import Netdev

if TYPE_CHECKING:
    from tests.fakes.machine import Machine

VF = "0000:01:10.0"


def _pretend(machine: Machine) -> int:
    """Make a netdev in a pod that carries our mark for a VF which is not there."""
    pod = machine.namespace()
    alias = mark(VF, "eth1v0", "c1")
    fake = Netdev(index=0, name="eth7", mac="02:00:00:00:00:01", mtu=1500, up=False, alias=alias)
    machine.netlink.add(fake, pod.key)
    return pod.fd


def test_a_pods_alias_does_not_make_its_netdev_ours(machine: Machine) -> None:
    assert inside(machine.node, _pretend(machine), VF) == ()


def test_the_mark_counts_where_the_kernel_names_no_parents(machine: Machine) -> None:
    machine.netlink.parents = False
    assert [n.name for n in inside(machine.node, _pretend(machine), VF)] == ["eth7"]
