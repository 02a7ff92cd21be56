"""Attachments of every kind, and what worn hardware has: what the undo tests go through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwmgr.doctor import repair
from hwmgr.doctor.findings import RECORD_CURES
from hwmgr.model import (
    AttachRequest,
    DpdkRequest,
    Kind,
    LinkState,
    PciAddress,
    VFSettings,
    VlanProto,
)
from tests.fakes.fixtures_mellanox import CX3
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from hwmgr.doctor.repair import Step
    from hwmgr.node import Node

CONTAINER = "c0ffee0000000000000000000000000000000000000000000000000000000001"
SMALL = Nic(vfs=2)
NOTHING = VFSettings()
EVERYTHING = VFSettings(
    mac="02:00:00:00:00:42",
    vlan=100,
    qos=5,
    proto=VlanProto.DOT1AD,
    min_rate=10,
    max_rate=100,
    spoofchk=False,
    trust=True,
    link_state=LinkState.ENABLE,
)
WORN = VFSettings(
    mac="02:00:00:00:00:17",
    vlan=7,
    qos=3,
    proto=VlanProto.DOT1Q,
    min_rate=0,
    max_rate=50,
    spoofchk=True,
    trust=False,
    link_state=LinkState.AUTO,
)


def repair_of_records(node: Node) -> list[Step]:
    """Return the part of a repair's plan that goes by the journal alone.

    Worn hardware has a VLAN and a MAC of its own before it is attached: that is no repair's
    business in a test of the undo.
    """
    return [step for step in repair.plan(node) if step.finding.cure in RECORD_CURES]


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of attachment. ``vf`` is the VF that it takes or is to get, None for the PF.

    ``bound`` is the driver that the VF has beforehand. ``tool`` has dpdk-devbind.py do the binding.
    """

    name: str
    kind: Kind = Kind.VF
    nic: Nic = SMALL
    vf: int | None = 0
    by_name: bool = False
    settings: VFSettings = NOTHING
    mtu: int | None = None
    up: bool = True
    l2: bool = False
    driver: str | None = None
    tool: bool = False
    seed_style: bool = False
    bound: str | None = None

    @property
    def address(self) -> PciAddress:
        """Return the address of the function that is given away."""
        return PciAddress(self.nic.address if self.vf is None else self.nic.vf(self.vf))

    def request(self, netns_path: str, tool: str | None = None, **change: object) -> AttachRequest:
        """Return the request; ``tool`` is the path of dpdk-devbind.py."""
        dpdk = None
        if self.kind is Kind.DPDK:
            dpdk = DpdkRequest(
                driver=self.driver, tool=tool if self.tool else None, kernel_driver="igbvf"
            )
        made = AttachRequest(
            container_id=CONTAINER,
            ifname="net1",
            netns_path=netns_path,
            kind=self.kind,
            device=None if self.by_name or self.vf is None else self.address,
            pf_name=self.nic.ifname if self.by_name or self.vf is None else None,
            settings=self.settings,
            mtu=self.mtu,
            whole_pf=self.vf is None,
            up=self.up,
            l2=self.l2,
            dpdk=dpdk,
            seed_style=self.seed_style,
            saved_conf={"name": "net", "type": "sriov", "if0": self.nic.ifname},
        )
        return replace(made, **change)  # type: ignore[arg-type]


CASES = (
    Case("vf"),
    Case("vf-everything", settings=EVERYTHING, mtu=4000),
    Case("vf-mac", settings=VFSettings(mac="02:00:00:00:00:43")),
    Case("vf-2018", by_name=True, seed_style=True, settings=VFSettings(vlan=9)),
    Case("vf-l2", by_name=True, seed_style=True, l2=True, up=False),
    Case("vf-shared", nic=CX3, by_name=True, seed_style=True, l2=True, settings=VFSettings(vlan=9)),
    Case("dpdk-vfio", kind=Kind.DPDK, driver="vfio-pci", settings=EVERYTHING),
    Case("dpdk-2018", kind=Kind.DPDK, driver="igb_uio", by_name=True, seed_style=True),
    Case("dpdk-tool", kind=Kind.DPDK, driver="uio_pci_generic", by_name=True, tool=True),
    Case("dpdk-bound", kind=Kind.DPDK, bound="vfio-pci", settings=VFSettings(vlan=9)),
    Case("pf", kind=Kind.PF, vf=None),
    Case("pf-dpdk", kind=Kind.DPDK, vf=None, nic=Nic(vfs=0), driver="vfio-pci"),
)
