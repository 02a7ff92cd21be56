"""Checks of the journal and the claims against the hardware and the living. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.doctor.findings import Cure, Evidence, Finding, Severity
from hwmgr.journal import SCHEMA
from hwmgr.model import Kind, Stage, VFState, describe
from hwmgr.pci import parse_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.doctor.facts import Facts
    from hwmgr.doctor.facts_spaces import Space
    from hwmgr.doctor.facts_state import RecordFile
    from hwmgr.inventory import VFInfo
    from hwmgr.model import Record


def check(facts: Facts) -> Iterator[Finding]:
    """Yield what is wrong with records and claims."""
    by_address = {info.vf.address: info for info in facts.vfs}
    for file in facts.state.files:
        record = file.record
        if record is None:
            yield _unreadable(file)
        elif not file.fits:
            yield _misfiled(facts, file, record)
        elif record.address not in facts.busy:
            found = _of_record(facts, file, record, by_address.get(record.address))
            if found is not None:
                yield found
            elif record.owner.netns.path not in facts.unjudged:
                yield from _claim_of(facts, file, record)
            elif _space(facts, record) is None:
                yield _unseen(file, record)
    for name, problem in facts.state.torn_claims.items():
        path = f"{facts.state.root}/pci/{name}"
        yield Finding(
            id="claim-torn",
            severity=Severity.WARNING,
            subject=name if parse_address(name) else path,
            finding=f"its claim cannot be read: {problem}",
            evidence=(Evidence(problem, path),),
            repair="set it aside (journal-torn/)",
            cure=Cure.SET_FILE_ASIDE,
            value=f"pci/{name}",
        )
    named = {f.address for f in facts.state.files}
    for address, claim in facts.state.claims.items():
        if address not in named and not claim.live and not claim.unjudged:
            yield Finding(
                id="claim-stale",
                severity=Severity.WARNING,
                subject=address,
                finding=f"claimed for namespace {claim.path}, which is gone, and no record has it",
                evidence=(Evidence(f"names {claim.path}", f"{facts.state.root}/pci/{address}"),),
                repair="remove the claim",
                cure=Cure.UNCLAIM,
            )


def _unreadable(file: RecordFile) -> Finding:
    subject = file.address or file.path
    evidence = (Evidence(file.problem or "no record", file.path),)
    if file.schema != SCHEMA:
        return Finding(
            id="record-schema",
            severity=Severity.ERROR,
            subject=subject,
            finding=f"its record has schema {file.schema}, this version knows {SCHEMA}",
            evidence=evidence,
            repair="use the version of hwmgr that wrote it; repair leaves it alone",
        )
    return Finding(
        id="record-torn",
        severity=Severity.ERROR,
        subject=subject,
        finding=f"its record is damaged: {file.problem}",
        evidence=evidence,
        repair="set it aside (journal-torn/)",
        cure=Cure.SET_FILE_ASIDE if file.address is None else Cure.SET_ASIDE,
        value=file.name if file.address is None else "",
    )


def _misfiled(facts: Facts, file: RecordFile, record: Record) -> Finding:
    other = next((f for f in facts.state.files if f.fits and f.address == record.address), None)
    evidence = [Evidence(f"record of {record.address}, {describe(record)}", file.path)]
    if other is not None and other.record is not None:
        evidence.append(Evidence(f"record of it too, {describe(other.record)}", other.path))
    finding = f"{file.name} holds a record of it, under another function's name"
    if other is not None:
        finding = f"it has two records, {file.name} and {other.name}"
    return Finding(
        id="record-two" if other is not None else "record-misfiled",
        severity=Severity.ERROR,
        subject=record.address,
        finding=finding,
        evidence=tuple(evidence),
        repair=f"set {file.name} aside (journal-torn/)",
        cure=Cure.SET_FILE_ASIDE,
        value=file.name,
    )


def _of_record(
    facts: Facts, file: RecordFile, record: Record, info: VFInfo | None
) -> Finding | None:
    who = describe(record)

    def found(
        id_: str, text: str, cure: Cure | None, *evidence: Evidence, repair: str = ""
    ) -> Finding:
        old = Severity.WARNING if id_ in ("record-other-boot", "vf-astray") else Severity.ERROR
        facts_of = (Evidence(f"owner {who}", file.path), *evidence)
        return Finding(id_, old, record.address, text, facts_of, repair or str(cure), cure)

    if record.boot_id != facts.boot_id:
        boots = Evidence(f"this boot is {facts.boot_id}", "/proc/sys/kernel/random/boot_id")
        written = Evidence(f"written in boot {record.boot_id or '(unknown)'}", file.path)
        text = f"held by {who} before the node was rebooted"
        return found("record-other-boot", text, Cure.STRIKE, written, boots)
    if record.address not in facts.present:
        gone = Evidence("no such device", f"/sys/bus/pci/devices/{record.address}")
        text = f"held by {who}, but the device is gone"
        return found("record-no-device", text, Cure.STRIKE, gone)
    if info is not None and (info.vf.pf_address, info.vf.index) != (
        record.pf_address,
        record.index,
    ):
        place = f"VF {record.index} of {record.pf_address}"
        now = f"VF {info.vf.index} of {info.vf.pf_address}"
        where = Evidence(f"it is {now}", f"/sys/bus/pci/devices/{record.address}/physfn")
        return found("record-moved", f"its record says {place}, it is {now}", Cure.SET_ASIDE, where)
    if record.stage is not Stage.ATTACHED:
        what = "attaching it to" if record.stage is Stage.INTENDED else "detaching it from"
        text = f"{what} {who} was never finished"
        stage = Evidence(f"stage {record.stage}, and no call holds its lock", file.path)
        return found("record-unfinished", text, Cure.GIVE_BACK, stage)
    since = _given_since(facts, record)
    if since is not None:
        text = f"held by {who}, whose namespace is gone; somebody else has been given it since"
        return found("record-superseded", text, Cure.FORGET, since)
    gone_or_nameless = _owner(facts, record)
    if gone_or_nameless is not None:
        id_, text, evidence = gone_or_nameless
        return found(id_, f"held by {who}, {text}", Cure.GIVE_BACK, *evidence)
    if info is not None and info.record is not None and info.state is VFState.BROKEN:
        again = "give it back to the host; its pod has lost it and must be started anew"
        left = Evidence(f"driver {info.vf.driver}, netdev {info.vf.ifname}", "sysfs")
        return found("vf-lost", info.reason, Cure.GIVE_BACK, left, repair=again)
    return _inside(facts, file, record)


def _given_since(facts: Facts, record: Record) -> Evidence | None:
    """Tell what shows that a function whose owner is gone has been given to somebody else."""
    netns = record.owner.netns
    if netns.path in facts.unjudged or _space(facts, record) is not None:
        return None
    claim = facts.state.claims.get(record.address)
    if claim is not None and claim.live and claim.path != netns.path:
        return Evidence(f"claimed for {claim.path}", f"{facts.state.root}/pci/{record.address}")
    for space in facts.spaces.values():
        for netdev in space.netdevs.get(record.address, ()):
            return Evidence(f"{netdev.name} is in it", space.path)
    for entry in facts.state.entries:
        own = entry.path in record.saved_files
        other = not own and entry.container_id not in (None, record.owner.container_id)
        if entry.address == record.address and other and entry.mtime > record.owner.since:
            return Evidence(f"given to container {str(entry.container_id)[:13]}", entry.path)
    return None


def _owner(facts: Facts, record: Record) -> tuple[str, str, list[Evidence]] | None:
    """Say that a namespace is gone or has lost its name; None while the owner's path leads in."""
    netns = record.owner.netns
    space = _space(facts, record)
    nowhere = Evidence(f"does not lead to namespace {netns.inode}", netns.path or "no path")
    if netns.path in facts.unjudged:
        return None
    if space is None:
        return "vf-leaked", "whose namespace is gone", [nowhere]
    if not space.holders:
        return None
    held = ", ".join(h.text for h in space.holders[:3])
    more = f" and {len(space.holders) - 3} more" if len(space.holders) > 3 else ""
    text = f"whose namespace has lost its name; only {held}{more} keeps it"
    evidence = [Evidence(f"keeps namespace {netns.inode}: {h.text}", h.path) for h in space.holders]
    return "netns-nameless", text, [nowhere, *evidence]


