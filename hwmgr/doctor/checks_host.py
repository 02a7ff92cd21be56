"""Checks of PFs and of what devices need from the host: IOMMU, drivers, memory, kubelet. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr import iommugroups
from hwmgr.doctor.findings import Cure, Evidence, Finding, Severity
from hwmgr.model import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.doctor.facts import Facts
    from hwmgr.model import PF


def check(facts: Facts) -> Iterator[Finding]:
    """Yield what is wrong with PFs and the host."""
    for pf in facts.pfs:
        yield from _pf(facts, pf)
    yield from _renamed(facts)
    yield from _iommu(facts)
    yield from _drivers(facts)
    yield from _hugepages(facts)
    yield from _kubelet(facts)


def _pf(facts: Facts, pf: PF) -> Iterator[Finding]:
    if not pf.num_vfs or facts.record_of(pf.address) is not None:
        return
    device = f"/sys/bus/pci/devices/{pf.address}"
    held = [r for _f, r in facts.records() if r.pf_address == pf.address]
    netdevs = facts.here.get(pf.address, ())
    if not netdevs:
        # Without sysfs' word for it the netdev may merely be another kernel's.
        if not pf.netdevs:
            what = f"driver {pf.driver or 'none'}, no netdev here"
            yield Finding(
                id="pf-no-netdev",
                severity=Severity.ERROR if held else Severity.WARNING,
                subject=pf.address,
                finding=f"its netdev is not here, so its {pf.num_vfs} VFs cannot be configured",
                evidence=(Evidence(what, f"{device}/net"),),
                repair="bring it back to the host's namespace, or bind its driver",
            )
        return
    for netdev in netdevs:
        if not netdev.up and held:
            yield Finding(
                id="pf-down",
                severity=Severity.ERROR,
                subject=pf.address,
                finding=f"{netdev.name} is down: {len(held)} VFs in use have no carrier",
                evidence=(
                    Evidence("down", f"ip link show {netdev.name}"),
                    Evidence(f"{len(held)} records of its VFs", f"{facts.state.root}/journal"),
                ),
                repair="set it up",
                cure=Cure.SET_UP,
                value=netdev.name,
            )


def _renamed(facts: Facts) -> Iterator[Finding]:
    names = {pf.address: pf.ifname for pf in facts.pfs}
    for file, record in facts.records():
        now = names.get(record.pf_address)
        if (
            now is not None
            and record.pf_ifname not in (None, now)
            and record.address != record.pf_address
        ):
            yield Finding(
                id="pf-renamed",
                severity=Severity.WARNING,
                subject=record.address,
                finding=f"its record calls the PF {record.pf_ifname}, it is {now} by now",
                evidence=(
                    Evidence(f"{record.pf_ifname}", file.path),
                    Evidence(f"{now}", f"/sys/bus/pci/devices/{record.pf_address}/net"),
                ),
                repair="correct the record; configurations that name the PF are yours to correct",
                cure=Cure.RENAME_PF,
                value=now,
            )


def _iommu(facts: Facts) -> Iterator[Finding]:
    on_vfio = [i.vf for i in facts.vfs if i.vf.driver == "vfio-pci"]
    wanting = [r.address for _f, r in facts.records() if r.driver == "vfio-pci"]
    ungrouped = [i.vf.address for i in facts.vfs if i.vf.iommu_group is None]
    without = sorted(set(ungrouped) & {*wanting, *(vf.address for vf in on_vfio)})
    if without:
        unsafe = facts.noiommu in ("Y", "1")
        yield Finding(
            id="iommu-missing",
            severity=Severity.WARNING if unsafe else Severity.ERROR,
            subject=without[0],
            finding=f"{len(without)} VFs are for vfio-pci, and the IOMMU is off"
            + ("; they can write to all memory" if unsafe else ""),
            evidence=(
                Evidence("no IOMMU group", f"/sys/bus/pci/devices/{without[0]}/iommu_group"),
                Evidence(
                    f"{facts.noiommu or 'vfio is not loaded'}",
                    "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
                ),
            ),
            repair="enable the IOMMU in firmware and kernel (intel_iommu=on or amd_iommu=on)",
        )
    for vf in on_vfio:
        members = facts.groups.get(vf.iommu_group or "", ())
        host = [m for m in members if m.in_the_way]
        if host:
            named = iommugroups.named(host)
            yield Finding(
                id="iommu-group",
                severity=Severity.ERROR,
                subject=vf.address,
                finding=f"IOMMU group {vf.iommu_group} is not viable: {named}",
                evidence=(Evidence(named, f"/sys/kernel/iommu_groups/{vf.iommu_group}/devices"),),
                repair="bind all of the group to vfio-pci, or use a slot with ACS",
            )


def _drivers(facts: Facts) -> Iterator[Finding]:
    for file, record in facts.records():
        if record.boot_id != facts.boot_id:
            continue
        for name in dict.fromkeys((record.driver, record.before.driver)):
            if name is not None and name not in facts.drivers:
                yield Finding(
                    id="driver-missing",
                    severity=Severity.ERROR,
                    subject=record.address,
                    finding=f"{name}, which its record names, is not loaded",
                    evidence=(
                        Evidence(f"driver {name}", file.path),
                        Evidence("no such driver", f"/sys/bus/pci/drivers/{name}"),
                    ),
                    repair=f"modprobe {name}",
                )


def _hugepages(facts: Facts) -> Iterator[Finding]:
    dpdk = [(f, r) for f, r in facts.records() if r.kind is Kind.DPDK]
    if not dpdk or not facts.hugepages or any(size.free for size in facts.hugepages):
        return
    some = any(size.total for size in facts.hugepages)
    counts = ", ".join(f"{s.free} of {s.total} of {s.size} kB" for s in facts.hugepages)
    yield Finding(
        id="hugepages",
        severity=Severity.INFO if some else Severity.WARNING,
        subject=dpdk[0][1].address,
        finding=f"DPDK devices are allocated, and no huge page is {'free' if some else 'there'}",
        evidence=(
            Evidence(counts, "/sys/kernel/mm/hugepages"),
            Evidence(f"records of DPDK devices: {len(dpdk)}", dpdk[0][0].path),
        ),
        repair="none if they have them all" if some else "sysctl vm.nr_hugepages=1024",
    )


def _kubelet(facts: Facts) -> Iterator[Finding]:
    kubelet = facts.kubelet
    if kubelet is None:
        return
    for path in kubelet.missing:
        yield Finding(
            id="kubelet-socket",
            severity=Severity.WARNING,
            subject=path,
            finding="no socket: devices that kubelet gives to pods cannot be asked for",
            evidence=(Evidence("no socket", path),),
            repair="start kubelet; in a container, mount this folder of the host",
        )
    if kubelet.problem is not None:
        path = f"{kubelet.folder}/device-plugins/kubelet_internal_checkpoint"
        yield Finding(
            id="kubelet-checkpoint",
            severity=Severity.WARNING,
            subject=path,
            finding=f"kubelet's checkpoint cannot be read: {kubelet.problem}",
            evidence=(Evidence(kubelet.problem, path),),
            repair="none of ours: kubelet writes it anew with the next device",
        )
