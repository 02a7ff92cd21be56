"""The commands plan, apply and units: statuses, streams, JSON, what they refuse and write."""

from __future__ import annotations

import errno
import io
import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr import cli_applyviews
from hwmgr.applying import make_plan
from hwmgr.applypf import Manner
from hwmgr.cli import main
from hwmgr.cli_output import Output, Screen, render
from hwmgr.cli_session import Session
from hwmgr.desiredfile import load
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, Kind, PciAddress
from hwmgr.pci import list_vfs
from hwmgr.systemfiles import system_files

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.machine import Machine

PF = PciAddress("0000:01:00.0")
CONTAINER = "feedbeef" * 8
CHANGE_KEYS = [
    "pf", "pfAddress", "index", "address", "attribute", "now", "then", "why", "hits",
]  # fmt: skip


@dataclass
class Cli:
    """Runs the command on a machine of fakes; gives status, standard output and error."""

    machine: Machine
    folder: Path

    def __call__(self, *words: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        session = Session(lambda _s, _d, _log: self.machine.node, {}, out, err)
        return main(words, session), out.getvalue(), err.getvalue()

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json")[1])

    def file(self, text: str) -> str:
        path = self.folder / "desired.yaml"
        path.write_text(f"pfs: [{{match: {{name: eth1}}, {text}}}]")
        return str(path)


@pytest.fixture
def cli(machine: Machine, tmp_path: Path) -> Cli:
    return Cli(machine, tmp_path)


def attach(machine: Machine, index: int, ifname: str = "net1") -> None:
    request = AttachRequest(
        container_id=CONTAINER,
        ifname=ifname,
        netns_path=machine.namespace().path,
        kind=Kind.VF,
        device=PciAddress(machine.nics[0].vf(index)),
        pod_namespace="default",
        pod_name="web",
    )
    Manager(machine.node).attach(request)


def test_plan_apply_and_back(cli: Cli) -> None:
    path = cli.file("numVfs: 4, vfs: [{range: '1', vlan: 7}]")
    status, out, err = cli("plan", path)
    assert status == 1
    assert out.splitlines()[0].split() == [
        "PF", "VF", "ADDRESS", "ATTRIBUTE", "NOW", "THEN", "HITS", "WHY",
    ]  # fmt: skip
    assert err == f"hwmgr: 2 to change; 'hwmgr apply {path}' does it\n"
    planned = cli.json("plan", path)
    assert [list(c) for c in planned["changes"]] == [CHANGE_KEYS] * 2
    assert (planned["problems"], planned["done"]) == ([], False)
    assert len(list_vfs(cli.machine.sim, PF)) == 7

    done = cli.json("apply", path)
    assert done["done"] is True
    made = [(c["index"], c["attribute"]) for c in done["changes"]]
    assert made[0] == (None, "numVfs")
    assert (1, "vlan") in made
    assert cli("plan", path) == (0, "", "hwmgr: nothing to do\n")
    assert cli("apply", path) == (0, "", "hwmgr: nothing to do\n")
    assert cli.json("apply", path)["changes"] == []

    back = cli.json("plan", "--revert")
    assert [(c["attribute"], c["now"], c["then"]) for c in back["changes"]] == [("numVfs", 4, 7)]
    assert cli("apply", "--revert")[0] == 0
    assert len(list_vfs(cli.machine.sim, PF)) == 7
    assert cli("apply", "--revert") == (0, "", "hwmgr: nothing to do\n")
    assert cli("state", "list")[0] == 0


def test_pods_in_the_way(cli: Cli) -> None:
    attach(cli.machine, 2)
    path = cli.file("numVfs: 4")
    status, out, err = cli("plan", path)
    assert (status, "default/web" in out) == (1, True)
    assert "takes 0000:01:10.4 away: held by pod default/web" in err
    (change,) = cli.json("plan", path)["changes"]
    (hit,) = change["hits"]
    assert (hit["address"], hit["owner"]["containerId"]) == ("0000:01:10.4", CONTAINER)
    status, out, err = cli("apply", path)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "--force" in err
    assert cli("apply", "--force", path)[0] == 0


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_plan_fits_the_terminal(cli: Cli, width: int) -> None:
    attach(cli.machine, 2)
    attach(cli.machine, 3, "net2")
    desired = load(cli.file("numVfs: 4, vfs: [{range: '1', mac: stable}]"), roots_alone=False)
    plan = make_plan(cli.machine.node, desired, Manner())
    rows = [cli_applyviews.change_row(c) for c in plan.changes]
    text = render(rows, cli_applyviews.CHANGE_COLUMNS, Output.TABLE, Screen(width))
    assert max(map(len, text.splitlines())) <= width
    assert "default/web" in text
    assert ("ADDRESS" in text) == (width > 80)
    assert ("default/web net1, default/web net2" in text) == (width > 120)


def test_a_driver_that_fails_is_one_line_with_what_to_do(cli: Cli) -> None:
    cli.machine.sim.fail(".*/sriov_numvfs", errno.ENOMEM)
    status, out, err = cli("apply", cli.file("numVfs: 4"))
    assert (status, out, err.count("\n")) == (1, "", 1)
    for text in ("sriov_numvfs", "pci=realloc", "eth1: numVfs 7 -> 4", "--revert goes back"):
        assert text in err


def test_what_the_file_cannot_have(cli: Cli) -> None:
    status, _out, err = cli("plan", cli.file("numVfs: 9"))
    assert (status, err) == (1, "hwmgr: pfs[0].numVfs: eth1: it can have 7 VFs, not 9\n")
    status, out, err = cli("apply", cli.file("numVfs: 9, speed: 1"))
    assert (status, out) == (1, "")
    assert "pfs[0].speed: unknown key" in err


@pytest.mark.parametrize(
    "words",
    [
        ("plan",),
        ("apply",),
        ("apply", "f", "--revert"),
        ("apply", "f", "--wait", "-1"),
        ("units", "--program", "hw mgr"),
    ],
)
def test_wrong_usage(cli: Cli, words: tuple[str, ...]) -> None:
    status, out, err = cli(*words)
    assert (status, out) == (2, "")
    assert "--help" in err


def test_one_pf_and_only_its_vfs(cli: Cli) -> None:
    path = cli.file("numVfs: 4, vfs: [{range: '1', vlan: 7}]")
    assert [c["attribute"] for c in cli.json("plan", "--only-vfs", path)["changes"]] == ["vlan"]
    assert cli.json("plan", "--pf", "01:00.0", path)["changes"]
    assert cli("plan", "--pf", "eth9", path)[0] == 1


def test_units_are_printed_and_installed(cli: Cli, tmp_path: Path) -> None:
    status, out, _err = cli("units", "--program", "/usr/bin/hwmgr")
    assert status == 0
    assert "ExecStart=/usr/bin/hwmgr apply --wait 60 /etc/hwmgr/desired.yaml" in out
    root = tmp_path / "root"
    status, out, err = cli("units", "--install", "--root", str(root), "--program", "/usr/bin/hwmgr")
    assert status == 0
    assert "systemctl daemon-reload" in err
    for one in cli.json("units", "--program", "/usr/bin/hwmgr"):
        written = root / one["path"].lstrip("/")
        assert written.read_text() == one["text"]
        assert f"{root}{one['path']}" in out
        assert "@HWMGR@" not in one["text"]


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """Where this machine has systemd it reads the units; their lines are looked at in any case."""
    program = tmp_path / "hwmgr"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    texts = {one.path.rsplit("/", 1)[1]: one.text for one in system_files(str(program))}
    assert "Before=network-pre.target" in texts["hwmgr-apply.service"]
    assert 'ENV{NM_UNMANAGED}="1"' in texts["79-hwmgr-vfs.rules"]
    assert "Property=HWMGR_VF=1" in texts["05-hwmgr-vfs.network"]
    verify = shutil.which("systemd-analyze")
    for name in ("hwmgr-apply.service", "hwmgr-vfs@.service"):
        (tmp_path / name).write_text(texts[name])
        if verify:
            done = subprocess.run(
                [verify, "verify", "--recursive-errors=no", str(tmp_path / name)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert name not in done.stderr