def _space(facts: Facts, record: Record) -> Space | None:
    netns = record.owner.netns
    return facts.spaces.get((netns.dev, netns.inode))


def _unseen(file: RecordFile, record: Record) -> Finding:
    path = record.owner.netns.path
    return Finding(
        id="owner-unseen",
        severity=Severity.INFO,
        subject=record.address,
        finding=f"held by {describe(record)}, and whether its namespace lives cannot be seen here",
        evidence=(
            Evidence(f"owner {describe(record)}", file.path),
            Evidence("leads nowhere from here", path or "no path"),
            Evidence("not the host's first process namespace", "/proc/self/ns/pid"),
        ),
        repair="run hwmgr on the host itself, or in a container with its processes",
    )


def _inside(facts: Facts, file: RecordFile, record: Record) -> Finding | None:
    """Look whether the netdev of a living attachment is where it was put, and whose it says."""
    space = _space(facts, record)
    if space is None or not space.readable or record.kind is Kind.DPDK or not record.before.netdevs:
        return None
    inside = space.netdevs.get(record.address, ())
    who = describe(record)
    if not inside and not facts.here.get(record.address):
        return Finding(
            id="vf-astray",
            severity=Severity.WARNING,
            subject=record.address,
            finding=f"held by {who}, but its netdev is neither there nor here",
            evidence=(
                Evidence(f"owner {who}", file.path),
                Evidence("no netdev of it", space.path),
            ),
            repair="none while the pod lives: it may have moved it on; delete the pod",
        )
    for netdev in inside:
        alias = netdev.alias or ""
        owner = alias.partition(";owner=")[2]
        if alias.startswith(
            f"hwmgr:{record.address};"
        ) and not record.owner.container_id.startswith(owner):
            return Finding(
                id="alias-other-owner",
                severity=Severity.ERROR,
                subject=record.address,
                finding=f"held by {who}, but {netdev.name} is marked for container {owner[:13]}",
                evidence=(
                    Evidence(f"owner {record.owner.container_id}", file.path),
                    Evidence(f"alias {alias}", f"{space.path}, ip link show {netdev.name}"),
                ),
                repair="delete both pods: which of them has it cannot be told",
            )
    return None


def _claim_of(facts: Facts, file: RecordFile, record: Record) -> Iterator[Finding]:
    """Compare the claim of a living attachment: sriov-cni would take a VF that has none."""
    claim = facts.state.claims.get(record.address)
    if record.address in facts.state.torn_claims:
        return
    netns = record.owner.netns
    path = f"{facts.state.root}/pci/{record.address}"
    who = describe(record)
    if claim is None or not claim.live:
        said = "absent" if claim is None else f"names {claim.path}, which is gone"
        yield Finding(
            id="claim-missing",
            severity=Severity.WARNING,
            subject=record.address,
            finding=f"held by {who}, but no claim keeps sriov-cni from taking it",
            evidence=(Evidence(f"owner {who}", file.path), Evidence(said, path)),
            repair="write the claim",
            cure=Cure.CLAIM,
        )
    elif claim.key != (netns.dev, netns.inode):
        yield Finding(
            id="claim-conflict",
            severity=Severity.ERROR,
            subject=record.address,
            finding=f"held by {who}, but claimed for namespace {claim.path} as well",
            evidence=(Evidence(f"owner {who}", file.path), Evidence(f"names {claim.path}", path)),
            repair="delete the pod of one of the two namespaces; neither can be told to be wrong",
        )
