"""A node that systemd boots: the lab's machine, driven from outside over several boots."""

from __future__ import annotations

import io
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labvm import parcel
from labvm.cache import ensure_image
from labvm.errors import MachineError
from labvm.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 240.0  # seconds, for what takes a few: the machine may have to share its processors
# Takes every netdev, and asks for addresses on it, as NetworkManager does without being told.
CATCH_ALL = "[Match]\nName=*\n[Network]\nDHCP=yes"
CALL = """\
#!/bin/bash
# call PROGRAM VERB CONTAINER VF: as a container runtime does, for the namespace pod
export CNI_COMMAND=$2 CNI_CONTAINERID=$3
export CNI_NETNS=/run/netns/pod CNI_IFNAME=net1 CNI_PATH=/usr/lib/cni
exec $1 <<< '{"cniVersion": "1.0.0", "name": "net", "type": "sriov", "deviceID": "'$4'"}'"""


@dataclass(frozen=True)
class Done:
    """What a command in the guest wrote, and its exit status."""

    status: int
    stdout: str
    stderr: str


class Node:
    """One machine with a disk of its own."""

    def __init__(self, session: Session, parcel_length: int) -> None:
        self._session = session
        self._parcel_length = parcel_length
        self._seen = 0

    def run(self, command: str) -> Done:
        """Run a command of bash's as root."""
        out, err = io.BytesIO(), io.BytesIO()
        try:
            status, _ = self._session.run(
                ["bash", "-o", "pipefail", "-c", command],
                environment={},
                parcel_length=self._parcel_length,
                timeout=PATIENCE,
                streams={"stdout": out, "stderr": err},
            )
        except MachineError as error:
            error.add_note(f"{command}\n{out.getvalue()!r}\n{err.getvalue()!r}\n{error.tail}")
            raise
        self._parcel_length = 0  # the checkout stays, on the machine's disk
        return Done(status, out.getvalue().decode(), err.getvalue().decode())

    def __call__(self, command: str) -> str:
        """Run a command that must succeed; return what it wrote."""
        done = self.run(command)
        assert done.status == 0, f"{command}: {done}"
        return done.stdout.rstrip("\n")

    def json(self, command: str) -> Any:
        """Run a command that must succeed; return what its JSON says."""
        return json.loads(self(command))

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file of the machine's."""
        self(
            f"mkdir -p $(dirname {path}) && cat > {path} <<'END-OF-FILE' && chmod {mode} {path}\n"
            f"{text}\nEND-OF-FILE"
        )

    def booted(self) -> str:
        """Wait until the boot is through; return how the system is then."""
        return self.run("systemctl is-system-running --wait").stdout.strip()

    def reboot(self) -> str:
        """Shut down in good order and boot again; return how the system is then."""
        self("systemctl --no-block reboot")
        self._session.boot_again()
        return self.booted()

    def journal(self, unit: str) -> list[str]:
        """Return a unit's messages of this boot."""
        return self(f"journalctl -b -o cat -u '{unit}'").splitlines()

    def said(self, unit: str, text: str) -> int:
        """Return how many messages of a unit in this boot have the text."""
        return sum(text in line for line in self.journal(unit))

    def await_journal(self, unit: str, text: str, already: int = 0) -> None:
        """Wait for one more message with the text, a basic regular expression, than there were.

        By number, and not from a place in the journal on: with --after-cursor journalctl leaves
        out the first message that matches.
        """
        follow = f"timeout {PATIENCE / 2:g} journalctl -b -f -n all -o cat -u '{unit}'"
        lines = self(f"grep -m{already + 1} '{text}' < <({follow})").splitlines()
        assert len(lines) == already + 1, f"{unit}: {text}"

    def moment(self, unit: str, name: str) -> int:
        """Return when in this boot a unit came to be so, in µs; ``name`` is systemd's word."""
        found = int(self(f"systemctl show --value -p {name}TimestampMonotonic '{unit}'"))
        assert found, f"{unit} has no {name} in this boot"
        return found

    def managers_have_seen(self) -> None:
        """Wait until both network managers have looked at all that udevd told them so far.

        They hear of netdevs in order, so what comes last is what is waited for.
        """
        self._seen += 1
        name = f"seen{self._seen}"
        self(f"udevadm settle && ip link add {name} type dummy")
        self.await_journal("NetworkManager", f"manager: ({name}): new Dummy device")
        self(f"nmcli device set {name} managed yes")
        self.await_journal("NetworkManager", f"device ({name}): state change: unmanaged ->")
        self.await_journal("systemd-networkd", f"{name}: Configuring with")
        self(f"ip link delete {name}")

    def managed(self) -> dict[str, tuple[str, str]]:
        """Return what NetworkManager and networkd say of the netdevs of VFs."""
        states = self("nmcli -t -f device,state device").splitlines()
        theirs = dict(line.split(":", 1) for line in states)
        lines = [line.split() for line in self("networkctl --no-legend list").splitlines()]
        ours = {line[1]: line[4] for line in lines}
        return {name: (theirs[name], ours[name]) for name in ours if re.search(r"v\d$", name)}


@contextmanager
def machine(state: Path, *taken: Path) -> Iterator[Node]:
    """Give a node that has booted for the first time, with both network managers.

    Its disk is the file ``state``; files ``taken`` along lie in its /checkout/taken.
    """
    with Session(ensure_image(), numa=False, state=state) as session:
        length = parcel.write_parcel(session.disks.parcel, None, taken)
        session.boot()
        node = Node(session, length)
        assert node.booted() == "running", node("systemctl --failed")
        node.write("/etc/systemd/network/50-all.network", CATCH_ALL)
        node.write("/root/call", CALL, mode="755")
        node("systemctl enable --now systemd-networkd")
        yield node
