"""Puts the shim into the folder of the CNI plugins, and takes it out again.

The settings are written first, then the programs, each by a rename: a runtime that starts one
meanwhile gets the old one or the new one, never half of one, and is never told that it is busy.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hwmgr.errors import HwmgrError
from multus import installfiles, version

PROGRAMS = ("multus", "sriov")
DOWN = "hwmgr-shim-down.py"
SETTINGS = "hwmgr-shim.conf"
DEFAULT_SOCKET = "/run/multus/multus.sock"
DEFAULT_SPOOL = "/var/lib/cni/sriov/spool"

# In the shim, in its twin, and in the programs of ours that used to be copied there by hand.
_OURS = (
    b"hwmgr-shim: put here by multusctl install",
    b"from multus.__main__ import main",
    b"from multus.sriov_main import main",
)
_HEADING = (
    "# Read by the shims beside it; written by multusctl install, which keeps what it is not told."
)
_LONGEST_PROGRAM = 8 << 20
_LONGEST_SOCKET = 107  # sun_path in unix(7), less the final zero


class InstallError(HwmgrError):
    """The shim cannot be put there, or not taken away; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be installed; None is what the settings have already, else the default.

    ``thin`` is the folder of the programs that work without a daemon, "none" for none.
    """

    bin_dir: str
    thin: str
    socket: str | None = None
    spool: str | None = None
    python: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Installed:
    """What is installed now; ``changed`` are the files that were not like this before.

    ``made`` says that the folder itself was not there.
    """

    shim: str
    programs: tuple[str, ...]
    settings: str
    values: dict[str, str]
    changed: tuple[str, ...]
    made: bool


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed, and what was left because it is not ours."""

    removed: tuple[str, ...]
    left: tuple[str, ...]


def shipped() -> Path:
    """Return the folder of this installation that has the shims."""
    return Path(__file__).with_name("shim")


def install(request: Request, source: Path) -> Installed:
    """Put shim and settings into a folder. Raises InstallError; then all is as it was.

    ``source`` is a folder with ``hwmgr-shim``, if it was compiled, and the twin's two files.
    """
    folder = _absolute(request.bin_dir, "--bin-dir")
    compiled = source / "hwmgr-shim"
    python = request.python or not compiled.exists()
    try:
        main = (source / "twin.py" if python else compiled).read_bytes()
        down = (source / "twin_down.py").read_bytes()
        made = not folder.exists()
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        programs = [folder / name for name in PROGRAMS]
        for path in programs:
            _refuse_foreign(path, request.force)
        values = _values(request, folder)
        files = [(folder / SETTINGS, _settings(values), 0o644)]
        if python:
            files.append((folder / DOWN, down, 0o644))
        files += [(path, main, 0o755) for path in programs]
        changed = installfiles.replace_all(folder, files)
        if not python and installfiles.is_plain(folder / DOWN):
            installfiles.remove(folder / DOWN)
    except OSError as error:
        raise InstallError(f"{error.filename or folder}: {error.strerror}") from error
    return Installed(
        "python" if python else "c",
        tuple(str(path) for path in programs),
        str(folder / SETTINGS),
        values,
        changed,
        made,
    )


def uninstall(bin_dir: str, force: bool = False) -> Removed:
    """Take shim and settings out of a folder, and what is not ours only with ``force``.

    Raises InstallError.
    """
    folder = _absolute(bin_dir, "--bin-dir")
    removed: list[str] = []
    left: list[str] = []
    try:
        for name in PROGRAMS:
            path = folder / name
            if not os.path.lexists(path):
                continue
            ours = force or _is_ours(path)
            if ours:
                installfiles.remove(path)
            (removed if ours else left).append(str(path))
        for name in (DOWN, SETTINGS):
            if installfiles.is_plain(folder / name):
                installfiles.remove(folder / name)
                removed.append(str(folder / name))
        if removed:
            installfiles.fsync(folder)
    except OSError as error:
        raise InstallError(f"{error.filename or folder}: {error.strerror}") from error
    return Removed(tuple(removed), tuple(left))


def _absolute(text: str, option: str) -> Path:
    if "\n" in text or "\0" in text or text != text.strip():
        raise InstallError(f"{option} {text!r} has white space that the settings cannot hold")
    return Path(os.path.abspath(text))


def _values(request: Request, folder: Path) -> dict[str, str]:
    """Return the settings to write: what was asked for, then what is there, then the defaults."""
    values = _read_settings(folder / SETTINGS)
    for key, wanted, default in (
        ("socket", request.socket, DEFAULT_SOCKET),
        ("spool", request.spool, DEFAULT_SPOOL),
    ):
        if wanted is not None:
            values[key] = str(_absolute(wanted, f"--{key}"))
        values.setdefault(key, default)
    if len(os.fsencode(values["socket"])) > _LONGEST_SOCKET:
        raise InstallError(f"--socket {values['socket']} is longer than {_LONGEST_SOCKET} bytes")
    values.pop("thin", None)
    if request.thin != "none":
        values["thin"] = str(_thin(request.thin, folder))
    supported = ", ".join(f'"{each}"' for each in version.SUPPORTED)
    head = f'{{"cniVersion": "{version.CURRENT}", "supportedVersions": '
    values["version"] = f"{head}[{supported}]}}"
    return values


def _thin(text: str, folder: Path) -> Path:
    """Return the folder of the thin programs; a shim that started itself would never end."""
    thin = _absolute(text, "--thin")
    for name in PROGRAMS:
        path = thin / name
        if not os.access(path, os.X_OK):
            raise InstallError(f"--thin {thin}: {name} is not there; name its folder, or none")
        if os.path.realpath(path) == os.path.realpath(folder / name) or _OURS[0] in _head(path):
            raise InstallError(
                f"--thin {thin}: {name} there is the shim itself; name another folder"
            )
    return thin


def _read_settings(path: Path) -> dict[str, str]:
    try:
        lines = os.fsdecode(path.read_bytes()).split("\n")
    except FileNotFoundError:
        return {}
    pairs = [line.strip().partition("=") for line in lines if not line.strip().startswith("#")]
    return {key.strip(): value.strip() for key, equals, value in pairs if equals and value.strip()}


def _settings(values: dict[str, str]) -> bytes:
    lines = [_HEADING, *(f"{key}={value}" for key, value in sorted(values.items()))]
    return os.fsencode("\n".join(lines) + "\n")


def _refuse_foreign(path: Path, force: bool) -> None:
    if os.path.lexists(path) and not force and not _is_ours(path):
        raise InstallError(f"{path} is somebody else's; --force replaces it")


def _is_ours(path: Path) -> bool:
    head = _head(path)
    return any(mark in head for mark in _OURS)


def _head(path: Path) -> bytes:
    """Return what a file begins with, b"" for what is no file."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(_LONGEST_PROGRAM)
