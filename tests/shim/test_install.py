"""``multusctl install``: what is put where, what is left alone, and what a failure leaves."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from multus import install, version
from multus.ctl import app as ctl
from multus.ctl.session import CtlSession
from multus.install import InstallError, Request
from tests.shim import rig

if TYPE_CHECKING:
    from pathlib import Path

GO = b"\x7fELF the multus of somebody else"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What an installation ships, with a program that only looks like the compiled one."""
    made = tmp_path / "shipped"
    made.mkdir()
    for name in ("twin.py", "twin_down.py"):
        (made / name).symlink_to(rig.SHIPPED / name)
    (made / "hwmgr-shim").write_bytes(b"\x7fELF hwmgr-shim: put here by multusctl install")
    return made


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    return tmp_path / "opt" / "cni" / "bin"


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.name: (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in folder.iterdir()
    }


def settings(folder: Path) -> dict[str, str]:
    lines = (folder / "hwmgr-shim.conf").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_both_programs_and_their_settings_are_there(source: Path, bin_dir: Path) -> None:
    done = install.install(Request(str(bin_dir), "none"), source)
    assert done.shim == "c"
    shim = (source / "hwmgr-shim").read_bytes()
    conf = (bin_dir / "hwmgr-shim.conf").read_bytes()
    assert tree(bin_dir) == {
        "multus": (shim, 0o755),
        "sriov": (shim, 0o755),
        "hwmgr-shim.conf": (conf, 0o644),
    }
    assert len(done.changed) == 3
    values = settings(bin_dir)
    assert set(values) == {"socket", "spool", "version"}
    assert json.loads(values["version"]) == {
        "cniVersion": version.CURRENT,
        "supportedVersions": list(version.SUPPORTED),
    }


def test_a_second_time_changes_nothing(source: Path, bin_dir: Path) -> None:
    request = Request(str(bin_dir), "none")
    install.install(request, source)
    before = {path: path.stat() for path in bin_dir.iterdir()}
    assert install.install(request, source).changed == ()
    assert {path: path.stat() for path in bin_dir.iterdir()} == before


@pytest.mark.parametrize("asked", [True, False])
def test_the_twin_comes_with_its_second_file(source: Path, bin_dir: Path, asked: bool) -> None:
    if not asked:
        (source / "hwmgr-shim").unlink()
    assert install.install(Request(str(bin_dir), "none", python=asked), source).shim == "python"
    assert set(tree(bin_dir)) == {"multus", "sriov", "hwmgr-shim.conf", "hwmgr-shim-down.py"}
    assert tree(bin_dir)["multus"] == ((rig.SHIPPED / "twin.py").read_bytes(), 0o755)
    (source / "hwmgr-shim").write_bytes(b"hwmgr-shim: put here by multusctl install")
    assert install.install(Request(str(bin_dir), "none"), source).shim == "c"
    assert set(tree(bin_dir)) == {"multus", "sriov", "hwmgr-shim.conf"}


def test_what_no_option_names_stays(source: Path, bin_dir: Path) -> None:
    first = Request(str(bin_dir), "none", socket="/run/other.sock", spool="/srv/spool")
    install.install(first, source)
    with (bin_dir / "hwmgr-shim.conf").open("a") as file:
        file.write(" answer_ms = 60000 \nfuture=x\n")
    install.install(Request(str(bin_dir), "none", spool="/srv/other"), source)
    values = settings(bin_dir)
    assert values["socket"] == "/run/other.sock"
    assert values["spool"] == "/srv/other"
    assert (values["answer_ms"], values["future"]) == ("60000", "x")


@pytest.mark.parametrize("name", ["multus", "sriov"])
def test_what_is_somebody_elses_is_refused_before_anything_is_done(
    source: Path, bin_dir: Path, name: str
) -> None:
    bin_dir.mkdir(parents=True)
    (bin_dir / name).write_bytes(GO)
    (bin_dir / name).chmod(0o700)
    with pytest.raises(InstallError, match="--force"):
        install.install(Request(str(bin_dir), "none"), source)
    assert tree(bin_dir) == {name: (GO, 0o700)}
    install.install(Request(str(bin_dir), "none", force=True), source)
    assert tree(bin_dir)[name][1] == 0o755


