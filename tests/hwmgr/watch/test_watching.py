"""The watch on a machine of fakes: uevents in their order, records, losses, and no false news."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hwmgr.driver import bind, unbind
from hwmgr.errors import SysfsError
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, Kind, PciAddress, VFSettings
from hwmgr.uevents import EventsLost, Uevent
from hwmgr.watch.deviceevents import EventKind, Source
from hwmgr.watch.watching import Watcher
from tests.fakes.machine import Machine, build
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from pathlib import Path

    from hwmgr.sysfs import Folder
    from hwmgr.watch.deviceevents import DeviceEvent
    from tests.fakes.namespaces import Namespace

CONTAINER = "feedbeef" * 8
PF = PciAddress("0000:01:00.0")
VF = PciAddress("0000:01:10.2")
NUMVFS = f"bus/pci/devices/{PF}/sriov_numvfs"


def pci(action: str, address: str = VF, driver: str | None = None, number: int = 1) -> Uevent:
    return Uevent(action, "pci", f"/devices/pci0000:00/{address}", number, driver)


def net(action: str, name: str, old: str | None = None, address: str = VF) -> Uevent:
    home = f"/devices/pci0000:00/{address}/net"
    return Uevent(action, "net", f"{home}/{name}", 1, None, name, old and f"{home}/{old}")


class Watch:
    """A watcher whose clock and uevents are the test's."""

    def __init__(self, machine: Machine, *pfs: PciAddress) -> None:
        self.machine = machine
        self.now = 0.0
        self.queue = machine.udev.listening.queue
        self.watcher = Watcher(machine.node, machine.udev.monitor(), pfs or None, lambda: self.now)

    def step(self, *uevents: Uevent | EventsLost, later: float = 0.0) -> list[DeviceEvent]:
        self.now += later
        self.queue.extend(uevents)
        return self.watcher.step(0)

    def told(self, *uevents: Uevent | EventsLost, later: float = 0.0) -> list[tuple[str, ...]]:
        return [short(event) for event in self.step(*uevents, later=later)]


def short(event: DeviceEvent) -> tuple[str, ...]:
    change = event.change
    news: list[object] = [change.kind, change.function.address]
    if change.kind in (EventKind.BIND, EventKind.UNBIND):
        news += [change.was, change.function.driver]
    elif change.kind is EventKind.NUMVFS:
        news += [change.was, change.function.num_vfs]
    elif change.kind is EventKind.STATE:
        news += [change.was, change.function.info and change.function.info.state]
    elif change.ifname is not None:
        news += [change.was, change.ifname]
    return tuple(str(item) for item in news)


@pytest.fixture
def watch(machine: Machine) -> Watch:
    return Watch(machine)


def attach(machine: Machine, address: PciAddress = VF) -> Namespace:
    pod = machine.namespace()
    request = AttachRequest(
        CONTAINER, "net1", pod.path, Kind.VF, address, pod_namespace="default", pod_name="web"
    )
    Manager(machine.node).attach(request)
    return pod


def test_a_quiet_node_tells_nothing(watch: Watch) -> None:
    assert watch.told() == []
    assert watch.told(later=60) == []
    assert [f.index for f in watch.watcher.functions] == [None, *range(7)]


def test_unbind_and_bind_keep_the_drivers_of_their_moment(watch: Watch) -> None:
    bind(watch.machine.sim, VF, "vfio-pci")
    told = watch.told(net("remove", "eth1v1"), pci("unbind"), pci("bind", driver="vfio-pci"))
    assert told == [
        ("netdev-remove", VF, "None", "eth1v1"),
        ("unbind", VF, "igbvf", "None"),
        ("bind", VF, "None", "vfio-pci"),
    ]
    assert watch.told(later=60) == []


def test_an_event_comes_with_state_and_source(watch: Watch) -> None:
    bind(watch.machine.sim, VF, "vfio-pci")
    event = watch.step(pci("unbind"))[0]
    assert event.source is Source.KERNEL
    assert event.change.function.info is not None
    assert event.change.function.info.state == "dirty"


def test_a_rename(watch: Watch) -> None:
    watch.machine.netlink.edit("eth1v1", name="fast0")
    assert watch.told(net("move", "fast0", "eth1v1")) == [("rename", VF, "eth1v1", "fast0")]
    assert watch.told(net("move", "fast0", "eth1v1")) == []


def test_vfs_go_and_come(watch: Watch) -> None:
    watch.machine.sim.write(NUMVFS, "0")
    gone = [pci("remove", vf) for vf in sorted(f"0000:01:1{n // 4}.{n % 4 * 2}" for n in range(7))]
    told = watch.told(*gone, pci("change", PF))
    assert [t[0] for t in told] == ["remove"] * 7 + ["numvfs"]
    assert told[-1] == ("numvfs", PF, "7", "0")
    assert [f.address for f in watch.watcher.functions] == [PF]
    watch.machine.sim.write(NUMVFS, "2")
    told = watch.told(
        pci("add"), net("add", "eth1v1"), pci("bind", driver="igbvf"), pci("change", PF)
    )
    assert told[0][:2] == ("add", VF)
    assert told[1:] == [
        ("netdev-add", VF, "None", "eth1v1"),
        ("bind", VF, "None", "igbvf"),
        ("numvfs", PF, "0", "2"),
    ]
    # The other VF's events were never heard; the next whole look finds it.
    assert watch.told(later=60) == [("add", "0000:01:10.0", "None", "eth1v0")]


