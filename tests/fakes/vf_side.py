"""What a PF's driver holds about its VFs, in files: shared by threads, processes and fakes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING

from hwmgr.errors import NetlinkError
from hwmgr.model import LinkState, VFSettings, VlanProto

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_MAC = "00:00:00:00:00:00"


def fresh(vf: int) -> VFSettings:
    """Return what a new VF has; its MAC is shown as the admin MAC though nobody set one (igb)."""
    return VFSettings(
        mac=f"02:5a:00:00:{vf >> 8:02x}:{vf & 255:02x}",
        vlan=0,
        qos=0,
        proto=VlanProto.DOT1Q,
        min_rate=0,
        max_rate=0,
        spoofchk=True,
        trust=False,
        link_state=LinkState.AUTO,
    )


_GROUPS = (
    {"mac"},
    {"vlan", "qos", "proto"},
    {"min_rate", "max_rate"},
    {"spoofchk"},
    {"trust"},
    {"link_state"},
)


@contextmanager
def exclusive(path: str) -> Iterator[None]:
    """Hold a file lock; the fakes' stand-in for rtnl and the device lock."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


class VfSide:
    """The settings of every VF, one file for a PF; what was asked of it is kept, in order."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def get(self, pf: str) -> dict[int, VFSettings]:
        """Return the settings of each VF of a PF."""
        try:
            with open(f"{self._folder}/{pf}.json") as file:
                value = json.load(file)
        except FileNotFoundError:
            return {}
        return {int(index): _decode(item) for index, item in value.items()}

    def reset(self, pf: str, count: int) -> None:
        """Give a PF that many fresh VFs."""
        with exclusive(f"{self._folder}/{pf}.lock"):
            for vf in self.pins(pf):
                self._pin(pf, vf, pinned=False)
            self._write(pf, {vf: fresh(vf) for vf in range(count)})

    def put(self, pf: str, vf: int, settings: VFSettings) -> None:
        """Set what a test wants to find there, without a word to the history; no MAC is pinned."""
        with exclusive(f"{self._folder}/{pf}.lock"):
            self._write(pf, {**self.get(pf), vf: settings})

    def refuse(self, pf: str, group: str, code: int = errno.EOPNOTSUPP) -> None:
        """Have the PF's driver refuse one kind of setting (``trust``, ``vlan``, ``802.1ad``…)."""
        path = f"{self._folder}/{pf}.refused"
        with exclusive(f"{self._folder}/{pf}.lock"), open(path, "a") as file:
            file.write(f"{group} {code}\n")

    def forgive(self, pf: str) -> None:
        """Have the PF's driver take every setting again."""
        path = f"{self._folder}/{pf}.refused"
        if os.path.exists(path):
            os.unlink(path)

    def change(self, pf: str, vf: int, change: VFSettings) -> None:
        """Apply one group as a driver does; raises NetlinkError with its errno."""
        wanted = {f.name for f in fields(change) if getattr(change, f.name) is not None}
        groups = [g for g in _GROUPS if g & wanted]
        if len(groups) != 1:
            raise AssertionError(f"one message, one attribute; got {sorted(wanted)}")
        with exclusive(f"{self._folder}/{pf}.lock"):
            with open(f"{self._folder}/{pf}.history", "a") as file:
                file.write(json.dumps([vf, {k: getattr(change, k) for k in sorted(wanted)}]) + "\n")
            known = self.get(pf)
            self._check(pf, vf, change, wanted, known)
            now = replace(known[vf], **{name: getattr(change, name) for name in wanted})
            if change.mac is not None:
                self._pin(pf, vf, pinned=change.mac != NO_MAC)
            self._write(pf, {**known, vf: now})

    def pinned(self, pf: str, vf: int) -> bool:
        """Tell whether the PF holds the VF to an admin MAC; a trusted VF is not held."""
        settings = self.get(pf).get(vf)
        return vf in self.pins(pf) and settings is not None and not settings.trust

    def own_mac(self, pf: str, vf: int, mac: str) -> None:
        """Note the MAC that a VF gave itself; igb shows it as the admin MAC, without pinning it."""
        self.put(pf, vf, replace(self.get(pf)[vf], mac=mac))

    def history(self, pf: str) -> list[tuple[int, dict[str, object]]]:
        """Return what the PF's driver was asked, in order."""
        try:
            with open(f"{self._folder}/{pf}.history") as file:
                return [(vf, change) for vf, change in map(json.loads, file)]
        except FileNotFoundError:
            return []

    def pins(self, pf: str) -> set[int]:
        """Return the VFs that have an admin MAC which somebody set."""
        try:
            with open(f"{self._folder}/{pf}.pins") as file:
                return {int(word) for word in file.read().split()}
        except FileNotFoundError:
            return set()

    def _pin(self, pf: str, vf: int, *, pinned: bool) -> None:
        pins = self.pins(pf) | {vf} if pinned else self.pins(pf) - {vf}
        with open(f"{self._folder}/{pf}.pins", "w") as file:
            file.write(" ".join(map(str, sorted(pins))))

    def _check(
        self, pf: str, vf: int, change: VFSettings, wanted: set[str], known: dict[int, VFSettings]
    ) -> None:
        what = f"set {', '.join(sorted(wanted))} of VF {vf}"
        if vf not in known:
            raise NetlinkError(what, errno.EINVAL)
        named = set(wanted)
        if change.proto is VlanProto.DOT1AD:
            named.add("802.1ad")
        for group, code in self._refused(pf):
            if group in named:
                raise NetlinkError(what, code)
        if change.vlan is not None and not (0 <= change.vlan < 4096 and 0 <= (change.qos or 0) < 8):
            raise NetlinkError(what, errno.EINVAL)
        if change.max_rate and change.min_rate and change.min_rate > change.max_rate:
            raise NetlinkError(what, errno.EINVAL)
        if change.mac is not None and int(change.mac.split(":")[0], 16) & 1:
            raise NetlinkError(what, errno.EINVAL)

    def _refused(self, pf: str) -> list[tuple[str, int]]:
        try:
            with open(f"{self._folder}/{pf}.refused") as file:
                return [(line.split()[0], int(line.split()[1])) for line in file]
        except FileNotFoundError:
            return []

    def _write(self, pf: str, settings: dict[int, VFSettings]) -> None:
        temporary = f"{self._folder}/{pf}.{os.getpid()}.tmp"
        with open(temporary, "w") as file:
            json.dump({str(k): asdict(v) for k, v in settings.items()}, file)
        os.rename(temporary, f"{self._folder}/{pf}.json")


def _decode(item: dict[str, object]) -> VFSettings:
    settings = VFSettings(**item)  # type: ignore[arg-type]
    proto = VlanProto(settings.proto) if settings.proto else None
    state = LinkState(settings.link_state) if settings.link_state else None
    return replace(settings, proto=proto, link_state=state)