def test_a_foreign_link_is_refused_and_where_it_leads_is_left(source: Path, bin_dir: Path) -> None:
    bin_dir.mkdir(parents=True)
    target = bin_dir.parent / "target"
    target.write_bytes(GO)
    (bin_dir / "multus").symlink_to(target)
    with pytest.raises(InstallError):
        install.install(Request(str(bin_dir), "none"), source)
    install.install(Request(str(bin_dir), "none", force=True), source)
    assert not (bin_dir / "multus").is_symlink()
    assert target.read_bytes() == GO


def test_programs_that_were_copied_by_hand_are_ours(source: Path, bin_dir: Path) -> None:
    bin_dir.mkdir(parents=True)
    for name in ("multus", "sriov"):
        launcher = rig.ROOT / "scripts" / "launchers" / name
        (bin_dir / name).write_bytes(launcher.read_bytes())
    assert len(install.install(Request(str(bin_dir), "none"), source).changed) == 3


def test_a_failure_in_the_middle_leaves_all_as_it_was(source: Path, bin_dir: Path) -> None:
    install.install(Request(str(bin_dir), "none"), source)
    (bin_dir / "sriov").unlink()
    (bin_dir / "sriov").mkdir()
    before = {name: (bin_dir / name).read_bytes() for name in ("multus", "hwmgr-shim.conf")}
    (source / "hwmgr-shim").write_bytes(b"newer; hwmgr-shim: put here by multusctl install")
    with pytest.raises(InstallError):
        install.install(Request(str(bin_dir), "none", socket="/run/new", force=True), source)
    assert {name: (bin_dir / name).read_bytes() for name in before} == before
    assert sorted(os.listdir(bin_dir)) == ["hwmgr-shim.conf", "multus", "sriov"]


def test_a_first_time_that_fails_leaves_nothing(source: Path, bin_dir: Path) -> None:
    (bin_dir / "sriov").mkdir(parents=True)
    with pytest.raises(InstallError):
        install.install(Request(str(bin_dir), "none", force=True), source)
    assert os.listdir(bin_dir) == ["sriov"]


@pytest.fixture
def releases(tmp_path: Path, built: dict[str, Path]) -> tuple[Path, Path]:
    """Two releases of working shims: at the end of the second one's there is more."""
    folders = (tmp_path / "one", tmp_path / "two")
    for folder in folders:
        folder.mkdir()
        more = b"\n# " if folder == folders[1] else b""
        (folder / "hwmgr-shim").write_bytes(built["c"].read_bytes() + more)
        (folder / "twin.py").write_bytes((rig.SHIPPED / "twin.py").read_bytes() + more)
        (folder / "twin_down.py").write_bytes((rig.SHIPPED / "twin_down.py").read_bytes() + more)
    return folders


def test_a_program_that_runs_is_replaced(bin_dir: Path, releases: tuple[Path, Path]) -> None:
    """Writing into it would be refused as busy; the call goes on with the old one."""
    one, two = releases
    install.install(Request(str(bin_dir), "none"), one)
    env = {"CNI_COMMAND": "ADD"}
    with subprocess.Popen([bin_dir / "multus"], stdin=subprocess.PIPE, env=env) as running:
        assert len(install.install(Request(str(bin_dir), "none"), two).changed) == 2
        assert running.poll() is None
        running.terminate()


@pytest.mark.parametrize("python", [False, True])
def test_calls_during_an_installation_do_not_fail(
    bin_dir: Path, releases: tuple[Path, Path], python: bool
) -> None:
    request = Request(str(bin_dir), "none", python=python)
    install.install(request, releases[0])
    stop = threading.Event()

    def again() -> None:
        while not stop.is_set():
            for source in releases:
                install.install(request, source)

    installing = threading.Thread(target=again)
    installing.start()
    try:
        for _ in range(60):
            env = {"CNI_COMMAND": "VERSION"}
            done = subprocess.run([bin_dir / "multus"], env=env, capture_output=True)
            assert (done.returncode, done.stderr) == (0, b"")
    finally:
        stop.set()
        installing.join()


