"""The files that have systemd, udevd and networkd work with us: their texts and their places."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

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
# Where the other settings are; the units name their own files.
_VARIABLES = ("HWMGR_CONFIG", "HWMGR_STATE_DIR")


class UnitError(ValueError):
    """A path that systemd would read otherwise."""


@dataclass(frozen=True, slots=True)
class SystemFile:
    """One file: where it goes, and what is in it."""

    path: str
    text: str


def system_files(
    program: str, state_dir: str, environment: Mapping[str, str] | None = None
) -> list[SystemFile]:
    """Return the files; ``program`` is the absolute path of hwmgr that the units start.

    ``environment`` is what settings() returned for those who install. Raises UnitError for a path
    that systemd would read otherwise.
    """
    # Here, since the daemon has use for this module and none for what that loads.
    from importlib.resources import files

    _check(program)
    _check(state_dir)
    given = environment or {}
    folders = [state_dir, "/etc/hwmgr"]
    folders += [os.path.dirname(path) for name, path in given.items() if name == "HWMGR_CONFIG"]
    folder = files("hwmgr") / "system"
    return [
        SystemFile(
            f"{place}/{name}",
            (folder / name)
            .read_text("utf-8")
            .replace("@HWMGR@", program)
            .replace("@FOLDERS@", " ".join(folders))
            .replace("@ENVIRONMENT@\n", environment_lines(given)),
        )
        for name, place in _PLACES.items()
    ]


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those of the variables that a unit must have, to use the same files as we do now."""
    return {
        name: os.path.abspath(environment[name]) for name in _VARIABLES if environment.get(name)
    }


def environment_lines(given: Mapping[str, str]) -> str:
    """Return a unit's lines that set the variables. Raises UnitError as system_files() does."""
    for path in given.values():
        _check(path)
    return "".join(f"Environment={name}={path}\n" for name, path in given.items())


def _check(path: str) -> None:
    if not path.startswith("/") or any(c.isspace() or c in "%\"'\\$;@" for c in path):
        raise UnitError(f"{path!r} cannot stand in a unit")
