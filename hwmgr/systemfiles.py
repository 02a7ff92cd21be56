"""The files that have systemd, udevd and networkd work with us: their texts and their places."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

_UNITS = "/etc/systemd/system"
_PLACES = {
    "hwmgr-apply.service": _UNITS,
    "hwmgr-vfs@.service": _UNITS,
    "79-hwmgr-vfs.rules": "/etc/udev/rules.d",
    "05-hwmgr-vfs.network": "/etc/systemd/network",
}
NEXT = (
    "systemctl daemon-reload",
    "udevadm control --reload",
    "systemctl enable hwmgr-apply.service",
)
"""What makes them count."""


@dataclass(frozen=True, slots=True)
class SystemFile:
    """One file: where it goes, and what is in it."""

    path: str
    text: str


def system_files(program: str) -> list[SystemFile]:
    """Return the files; ``program`` is the absolute path of hwmgr that the units start.

    Raises ValueError for a path that systemd would read otherwise.
    """
    if not program.startswith("/") or any(c.isspace() or c in "%\"'\\$;@" for c in program):
        raise ValueError(f"{program!r} cannot stand in a unit")
    folder = files("hwmgr") / "system"
    return [
        SystemFile(
            f"{place}/{name}", (folder / name).read_text("utf-8").replace("@HWMGR@", program)
        )
        for name, place in _PLACES.items()
    ]