def test_thin_must_be_there_and_must_not_be_the_shim(
    source: Path, bin_dir: Path, tmp_path: Path
) -> None:
    thin = tmp_path / "thin"
    thin.mkdir()
    with pytest.raises(InstallError, match="multus is not there"):
        install.install(Request(str(bin_dir), str(thin)), source)
    for name in ("multus", "sriov"):
        (thin / name).write_text("#!/bin/sh\n")
        (thin / name).chmod(0o755)
    done = install.install(Request(str(bin_dir), str(thin)), source)
    assert settings(bin_dir)["thin"] == done.values["thin"] == str(thin)
    with pytest.raises(InstallError, match="the shim itself"):
        install.install(Request(str(bin_dir), str(bin_dir)), source)
    install.install(Request(str(bin_dir), "none"), source)
    assert "thin" not in settings(bin_dir)


@pytest.mark.parametrize(
    "wrong", [{"socket": "/" + "x" * 107}, {"socket": "/a\nthin=/tmp"}, {"spool": "/a "}]
)
def test_values_that_the_settings_cannot_hold_are_refused(
    source: Path, bin_dir: Path, wrong: dict[str, str]
) -> None:
    with pytest.raises(InstallError):
        install.install(Request(str(bin_dir), "none", **wrong), source)  # type: ignore[arg-type]
    assert not bin_dir.exists() or os.listdir(bin_dir) == []


def test_uninstall_removes_ours_and_nothing_else(source: Path, bin_dir: Path) -> None:
    install.install(Request(str(bin_dir), "none", python=True), source)
    (bin_dir / "bridge").write_bytes(b"a plugin")
    (bin_dir / "sriov").write_bytes(GO)
    gone = install.uninstall(str(bin_dir))
    assert gone.left == (str(bin_dir / "sriov"),)
    assert set(tree(bin_dir)) == {"bridge", "sriov"}
    assert install.uninstall(str(bin_dir)).removed == ()
    assert install.uninstall(str(bin_dir), force=True).removed == (str(bin_dir / "sriov"),)
    assert set(tree(bin_dir)) == {"bridge"}


def test_uninstall_of_nothing_is_fine(bin_dir: Path) -> None:
    assert install.uninstall(str(bin_dir)) == install.Removed((), ())


def run(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    env = {"HWMGR_CONFIG": "/nonexistent"}
    status = ctl.main(["--state-dir", "/srv/state", "install", *words], CtlSession(env, out, err))
    return status, out.getvalue(), err.getvalue()


def test_the_command_says_what_it_did(bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/bin/python")
    where = ("--bin-dir", str(bin_dir))
    status, out, err = run(*where, "--python", "-o", "json")
    assert status == 0
    assert f"{bin_dir} was not there" in err
    told: dict[str, Any] = json.loads(out)
    assert told == {
        "shim": "python",
        "programs": [str(bin_dir / "multus"), str(bin_dir / "sriov")],
        "settings": str(bin_dir / "hwmgr-shim.conf"),
        "socket": install.DEFAULT_SOCKET,
        "thin": None,
        "spool": "/srv/state/spool",
        "changed": [
            str(bin_dir / name)
            for name in ("hwmgr-shim.conf", "hwmgr-shim-down.py", "multus", "sriov")
        ],
    }
    (bin_dir / "sriov").write_bytes(GO)
    status, _, err = run(*where, "--python")
    assert (status, err.count("\n")) == (1, 1)
    assert "--force" in err
    status, out, err = run(*where, "--uninstall", "-o", "json")
    assert status == 0
    assert json.loads(out)["left"] == [str(bin_dir / "sriov")]
    assert "was left" in err


def test_thin_is_this_installation_where_it_has_programs(
    bin_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("python", "multus", "sriov"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert run("--bin-dir", str(bin_dir), "--python")[0] == 0
    assert settings(bin_dir)["thin"] == str(tmp_path)
