"""What the command line says about each thing: the keys of its JSON, the rows of its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.vfsettings import NO_MAC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwmgr.doctor.findings import Finding
    from hwmgr.inventory import VFInfo
    from hwmgr.model import Netdev, Owner, Record, VFSettings
    from hwmgr.pfinventory import PFInfo
    from hwmgr.savedstate import SavedEntry

Json = dict[str, object]


def pf_view(info: PFInfo) -> Json:
    """Return a PF under the keys of ``pf list``."""
    pf = info.pf
    return {
        "address": pf.address,
        "ifname": pf.ifname,
        "driver": pf.driver,
        "vendor": pf.vendor,
        "device": pf.device,
        "totalVfs": pf.total_vfs,
        "numVfs": pf.num_vfs,
        "freeVfs": info.free_vfs,
        "numaNode": pf.numa_node,
        "eswitchMode": info.eswitch_mode,
        "mtu": info.mtu,
        "mac": info.mac,
        "linkState": info.link_state,
    }


def pf_row(info: PFInfo) -> Json:
    """Return a PF as a row of the table."""
    ids = f"{info.pf.vendor}:{info.pf.device}"
    own = {"ifname": info.pf.netdevs, "id": ids, "modeToldBy": info.mode_told_by}
    return {**pf_view(info), **own}


def vf_view(info: VFInfo) -> Json:
    """Return a VF under the keys of ``vf list``; what is unset or unknown is None."""
    vf, settings = info.vf, info.settings
    mac = settings.mac if settings else None
    return {
        "address": vf.address,
        "pf": info.pf_ifname,
        "pfAddress": vf.pf_address,
        "index": vf.index,
        "driver": vf.driver,
        "ifname": vf.ifname,
        "state": str(info.state),
        "owner": owner_view(info.record.owner) if info.record else None,
        "mac": None if mac == NO_MAC else mac,
        "vlan": (settings.vlan or None) if settings else None,
        "trust": settings.trust if settings else None,
        "spoofchk": settings.spoofchk if settings else None,
        "numaNode": vf.numa_node,
        "iommuGroup": vf.iommu_group,
    }


def vf_row(info: VFInfo) -> Json:
    """Return a VF as a row of the table."""
    owner = info.record.owner if info.record else None
    return {
        **vf_view(info),
        # A shared VF has two (ConnectX-3).
        "ifname": info.vf.netdevs,
        "owner": owner_text(owner) if owner else None,
        "since": rfc3339(owner.since) if owner else None,
        "reason": info.reason,
    }


@dataclass(frozen=True, slots=True)
class Beside:
    """What belongs to a VF besides its netdev: how it is reached on the host and by programs."""

    representor: str | None = None
    rdma_devices: tuple[str, ...] = ()
    device_files: tuple[str, ...] = ()


def vf_full_view(info: VFInfo, beside: Beside) -> Json:
    """Return a VF with everything that is known, also what detach would give back."""
    record = info.record
    return {
        **vf_view(info),
        "reason": info.reason or None,
        "driverOverride": info.vf.driver_override,
        "vendor": info.vf.vendor,
        "device": info.vf.device,
        "netdevs": list(info.vf.netdevs),
        "representor": beside.representor,
        "rdmaDevices": list(beside.rdma_devices),
        "deviceFiles": list(beside.device_files),
        "settings": settings_view(info.settings),
        "attachment": attachment_view(record) if record else None,
        "original": original_view(record) if record else None,
    }


def owner_view(owner: Owner) -> Json:
    """Return an owner under the keys of ``vf list``."""
    return {
        "containerId": owner.container_id,
        "ifname": owner.ifname,
        "netns": owner.netns.path or None,
        "network": owner.network,
        "podNamespace": owner.pod_namespace,
        "podName": owner.pod_name,
        "podUid": owner.pod_uid,
        "since": rfc3339(owner.since),
    }


def owner_text(owner: Owner) -> str:
    """Return an owner in a few words: the pod where it is known, else the container."""
    who = f"{owner.pod_namespace}/{owner.pod_name}" if owner.pod_name else owner.container_id[:13]
    return f"{who} {owner.ifname}"


def attachment_view(record: Record) -> Json:
    """Return what an attachment set."""
    return {
        "kind": str(record.kind),
        "stage": str(record.stage),
        "driver": record.driver,
        "settings": settings_view(record.settings),
        "savedFiles": list(record.saved_files),
    }


def original_view(record: Record) -> Json:
    """Return what a function was before it was attached."""
    before = record.before
    return {
        "driver": before.driver,
        "driverOverride": before.driver_override,
        "settings": settings_view(before.settings),
        "netdevs": [_netdev_view(n) for n in before.netdevs],
    }


def settings_view(settings: VFSettings | None) -> Json | None:
    """Return PF-side settings; rates in Mbit/s."""
    if settings is None:
        return None
    return {
        "mac": settings.mac,
        "vlan": settings.vlan,
        "vlanQoS": settings.qos,
        "vlanProto": str(settings.proto) if settings.proto else None,
        "minTxRate": settings.min_rate,
        "maxTxRate": settings.max_rate,
        "spoofchk": settings.spoofchk,
        "trust": settings.trust,
        "linkState": str(settings.link_state) if settings.link_state else None,
    }


def _netdev_view(netdev: Netdev) -> Json:
    return {
        "name": netdev.name,
        "mac": netdev.mac or None,
        "mtu": netdev.mtu or None,
        "up": netdev.up,
        "altnames": list(netdev.altnames),
        "alias": netdev.alias,
        "addresses": list(netdev.addresses),
    }


def state_view(entry: SavedEntry) -> Json:
    """Return a state file under the keys of ``state list``."""
    return {
        "id": entry.id,
        "format": str(entry.format),
        "containerId": entry.container_id,
        "ifname": entry.ifname,
        "address": entry.address,
        "pf": entry.pf,
        "mode": str(entry.mode) if entry.mode else None,
        "path": entry.path,
        "netnsInode": entry.netns_inode,
        "mtime": rfc3339(entry.mtime),
        "problem": entry.problem,
    }


def finding_view(finding: Finding) -> Json:
    """Return a finding under the keys of ``doctor``."""
    return {
        "id": finding.id,
        "severity": str(finding.severity),
        "subject": finding.subject,
        "finding": finding.finding,
        "evidence": [{"fact": e.fact, "source": e.source} for e in finding.evidence],
        "repair": finding.repair,
    }


def finding_row(finding: Finding) -> Json:
    """Return a finding as a row of the table."""
    evidence = "; ".join(f"{e.fact} ({e.source})" for e in finding.evidence)
    return {**finding_view(finding), "evidence": evidence}


def outcome_view(finding: Finding, problems: Sequence[str]) -> Json:
    """Return what became of a step of ``repair --yes``, under its keys."""
    result = "failed" if problems else "done"
    return {**finding_view(finding), "result": result, "problems": list(problems)}


def outcome_row(finding: Finding, problems: Sequence[str]) -> Json:
    """Return what became of a step as a row of the table."""
    view = outcome_view(finding, problems)
    return {**view, "problems": "; ".join(problems)}


def rfc3339(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339 in UTC, to the second."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
