"""Each check of doctor by itself: facts of a machine of fakes, one of them changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr import driver
from hwmgr.doctor import (
    checks_files,
    checks_foreign,
    checks_host,
    checks_netdevs,
    checks_records,
    checks_vfs,
)
from hwmgr.doctor.examination import examine
from hwmgr.doctor.facts import Facts, gather
from hwmgr.doctor.facts_host import HugePages, Kubelet, Manager
from hwmgr.doctor.facts_state import Claim, RecordFile
from hwmgr.doctor.facts_temporaries import Temporary
from hwmgr.doctor.findings import Cure, Severity
from hwmgr.iommugroups import Member
from hwmgr.manager import Manager as DeviceManager
from hwmgr.model import (
    AttachRequest,
    DpdkRequest,
    Kind,
    LinkState,
    PciAddress,
    Stage,
    VFSettings,
    VFState,
)
from hwmgr.savedstate import Format, SavedEntry
from tests.fakes.machine import build
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmgr.doctor.findings import Finding
    from hwmgr.model import Record
    from tests.fakes.machine import Machine

PF = "0000:01:00.0"
VF = PciAddress("0000:01:10.2")
OTHER = "0000:01:10.4"
CONTAINER = "feedbeef" * 8


@dataclass
class Scene:
    """One VF is attached to a living pod; ``change`` makes the facts other than they are."""

    machine: Machine
    facts: Facts

    @property
    def record(self) -> Record:
        record = self.facts.record_of(VF)
        assert record is not None
        return record

    def change(self, **change: Any) -> None:
        self.facts = replace(self.facts, **change)

    def change_record(self, **change: Any) -> None:
        files = tuple(
            replace(f, record=replace(f.record, **change)) if f.record else f
            for f in self.facts.state.files
        )
        self.change_state(files=files)

    def change_state(self, **change: Any) -> None:
        self.change(state=replace(self.facts.state, **change))

    def change_vf(self, address: str, info: dict[str, Any] | None = None, **vf: Any) -> None:
        self.change(
            vfs=tuple(
                replace(i, vf=replace(i.vf, **vf), **(info or {})) if i.vf.address == address else i
                for i in self.facts.vfs
            )
        )

    def change_netdev(self, address: str, **change: Any) -> None:
        old = self.facts.here[address][0]
        new = replace(old, **change)
        host = tuple(new if n is old else n for n in self.facts.host)
        self.change(host=host, here={**self.facts.here, address: (new,)})


def attached(machine: Machine, kind: Kind = Kind.VF) -> Scene:
    pod = machine.namespace()
    dpdk = DpdkRequest(driver="vfio-pci") if kind is Kind.DPDK else None
    request = AttachRequest(CONTAINER, "net1", pod.path, kind, device=VF, dpdk=dpdk)
    DeviceManager(machine.node).attach(request)
    return Scene(machine, gather(machine.node))


@pytest.fixture
def scene(machine: Machine) -> Scene:
    return attached(machine)


def only(check: Any, facts: Facts) -> Finding:
    """Return the one finding of a check; it must have evidence with a source for each fact."""
    (found,) = check(facts)
    assert isinstance(found.evidence, tuple)
    assert found.evidence
    assert all(e.fact and e.source for e in found.evidence)
    assert found.repair
    return found  # type: ignore[no-any-return]


def test_a_healthy_attachment_is_no_finding(scene: Scene) -> None:
    for check in (
        checks_records,
        checks_foreign,
        checks_vfs,
        checks_netdevs,
        checks_host,
        checks_files,
    ):
        assert list(check.check(scene.facts)) == []


def test_processes_are_looked_through_only_when_something_is_missed(machine: Machine) -> None:
    other = machine.namespace()
    folder = Path(machine.node.proc, "9/ns")
    folder.mkdir(parents=True)
    (folder / "net").symlink_to(other.path)
    scene = attached(machine)
    assert other.key not in scene.facts.spaces
    assert len(scene.facts.spaces) == 1
    machine.kill(machine._namespaces[-1])
    assert other.key in gather(machine.node).spaces


def test_the_kernel_is_asked_once_whatever_the_number_of_vfs(tmp_path: Path) -> None:
    asked: dict[int, list[str]] = {}
    for vfs in (2, 7):
        machine = build(str(tmp_path / str(vfs)), Nic(vfs=vfs))
        fault, heard = machine.netlink.fault, asked.setdefault(vfs, [])

        def listen(verb: str, heard: list[str] = heard, fault: Callable[[str], int] = fault) -> int:
            heard.append(verb)
            return fault(verb)

        machine.netlink.fault = listen  # type: ignore[method-assign]
        assert list(examine(machine.node)) == []
    assert sorted(asked[2]) == sorted(asked[7])
    assert "list" in asked[7]


# Records and claims.


def test_a_record_of_another_boot(scene: Scene) -> None:
    scene.change(boot_id="another")
    found = only(checks_records.check, scene.facts)
    assert (found.id, found.cure) == ("record-other-boot", Cure.STRIKE)
    assert {e.fact for e in found.evidence} >= {"this boot is another"}


def test_a_record_whose_device_is_gone(scene: Scene) -> None:
    scene.change(present=scene.facts.present - {VF})
    assert only(checks_records.check, scene.facts).id == "record-no-device"


def test_a_record_of_another_place(scene: Scene) -> None:
    scene.change_record(index=5)
    found = only(checks_records.check, scene.facts)
    assert (found.id, found.cure) == ("record-moved", Cure.SET_ASIDE)
    assert "VF 5" in found.finding


@pytest.mark.parametrize("stage", [Stage.INTENDED, Stage.DETACHING])
def test_an_unfinished_record(scene: Scene, stage: Stage) -> None:
    scene.change_record(stage=stage)
    assert only(checks_records.check, scene.facts).id == "record-unfinished"
    scene.change(busy=frozenset({VF}))
    assert list(checks_records.check(scene.facts)) == []


def test_a_namespace_that_is_gone(scene: Scene) -> None:
    scene.change(spaces={})
    found = only(checks_records.check, scene.facts)
    assert (found.id, found.cure) == ("vf-leaked", Cure.GIVE_BACK)


def test_damaged_and_later_records(scene: Scene) -> None:
    torn = RecordFile(f"{VF}.json", "/j", VF, problem="ValueError: x")
    scene.change_state(files=(torn,))
    found = only(checks_records.check, scene.facts)
    assert (found.id, found.cure, found.subject) == ("record-torn", Cure.SET_ASIDE, VF)
    scene.change_state(files=(replace(torn, schema=2),))
    found = only(checks_records.check, scene.facts)
    assert (found.id, found.cure) == ("record-schema", None)
    scene.change_state(files=(replace(torn, name="x", address=None),))
    found = only(checks_records.check, scene.facts)
    assert (found.subject, found.cure, found.value) == ("/j", Cure.SET_FILE_ASIDE, "x")


def test_two_records_and_one_in_the_wrong_file(scene: Scene) -> None:
    (own,) = scene.facts.state.files
    wrong = replace(own, name=f"{OTHER}.json", path="/j", address=OTHER)
    scene.change_state(files=(own, wrong))
    found = only(checks_records.check, scene.facts)
    assert (found.id, found.subject, found.value) == ("record-two", VF, f"{OTHER}.json")
    scene.change_state(files=(wrong,))
    assert only(checks_records.check, scene.facts).id == "record-misfiled"


def test_claims(scene: Scene) -> None:
    claim = scene.facts.state.claims[VF]
    scene.change_state(claims={})
    assert only(checks_records.check, scene.facts).id == "claim-missing"
    scene.change_state(claims={VF: Claim("/run/netns/gone", None)})
    assert only(checks_records.check, scene.facts).id == "claim-missing"
    scene.change_state(claims={VF: Claim("/run/netns/other", (4, 1))})
    found = only(checks_records.check, scene.facts)
    assert (found.id, found.cure) == ("claim-conflict", None)
    scene.change_state(claims={VF: claim, OTHER: Claim("/run/netns/gone", None)})
    found = only(checks_records.check, scene.facts)
    assert (found.id, found.subject) == ("claim-stale", OTHER)
    scene.change_state(claims={VF: claim, OTHER: Claim("/run/netns/x", (4, 1))})
    assert list(checks_records.check(scene.facts)) == []


def test_a_netdev_that_is_neither_here_nor_there(scene: Scene) -> None:
    (key,) = scene.facts.spaces
    space = scene.facts.spaces[key]
    scene.change(spaces={key: replace(space, netdevs={})})
    found = only(checks_records.check, scene.facts)
    assert (found.id, found.cure) == ("vf-astray", None)


def test_an_alias_of_another_owner(scene: Scene) -> None:
    (key,) = scene.facts.spaces
    space = scene.facts.spaces[key]
    alias = f"hwmgr:{VF};name=eth1v1;owner=somebody-else"
    marked = replace(space.netdevs[VF][0], alias=alias)
    scene.change(spaces={key: replace(space, netdevs={VF: (marked,)})})
    found = only(checks_records.check, scene.facts)
    assert (found.id, found.cure) == ("alias-other-owner", None)
    assert alias in found.evidence[1].fact


# VFs without a record.


def test_no_driver_is_an_error_unless_it_is_meant(scene: Scene) -> None:
    scene.change_vf(OTHER, {"state": VFState.BROKEN}, driver=None, driver_override="vfio-pci")
    found = only(checks_vfs.check, scene.facts)
    assert (found.id, found.severity, found.cure) == ("vf-unbound", Severity.ERROR, Cure.PROBE)
    assert "only vfio-pci may take it" in {e.fact for e in found.evidence}
    scene.change(autoprobe=frozenset())
    found = only(checks_vfs.check, scene.facts)
    assert (found.severity, found.cure) == (Severity.INFO, None)


def test_a_userspace_driver_is_left_over_unless_somebody_wants_it(scene: Scene) -> None:
    scene.change_vf(OTHER, {"state": VFState.DIRTY}, driver="vfio-pci")
    found = only(checks_vfs.check, scene.facts)
    assert (found.id, found.cure) == ("vf-driver-left", Cure.PROBE)
    offered = Kubelet("/var/lib/kubelet", (), None, frozenset({OTHER}))
    meant: tuple[dict[str, Any], ...] = (
        {"kept_drivers": {OTHER: "/etc/driverctl.d/x"}},
        {"kubelet": offered},
    )
    for change in meant:
        found = only(checks_vfs.check, replace(scene.facts, **change))
        assert (found.id, found.severity, found.cure) == ("vf-userspace", Severity.INFO, None)
    scene.change_vf(OTHER, driver_override="vfio-pci")
    assert only(checks_vfs.check, scene.facts).id == "vf-userspace"


def test_an_override(scene: Scene) -> None:
    scene.change_vf(OTHER, {"state": VFState.DIRTY}, driver_override="vfio-pci")
    assert only(checks_vfs.check, scene.facts).id == "override-left"
    scene.change(kept_drivers={OTHER: "/etc/driverctl.d/x"})
    assert list(checks_vfs.check(scene.facts)) == []


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (VFSettings(vlan=7), "VLAN 7"),
        (VFSettings(max_rate=100), "rate 0-100 Mbit/s"),
        (VFSettings(trust=True), "trust on"),
        (VFSettings(link_state=LinkState.DISABLE), "link state disable"),
        (VFSettings(spoofchk=False), "spoof check off"),
    ],
)
def test_settings(scene: Scene, settings: VFSettings, text: str) -> None:
    scene.change_vf(OTHER, {"settings": settings, "state": VFState.DIRTY})
    found = only(checks_vfs.check, scene.facts)
    assert (found.id, found.cure) == ("vf-settings", Cure.RESET_SETTINGS)
    assert text in found.finding


def test_what_is_not_left_over_is_no_finding(scene: Scene) -> None:
    scene.change_vf(OTHER, {"settings": VFSettings(vlan=7, trust=True)}, driver="vfio-pci")
    assert list(checks_vfs.check(scene.facts)) == []


def test_a_spoof_check_is_odd_only_among_equals(scene: Scene) -> None:
    scene.change_vf(OTHER, {"settings": VFSettings(spoofchk=False)})
    scene.change_vf("0000:01:10.6", {"settings": VFSettings(spoofchk=False)})
    assert list(checks_vfs.check(scene.facts)) == []


def test_a_foreign_claim_is_told_and_left(scene: Scene) -> None:
    scene.change_vf(OTHER, {"state": VFState.FOREIGN, "reason": "claimed"})
    claims = {**scene.facts.state.claims, OTHER: Claim("/run/netns/x", (4, 1))}
    scene.change_state(claims=claims)
    found = only(checks_foreign.check, scene.facts)
    assert (found.id, found.severity, found.cure) == ("vf-foreign", Severity.INFO, None)


def test_a_netdev_that_nobody_can_find(scene: Scene) -> None:
    scene.change_vf(OTHER, {"state": VFState.FOREIGN, "reason": "away"}, netdevs=())
    scene.change(all_processes=True)
    found = only(checks_foreign.check, scene.facts)
    assert (found.id, found.cure) == ("vf-nowhere", Cure.REBIND)
    scene.change(all_processes=False)
    assert only(checks_foreign.check, scene.facts).cure is None


def test_a_mark_on_a_netdev_that_is_here(scene: Scene) -> None:
    scene.change_netdev(OTHER, alias=f"hwmgr:{OTHER};name=eth1v2;owner=c1")
    found = only(checks_vfs.check, scene.facts)
    assert (found.id, found.cure) == ("alias-left", Cure.CLEAR_ALIAS)
    assert "eth1v2" in found.repair


# Netdevs and MACs.


@pytest.mark.parametrize("name", ["foo", "dev7", "eth9", "net1", "rename4", "temp_17"])
def test_a_name_that_is_not_its_siblings(scene: Scene, name: str) -> None:
    scene.change_netdev(OTHER, name=name)
    found = only(checks_netdevs.check, scene.facts)
    assert (found.id, found.cure, found.value) == ("vf-name", Cure.RENAME, "eth1v2")


def test_a_name_that_somebody_else_has_is_the_administrators(scene: Scene) -> None:
    scene.change_netdev(OTHER, name="dev7")
    taken = replace(scene.facts.host[0], name="eth1v2", altnames=(), index=999, parent=None)
    scene.change(host=(*scene.facts.host, taken))
    assert only(checks_netdevs.check, scene.facts).cure is None


def test_up_among_those_that_are_down(scene: Scene) -> None:
    scene.change_netdev(OTHER, up=True)
    found = only(checks_netdevs.check, scene.facts)
    assert (found.id, found.severity, found.cure) == ("vf-up", Severity.INFO, Cure.SET_DOWN)


@pytest.mark.parametrize("name", ["NetworkManager", "systemd-networkd"])
def test_a_manager_of_a_vf(scene: Scene, name: str) -> None:
    index = scene.facts.here[OTHER][0].index
    scene.change(managers={index: (Manager(name, "/run/x", "managed=true"),)})
    found = only(checks_netdevs.check, scene.facts)
    assert (found.id, found.cure) == ("vf-managed", None)
    assert name in found.finding
    tool = "nmcli" if name == "NetworkManager" else "networkctl"
    assert tool in found.repair


@pytest.mark.parametrize("altname", [False, True])
def test_the_name_of_an_attached_netdev_is_taken(scene: Scene, altname: bool) -> None:
    other = scene.facts.here[PF][0]
    change = {"altnames": ("eth1v1",)} if altname else {"name": "eth1v1"}
    scene.change(host=(*scene.facts.host, replace(other, index=99, **change)))
    found = only(checks_netdevs.check, scene.facts)
    assert found.id == "altname-conflict"
    assert ("property del" in found.repair) is altname


def test_two_vfs_with_one_mac(scene: Scene) -> None:
    mac = scene.facts.here[OTHER][0].mac
    last = "0000:01:10.6"
    scene.change_netdev(last, mac=mac)
    scene.change_vf(last, {"settings": VFSettings(mac=mac)})
    found = only(checks_netdevs.check, scene.facts)
    assert (found.id, found.subject, found.cure) == ("mac-duplicate", last, Cure.RESET_MAC)
    assert len(found.evidence) == 2


def test_of_an_idle_and_an_attached_vf_the_idle_one_gets_another(scene: Scene) -> None:
    first = "0000:01:10.0"
    attached_mac = next(i for i in scene.facts.vfs if i.vf.address == VF).settings
    assert attached_mac is not None
    scene.change_netdev(first, mac=attached_mac.mac)
    scene.change_vf(first, {"settings": VFSettings(mac=attached_mac.mac)})
    assert only(checks_netdevs.check, scene.facts).subject == first


def test_an_admin_mac_that_the_netdev_has_not(scene: Scene) -> None:
    scene.change_vf(OTHER, {"settings": VFSettings(mac="02:00:00:00:00:99")})
    found = only(checks_netdevs.check, scene.facts)
    assert (found.id, found.cure) == ("mac-left", Cure.LIFT_MAC)


# The host.


def test_a_pf_that_is_down(scene: Scene) -> None:
    scene.change_netdev(PF, up=False)
    found = only(checks_host.check, scene.facts)
    assert (found.id, found.cure, found.subject) == ("pf-down", Cure.SET_UP, PF)
    scene.change_state(files=())
    assert list(checks_host.check(scene.facts)) == []


def test_a_pf_without_netdev(scene: Scene) -> None:
    scene.change(
        pfs=tuple(replace(pf, netdevs=()) for pf in scene.facts.pfs),
        here={**scene.facts.here, PF: ()},
    )
    found = only(checks_host.check, scene.facts)
    assert (found.id, found.severity) == ("pf-no-netdev", Severity.ERROR)


def test_a_pf_of_another_name(scene: Scene) -> None:
    scene.change_record(pf_ifname="old0")
    found = only(checks_host.check, scene.facts)
    assert (found.id, found.cure, found.value) == ("pf-renamed", Cure.RENAME_PF, "eth1")


@pytest.mark.parametrize(
    ("noiommu", "severity"), [("N", Severity.ERROR), (None, Severity.ERROR), ("Y", "warning")]
)
def test_vfio_without_an_iommu(scene: Scene, noiommu: str | None, severity: str) -> None:
    scene.change_vf(OTHER, driver="vfio-pci", iommu_group=None)
    scene.change(noiommu=noiommu)
    found = only(checks_host.check, scene.facts)
    assert (found.id, found.severity) == ("iommu-missing", severity)


def test_a_group_that_is_not_viable(scene: Scene) -> None:
    scene.change_vf(OTHER, driver="vfio-pci", iommu_group="7")
    good = (Member(OTHER, "vfio-pci", False), Member("0000:00:1c.0", "pcieport", True))
    scene.change(groups={"7": (*good, Member("0000:02:00.0", None, False))})
    assert list(checks_host.check(scene.facts)) == []
    scene.change(groups={"7": (*good, Member("0000:02:00.0", "nvme", False))})
    found = only(checks_host.check, scene.facts)
    assert (found.id, "nvme" in found.finding) == ("iommu-group", True)


def test_a_driver_that_is_not_loaded(scene: Scene) -> None:
    scene.change(drivers=scene.facts.drivers - {"igbvf"})
    found = only(checks_host.check, scene.facts)
    assert (found.id, found.repair) == ("driver-missing", "modprobe igbvf")


@pytest.mark.parametrize(
    ("total", "free", "severity"), [(0, 0, "warning"), (8, 0, "info"), (8, 1, None)]
)
def test_hugepages(machine: Machine, total: int, free: int, severity: str | None) -> None:
    scene = attached(machine, Kind.DPDK)
    scene.change(hugepages=(HugePages(2048, total, free), HugePages(1048576, 0, 0)))
    found = list(checks_host.check(scene.facts))
    assert [(f.id, str(f.severity)) for f in found] == (
        [("hugepages", severity)] if severity else []
    )


def test_kubelets_folder(scene: Scene) -> None:
    scene.change(kubelet=Kubelet("/k", ("/k/a.sock",), "KeyError: 'Data'", frozenset()))
    found = list(checks_host.check(scene.facts))
    assert [f.id for f in found] == ["kubelet-socket", "kubelet-checkpoint"]
    assert all(f.cure is None for f in found)


# Other files.


def entry(**change: Any) -> SavedEntry:
    base = SavedEntry(
        "abc-net1", Format.SRIOV_CNI, "/s/abc-net1", 0.0, "abc", "net1", OTHER, netns_inode=None
    )
    return replace(base, **change)


def test_a_state_file_that_nobody_is_behind(scene: Scene) -> None:
    scene.change_state(entries=(entry(),))
    found = only(checks_files.check, scene.facts)
    assert (found.id, found.subject, found.value) == ("companion-orphaned", OTHER, "abc-net1")


def test_a_state_file_of_somebody_alive(scene: Scene) -> None:
    alive = {**scene.facts.state.claims, OTHER: Claim("/x", (4, 1))}
    inode = next(iter(scene.facts.spaces))[1]
    for change, claims in (
        ({}, alive),
        ({"netns_inode": inode}, scene.facts.state.claims),
        ({"address": VF, "container_id": CONTAINER}, {}),
    ):
        scene.change_state(entries=(entry(**change),), claims=claims)
        assert list(checks_files.check(scene.facts)) == []


def test_a_state_file_that_cannot_be_read(scene: Scene) -> None:
    scene.change_state(entries=(entry(problem="not JSON"),))
    found = only(checks_files.check, scene.facts)
    assert (found.id, found.cure) == ("state-unreadable", Cure.SET_FILE_ASIDE)


def test_temporaries_and_the_folders_mode(scene: Scene) -> None:
    scene.change_state(temporaries=(Temporary("/s/.x.1.2", "1", 90.0),))
    assert only(checks_files.check, scene.facts).id == "temp-file"
    scene.change_state(temporaries=(), mode=0o777)
    found = only(checks_files.check, scene.facts)
    assert (found.id, found.repair.startswith("chmod 700")) == ("state-dir-open", True)


# By nature without netdevs, or kept for somebody.


def test_a_driver_that_makes_no_netdev_has_not_lost_one(machine: Machine) -> None:
    """A variant of vfio-pci has it for a virtual machine; an accelerator is no NIC."""
    for number, (name, kind) in enumerate((("mlx5_vfio_pci", "0x020000"), ("c6xxvf", "0x0b4000"))):
        address = machine.nics[0].vf(number)
        driver.unbind(machine.sim, address)
        machine.sim.tree.add_driver(name)
        machine.sim.tree.link(f"bus/pci/devices/{address}/driver", f"bus/pci/drivers/{name}")
        machine.sim.tree.put(f"bus/pci/devices/{address}/class", kind)
    found = [f for f in examine(machine.node) if f.cure is not Cure.SET_DOWN]
    assert [(f.id, f.severity, f.cure) for f in found] == [("vf-foreign", Severity.INFO, None)]


def test_a_pods_bond_has_one_mac_on_purpose(scene: Scene) -> None:
    """bond-cni gives both of a pod's VFs the same."""
    (file,) = scene.facts.state.files
    record = replace(scene.record, address=PciAddress(OTHER), index=2)
    second = replace(file, name="x", address=OTHER, record=record)
    scene.change_state(files=(file, second))
    settings = next(i for i in scene.facts.vfs if i.vf.address == VF).settings
    scene.change_vf(OTHER, {"settings": settings, "record": record})
    assert list(checks_netdevs.check(replace(scene.facts, here={}))) == []
    other = replace(record, owner=replace(record.owner, container_id="another"))
    scene.change_state(files=(file, replace(second, record=other)))
    found = only(checks_netdevs.check, replace(scene.facts, here={}))
    assert (found.id, found.cure) == ("mac-duplicate", None)


def test_what_has_a_record_that_cannot_be_read_is_not_idle(scene: Scene) -> None:
    """Renaming it would write over the record, and it may be a living owner's."""
    scene.change_netdev(OTHER, name="dev3", up=True)
    scene.change_vf(OTHER, {"settings": VFSettings(mac="02:00:00:00:00:99", vlan=7)})
    assert list(checks_netdevs.check(scene.facts))
    later = RecordFile(f"{OTHER}.json", "/j", OTHER, problem="x", schema=99)
    scene.change_state(files=(*scene.facts.state.files, later))
    assert [f.id for c in (checks_netdevs, checks_vfs) for f in c.check(scene.facts)] == []
