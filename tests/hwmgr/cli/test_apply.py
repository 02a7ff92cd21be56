"""The commands plan, apply and units: statuses, streams, JSON, what they refuse and write."""

from __future__ import annotations

import errno
import io
import json
import shutil
import signal
import subprocess
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.cli import applyviews as cli_applyviews
from hwmgr.cli.app import main
from hwmgr.cli.output import Output, Screen, render
from hwmgr.cli.session import Session
from hwmgr.desired import reverting
from hwmgr.desired.applying import make_plan
from hwmgr.desired.applypf import Manner
from hwmgr.desired.file import load
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, Kind, PciAddress
from hwmgr.pci import list_vfs
from hwmgr.systemfiles import system_files
from tests.fakes.machine import replace_node
from tests.fakes.mortal import Killed, Life, mortal
from tests.fakes.tree import Nic

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


def test_a_driver_that_fails_is_told_with_what_to_do(cli: Cli) -> None:
    cli.machine.sim.fail(".*/sriov_numvfs", errno.ENOMEM)
    status, out, err = cli("apply", cli.file("numVfs: 4"))
    assert (status, out) == (1, "")
    first, failed, following = err.splitlines()
    for text in ("sriov_numvfs", "pci=realloc", "at eth1: numVfs 7 -> 4 (pfs[0].numVfs"):
        assert text in first
    assert failed == "hwmgr: failed: eth1: numVfs 7 -> 4"
    assert following == ("hwmgr: next: applying again goes on, 'hwmgr apply --revert' goes back")


