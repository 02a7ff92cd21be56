"""Any order of claims, releases, deaths and repairs: one owner for a VF, and nothing lost."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hwmgr.doctor import repair
from hwmgr.errors import DeviceBusy, NoFreeVF
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, DpdkRequest, Kind, PciAddress, Stage, VFSettings
from tests.fakes.attachments import repair_of_records
from tests.fakes.machine import Machine, build, replace_node
from tests.fakes.mortal import Killed, Life, mortal
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from tests.fakes.namespaces import Namespace

NIC = Nic(vfs=3)
CONTAINERS = st.sampled_from([f"{n:064x}" for n in range(1, 6)])
FATES = st.one_of(st.just(0), st.integers(1, 40))


class Claims(RuleBasedStateMachine):
    """Five containers and three VFs; the model knows which container holds what."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.base = tempfile.mkdtemp(dir=memory if memory.is_dir() else None)
        self.machine: Machine = build(self.base, NIC)
        self.before = self.machine.snapshot()
        self.pods: dict[str, Namespace] = {}
        self.held: dict[str, PciAddress] = {}
        self.unsure: set[str] = set()

    def teardown(self) -> None:
        for container in [*self.pods]:
            Manager(self.machine.node).detach(container, "net1")
        now = self.machine.snapshot()
        changed = {k for k in self.before.keys() | now.keys() if self.before.get(k) != now.get(k)}
        self.machine.close()
        shutil.rmtree(self.base)
        assert changed == set()

    @rule(
        container=CONTAINERS,
        index=st.none() | st.integers(0, NIC.vfs - 1),
        dpdk=st.booleans(),
        vlan=st.sampled_from([None, 5]),
        fate=FATES,
    )
    def attach(
        self, container: str, index: int | None, dpdk: bool, vlan: int | None, fate: int
    ) -> None:
        """Attach, of late by name; the process may be killed at some effect."""
        if container in self.held or container in self.unsure:
            return
        pod = self.pods.setdefault(container, self.machine.namespace())
        request = AttachRequest(
            container_id=container,
            ifname="net1",
            netns_path=pod.path,
            kind=Kind.DPDK if dpdk else Kind.VF,
            device=None if index is None else PciAddress(NIC.vf(index)),
            pf_name=NIC.ifname if index is None else None,
            settings=VFSettings(vlan=vlan),
            dpdk=DpdkRequest("vfio-pci") if dpdk else None,
        )
        wanted = None if index is None else NIC.vf(index)
        try:
            attached = Manager(mortal(self.machine.node, Life(fate))).attach(request)
        except Killed:
            self.unsure.add(container)
        except NoFreeVF:
            assert len(self.held) + len(self.unsure) >= NIC.vfs
        except DeviceBusy:
            assert self.unsure or wanted in self.held.values()
        else:
            assert wanted in (None, attached.address)
            assert attached.address not in self.held.values()
            self.held[container] = attached.address
            # A dead owner's VF may have been given on: then that owner has nothing any more.
            self.unsure &= {r.owner.container_id for r in self.machine.node.journal.records()}

    @rule(container=CONTAINERS, fate=FATES)
    def detach(self, container: str, fate: int) -> None:
        node = mortal(self.machine.node, Life(fate))
        try:
            Manager(node).detach(container, "net1")
        except Killed:
            self.unsure.add(container)
            self.held.pop(container, None)
        else:
            self._forget(container)

    @precondition(lambda self: self.pods)
    @rule(data=st.data())
    def pod_dies(self, data: st.DataObject) -> None:
        """A namespace ends without a DEL: what it held is leaked until somebody takes it back."""
        container = data.draw(st.sampled_from(sorted(self.pods)))
        self.machine.kill(self.pods.pop(container))
        if self.held.pop(container, None) is not None:
            self.unsure.add(container)
        self.pods[container] = self.machine.namespace()

    @rule()
    def collect(self) -> None:
        assert Manager(self.machine.node).collect([*self.held]) == []
        self.unsure.clear()

    @rule()
    def repaired(self) -> None:
        """Repair takes back what was not finished or has no owner, and nothing that is held."""
        for step in repair_of_records(self.machine.node):
            assert step.finding.subject not in self.held.values()
            assert repair.act(self.machine.node, step) == []
        for container in [*self.unsure]:
            if not self.machine.node.journal.owned_by(container):
                self.unsure.discard(container)

    @rule(container=CONTAINERS)
    def rebooted_elsewhere(self, container: str) -> None:
        """A record of another boot never has its VF touched."""
        node = replace_node(self.machine.node, boot_id="another-boot")
        if container in self.held or container in self.unsure:
            return
        before = self.machine.snapshot()
        assert not Manager(node).detach(container, "net1")
        assert self.machine.snapshot() == before

    @invariant()
    def one_owner_each(self) -> None:
        held = {}
        for record in self.machine.node.journal.records():
            if record.owner.container_id in self.held:
                assert record.stage is Stage.ATTACHED
                held[record.owner.container_id] = record.address
        assert held == self.held
        assert len(set(held.values())) == len(held)

    @invariant()
    def what_is_held_is_whole(self) -> None:
        for container in self.held:
            Manager(self.machine.node).check(container, "net1")

    @invariant()
    def what_nobody_holds_is_as_it_was(self) -> None:
        if self.unsure:
            return
        free = {NIC.vf(n) for n in range(NIC.vfs)} - set(self.held.values())
        settings_now = self.machine.sim.vf_side.get(NIC.address)
        for index in range(NIC.vfs):
            if NIC.vf(index) in free:
                assert f"eth1v{index}" in self.machine.netlink.space()
                before = self.before[f"settings {NIC.address}"]
                assert isinstance(before, dict)
                assert settings_now[index] == before[index]

    def _forget(self, container: str) -> None:
        self.held.pop(container, None)
        self.unsure.discard(container)


TestClaims = Claims.TestCase
TestClaims.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