def test_a_vf_that_is_gone_again_is_known_by_its_address(watch: Watch) -> None:
    watch.machine.sim.write(NUMVFS, "0")
    watch.told(EventsLost())
    event = watch.step(pci("add"), pci("remove"))[0]
    function = event.change.function
    assert (function.address, function.pf_address, function.index) == (VF, PF, 1)
    assert function.info is None


def test_other_devices_are_nobodys_news(watch: Watch) -> None:
    assert watch.told(
        Uevent("add", "net", "/devices/virtual/net/veth0", 1, ifname="veth0"),
        pci("add", "0000:7f:00.0"),
        pci("bind", "0000:7f:00.0", "nvme"),
    ) == []  # fmt: skip


def test_none_is_dropped_where_there_are_too_many_for_one_step(watch: Watch) -> None:
    noise = Uevent("add", "net", "/devices/virtual/net/veth0", 1, ifname="veth0")
    told = watch.told(*[noise] * 10_000, pci("unbind"))
    while watch.queue:
        told += watch.told()
    assert told == [("unbind", VF, "igbvf", "None")]


def test_records_made_and_gone_with_their_owner(watch: Watch) -> None:
    attach(watch.machine)
    made = watch.step(net("remove", "eth1v1"))
    assert [e.change.kind for e in made] == ["attach", "netdev-remove"]
    assert made[0].source is Source.RECORDS
    assert all(e.owner is not None and e.owner.pod_name == "web" for e in made)
    assert made[0].change.function.info is not None
    assert made[0].change.function.info.state == "allocated"
    Manager(watch.machine.node).detach(CONTAINER, "net1")
    gone = watch.step(net("add", "eth1v1"))
    assert [e.change.kind for e in gone] == ["netdev-add", "detach"]
    assert gone[-1].owner is not None
    assert gone[-1].owner.pod_name == "web"
    assert gone[-1].change.function.record is None


def test_a_record_is_seen_without_any_uevent(watch: Watch) -> None:
    attach(watch.machine)
    assert [t[0] for t in watch.told()] == ["attach"]


def test_a_record_of_a_vf_that_is_gone(watch: Watch) -> None:
    attach(watch.machine)
    watch.told(net("remove", "eth1v1"))
    watch.machine.sim.write(NUMVFS, "0")
    (event,) = watch.step(pci("remove"))
    assert (event.change.kind, event.owner and event.owner.pod_name) == (EventKind.REMOVE, "web")
    assert [t[0] for t in watch.told(later=60)] == ["numvfs"] + ["remove"] * 6
    watch.machine.node.journal.remove(VF)
    assert watch.told() == [("detach", VF)]
    assert watch.told(later=60) == []


def test_what_sends_no_event_is_found_by_looking_again(watch: Watch) -> None:
    pod = attach(watch.machine)
    watch.told(net("remove", "eth1v1"))
    watch.machine.sim.vf_side.change(PF, 3, VFSettings(trust=True))
    assert watch.told() == []
    assert watch.told(later=60) == [
        ("state", "0000:01:10.6", "free", "dirty"),
        ("settings", "0000:01:10.6"),
    ]
    pod.close()
    assert watch.told(later=60) == [("state", VF, "allocated", "leaked")]


def test_after_a_loss_the_differences_are_told_once(watch: Watch) -> None:
    unbind(watch.machine.sim, "0000:01:10.0")
    bind(watch.machine.sim, VF, "vfio-pci")
    events = watch.step(EventsLost())
    assert [short(e) for e in events] == [
        ("unbind", "0000:01:10.0", "igbvf", "None"),
        ("netdev-remove", "0000:01:10.0", "None", "eth1v0"),
        ("bind", VF, "igbvf", "vfio-pci"),
        ("netdev-remove", VF, "None", "eth1v1"),
    ]
    assert {e.source for e in events} == {Source.LOOK}
    assert watch.told(EventsLost()) == []


def test_events_older_than_a_whole_look_are_not_told_again(watch: Watch) -> None:
    watch.machine.sim.tree.put("kernel/uevent_seqnum", 40)
    bind(watch.machine.sim, VF, "vfio-pci")
    watch.told(EventsLost())
    assert watch.told(pci("unbind", number=39), pci("bind", driver="vfio-pci", number=40)) == []
    assert watch.told(pci("unbind", number=41)) == [("unbind", VF, "vfio-pci", "None")]


def test_only_the_pfs_that_were_asked_for(tmp_path: Path) -> None:
    machine = build(str(tmp_path), Nic(vfs=2), Nic(address="0000:02:00.0", ifname="eth2", vfs=2))
    try:
        watch = Watch(machine, PciAddress("0000:02:00.0"))
        assert {f.pf_address for f in watch.watcher.functions} == {"0000:02:00.0"}
        assert watch.told(pci("unbind", "0000:01:10.0"), pci("unbind", "0000:02:10.0")) == [
            ("unbind", "0000:02:10.0", "igbvf", "None")
        ]
        attach(machine)
        assert watch.told() == []
    finally:
        machine.close()


def test_a_device_that_goes_while_it_is_read_is_looked_at_again(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> Folder | None:
        raise SysfsError("open", path, 19)

    unbind(watch.machine.sim, VF)
    with monkeypatch.context() as patched:
        patched.setattr(watch.machine.sim, "folder", refuse)
        assert watch.told(pci("unbind")) == [("unbind", VF, "igbvf", "None")]
    assert watch.told() == [("netdev-remove", VF, "None", "eth1v1")]