def test_what_was_made_before_a_failure(cli: Cli) -> None:
    """Made, failed and not tried, of each PF; the rest is done by the next apply."""
    cli.machine.sim.add_nic(Nic(address="0000:03:00.0", ifname="eth3", vfs=0))
    groups = "[{range: '0', vlan: 7, driver: vfio-pci}, {range: '1', trust: true, mtu: 1400}]"
    path = cli.file(f"vfs: {groups}}}, {{match: {{name: eth3}}, numVfs: 2")
    cli.machine.sim.fail("probe/vfio-pci/.*", errno.EIO, 2)
    shown = cli.json("apply", path)
    brief = {
        key: [(c["pf"], c["index"], c["attribute"]) for c in shown[key]]
        for key in ("changes", "failed", "notTried")
    }
    assert brief == {
        "changes": [("eth1", 0, "vlan"), ("eth3", None, "numVfs")],
        "failed": [("eth1", 0, "driver")],
        "notTried": [("eth1", 1, "trust"), ("eth1", 1, "mtu")],
    }
    (problem,) = shown["problems"]
    assert "vfio-pci did not take it" in problem
    assert shown["failed"][0]["error"] == problem
    assert shown["done"] is False
    status, out, err = cli("apply", path)
    assert (status, out) == (1, "")
    assert err.splitlines()[1:] == [
        "hwmgr: failed: eth1 VF 0 (0000:01:10.0): driver None -> vfio-pci",
        "hwmgr: not tried: eth1 VF 1 (0000:01:10.2): trust False -> True,"
        " eth1 VF 1 (0000:01:10.2): mtu 1500 -> 1400",
        "hwmgr: next: applying again goes on, 'hwmgr apply --revert' goes back",
    ]
    again = cli.json("apply", path)
    assert (again["done"], len(again["changes"])) == (True, 3)
    assert (again["failed"], again["notTried"], again["problems"]) == ([], [], [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_has_it_say_where_it_came_to(cli: Cli, number: signal.Signals) -> None:
    """SIGTERM is what systemd sends when the time of the unit is up."""
    path = cli.file("vfs: [{range: '0-1', vlan: 7}]")

    def interrupt(name: str) -> None:
        if name == "attach.set.vlan" and cli.machine.sim.vf_side.get(PF)[1].vlan == 7:
            signal.raise_signal(number)

    cli.machine.node = replace_node(cli.machine.node, checkpoint=interrupt)
    shown = cli.json("apply", path)
    assert [c["index"] for c in shown["changes"]] == [0]
    assert [(c["index"], c["error"]) for c in shown["failed"]] == [(1, "interrupted")]
    assert (shown["problems"], shown["done"]) == (["interrupted"], False)


def test_what_revert_could_not_give_back(cli: Cli) -> None:
    assert cli("apply", cli.file("vfs: [{range: '0', vlan: 7}, {range: '1', trust: true}]"))[0] == 0
    cli.machine.sim.vf_side.refuse(PF, "vlan")
    shown = cli.json("apply", "--revert")
    assert [(c["index"], c["attribute"]) for c in shown["changes"]] == [(1, "trust")]
    assert [(c["index"], c["attribute"]) for c in shown["failed"]] == [(0, "vlan")]
    status, out, err = cli("apply", "--revert")
    assert (status, out) == (1, "")
    assert "next: 'hwmgr apply --revert' again goes on; moving applied/" in err
    cli.machine.sim.vf_side.forgive(PF)
    assert cli("apply", "--revert")[0] == 0


def test_a_refusal_is_json_too(cli: Cli) -> None:
    attach(cli.machine, 2)
    shown = cli.json("apply", cli.file("numVfs: 4"))
    assert (shown["changes"], shown["failed"], shown["done"]) == ([], [], False)
    assert "--force" in shown["problems"][0]


def test_a_plan_warns_of_what_the_host_uses(cli: Cli) -> None:
    cli.machine.netlink.edit("eth1", addresses=("192.0.2.7/24",))
    path = cli.file("mtu: 9000, up: false")
    shown = cli.json("plan", path)
    assert [w.partition(":")[0] for w in shown["warnings"]] == ["pfs[0].up", "pfs[0].mtu"]
    _status, _out, err = cli("plan", path)
    assert "it has the address 192.0.2.7/24; it would lose it" in err
    assert err.splitlines()[-1] == f"hwmgr: 2 to change; 'hwmgr apply --force {path}' does it"


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_the_example_of_the_help_works(
    cli: Cli, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    example = text.split("<<'END'\n")[1].split("  END\n")[0]
    path = cli.folder / "example.yaml"
    path.write_text(textwrap.dedent(example).replace("enp1s0", "eth1"))
    assert cli("apply", str(path))[0] == 0
    assert cli("plan", str(path)) == (0, "", "hwmgr: nothing to do\n")


def test_vfs_that_a_revert_has_made_anew_stay_as_they_were(cli: Cli) -> None:
    """The new number of VFs has udevd start the rest of a file that was given up."""
    path = cli.file("numVfs: 4, vfs: [{range: '1', vlan: 7, driver: vfio-pci}]")
    again = ("apply", "--only-vfs", "--pf", "eth1", path)
    assert cli("apply", path)[0] == 0
    assert cli("apply", "--revert")[0] == 0
    status, out, err = cli(*again)
    assert (status, out) == (0, "")
    assert "0000:01:00.0 has been reverted; apply the file without --only-vfs" in err
    assert cli.machine.sim.vf_side.get(PF)[1].vlan == 0
    cli.machine.node = cli.machine.rebooted()
    assert len(cli.json(*again)["changes"]) == 2
    assert cli("apply", "--revert")[0] == 0
    assert cli("apply", path)[0] == 0
    cli.machine.sim.write("bus/pci/devices/0000:01:00.0/sriov_numvfs", "0")
    cli.machine.sim.write("bus/pci/devices/0000:01:00.0/sriov_numvfs", "4")
    assert len(cli.json(*again)["changes"]) == 2


def test_a_revert_that_was_killed_is_not_undone_by_new_vfs(cli: Cli) -> None:
    path = cli.file("numVfs: 4, vfs: [{range: '1', vlan: 7}]")
    assert cli("apply", path)[0] == 0
    with pytest.raises(Killed):
        reverting.revert(mortal(cli.machine.node, Life(12)), Manner())
    assert "has been reverted" in cli("apply", "--only-vfs", path)[2]
    assert cli("apply", "--revert")[0] == 0


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


TWO = """
pfs:
  - {match: {name: eth1}, numVfs: 2}
  - {match: {name: eth3}, numVfs: 3}
"""


def test_a_torn_record_stops_its_own_pf_alone(cli: Cli) -> None:
    cli.machine.sim.add_nic(Nic(address="0000:03:00.0", ifname="eth3", vfs=0))
    path = cli.folder / "two.yaml"
    path.write_text(TWO)
    cli.machine.state.write_bytes(b'{"schema": 1', "applied", f"{PF}.json")
    torn = cli.machine.state.path("applied", f"{PF}.json")
    status, _out, err = cli("plan", str(path))
    first, last = err.splitlines()
    assert (status, last.split(";")[0]) == (1, "hwmgr: 1 to change")
    assert first.startswith(f"hwmgr: eth1: record {torn} is damaged (")
    assert f"move it away to go on without it: what was there of {PF} before" in first
    planned = cli.json("plan", str(path))
    assert [c["pf"] for c in planned["changes"]] == ["eth3"]
    assert [(r["pf"], r["pfAddress"]) for r in planned["refused"]] == [("eth1", PF)]
    status, out, err = cli("apply", str(path), "-o", "json")
    done = json.loads(out)
    assert (status, done["done"]) == (1, False)
    assert [(c["pf"], c["then"]) for c in done["changes"]] == [("eth3", 3)]
    assert [(r["pf"], r["pfAddress"]) for r in done["refused"]] == [("eth1", PF)]
    assert torn in done["refused"][0]["error"]
    assert torn in err
    assert len(list_vfs(cli.machine.sim, PF)) == 7
    assert cli("plan", str(path))[2].endswith("hwmgr: nothing else to do\n")
    # Going back is the same: the others are given back.
    assert [c["pf"] for c in cli.json("plan", "--revert")["changes"]] == ["eth3"]
    status, out, _err = cli("apply", "--revert", "-o", "json")
    back = json.loads(out)
    assert (status, [c["pf"] for c in back["changes"]]) == (1, ["eth3"])
    assert [r["pfAddress"] for r in back["refused"]] == [PF]
    assert list_vfs(cli.machine.sim, PciAddress("0000:03:00.0")) == []
    assert cli.machine.state.read_bytes("applied", f"{PF}.json") == b'{"schema": 1'
    assert cli("apply", str(path), "--pf", "eth3")[0] == 0


def test_each_fault_of_a_file_has_its_line(cli: Cli) -> None:
    path = cli.file("numVfs: x, speed: 1, vfs: [{range: '0', vlan: 1}, {range: '1', vlan: 5000}]")
    lines = [
        f"hwmgr: {path}: pfs[0].speed: unknown key; known are",
        f"hwmgr: {path}: pfs[0].numVfs: must be a number from 0 to 65535",
        f"hwmgr: {path}: pfs[0].vfs[1].vlan: must be a number from 0 to 4094",
    ]
    for command in ("plan", "apply"):
        status, _out, err = cli(command, path)
        assert status == 1
        said = err.splitlines()
        assert [s.startswith(line) for s, line in zip(said, lines, strict=True)] == [True] * 3
    (problem,) = cli.json("apply", path)["problems"]
    assert problem.count(path) == 1


def test_each_reason_of_a_refusal_has_its_line(cli: Cli) -> None:
    path = cli.file("numVfs: 9, vfs: [{range: '0', driver: nope}]")
    status, _out, err = cli("apply", path)
    assert status == 1
    assert [line.split(": ")[1] for line in err.splitlines()] == [
        "pfs[0].numVfs", "pfs[0].vfs[0].driver",
    ]  # fmt: skip
