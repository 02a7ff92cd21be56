"""What doctor and repair print: at 80 and 200 columns, without colour, piped; kept as text."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr import driver
from hwmgr.cli.app import main
from hwmgr.cli.output import Screen
from hwmgr.cli.report import report
from hwmgr.cli.session import Session
from hwmgr.doctor.findings import Cure, Evidence, Finding, Severity
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, Kind, PciAddress, VFSettings
from tests.fakes.machine import replace_node

if TYPE_CHECKING:
    from tests.fakes.machine import Machine

KEYS = ["id", "severity", "subject", "finding", "evidence", "repair"]
ROOT = Path(__file__).parents[3]
VF = PciAddress("0000:01:10.2")

FINDINGS = (
    Finding(
        "netns-nameless", Severity.ERROR, VF,
        "held by pod default/web, container feedbeeffeedb as net1, whose namespace has lost its "
        "name; only process 4711 (sleep) keeps it",
        (
            Evidence("owner pod default/web, container feedbeeffeedb as net1",
                     "/var/lib/cni/sriov/journal/0000:01:10.2.json"),
            Evidence("does not lead to namespace 4026532315", "/run/netns/pod-c0ffee"),
            Evidence("keeps namespace 4026532315: process 4711 (sleep)", "/proc/4711/ns/net"),
        ),
        "give back", Cure.GIVE_BACK,
    ),
    Finding(
        "vf-managed", Severity.WARNING, "0000:01:10.4",
        "NetworkManager takes eth1v2 for its own\x1b[31m",
        (Evidence("managed=true", "/run/NetworkManager/devices/9"),),
        "keep it off VFs, before they are made: a udev rule with ENV{NM_UNMANAGED}=1 or "
        "keyfile.unmanaged-devices",
    ),
)  # fmt: skip
AT_80 = """\
ERROR    0000:01:10.2  [netns-nameless]
  held by pod default/web, container feedbeeffeedb as net1, whose namespace has
  lost its name; only process 4711 (sleep) keeps it
  evidence: owner pod default/web, container feedbeeffeedb as net1
            (/var/lib/cni/sriov/journal/0000:01:10.2.json)
            does not lead to namespace 4026532315 (/run/netns/pod-c0ffee)
            keeps namespace 4026532315: process 4711 (sleep) (/proc/4711/ns/net)
  repair:   give back

WARNING  0000:01:10.4  [vf-managed]
  NetworkManager takes eth1v2 for its own?[31m
  evidence: managed=true (/run/NetworkManager/devices/9)
  repair:   keep it off VFs, before they are made: a udev rule with
            ENV{NM_UNMANAGED}=1 or keyfile.unmanaged-devices"""
AT_200 = """\
ERROR    0000:01:10.2  [netns-nameless]
  held by pod default/web, container feedbeeffeedb as net1, whose namespace has lost its name; only process 4711 (sleep) keeps it
  evidence: owner pod default/web, container feedbeeffeedb as net1 (/var/lib/cni/sriov/journal/0000:01:10.2.json)
            does not lead to namespace 4026532315 (/run/netns/pod-c0ffee)
            keeps namespace 4026532315: process 4711 (sleep) (/proc/4711/ns/net)
  repair:   give back

WARNING  0000:01:10.4  [vf-managed]
  NetworkManager takes eth1v2 for its own?[31m
  evidence: managed=true (/run/NetworkManager/devices/9)
  repair:   keep it off VFs, before they are made: a udev rule with ENV{NM_UNMANAGED}=1 or keyfile.unmanaged-devices"""  # noqa: E501 it is the text of a wide terminal


class Tty(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def damaged(machine: Machine) -> Machine:
    pod = machine.namespace()
    request = AttachRequest(
        "feedbeef" * 8, "net1", pod.path, Kind.VF, device=VF, pod_namespace="default",
        pod_name="web",
    )  # fmt: skip
    Manager(machine.node).attach(request)
    machine.kill(pod)
    machine.sim.vf_side.change("0000:01:00.0", 3, VFSettings(vlan=77, qos=0))
    driver.unbind(machine.sim, "0000:01:11.0")
    machine.netlink.edit("eth1v5", up=True)
    Path(machine.node.kubelet, "device-plugins").mkdir(parents=True)
    return machine


def run(machine: Machine, *words: str, out: io.StringIO | None = None) -> tuple[int, str, str]:
    out, err = out or io.StringIO(), io.StringIO()
    session = Session(lambda _s, _d, _log: machine.node, {"NO_COLOR": "1"}, out, err)
    status = main(words, session)
    return status, out.getvalue(), err.getvalue()


@pytest.mark.parametrize(("width", "text"), [(80, AT_80), (200, AT_200), (None, AT_200)])
def test_the_report(width: int | None, text: str) -> None:
    assert report(FINDINGS, Screen(width)) == text
    in_colour = report(FINDINGS, Screen(width, colour=True))
    assert in_colour.startswith("\x1b[31mERROR   \x1b[0m 0000:01:10.2")
    assert re.sub(r"\x1b\[\d*m", "", in_colour) == text


@pytest.mark.parametrize("width", [20, 60, 80, 120, 200])
def test_on_a_terminal(damaged: Machine, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for command in ("doctor", "repair"):
        status, out, err = run(damaged, command, out=Tty())
        assert status == 1
        assert "\x1b" not in out
        wrapped = [line for line in out.splitlines() if line.startswith(" ")]
        assert max(map(len, wrapped)) <= max(width, 40)
        assert "whose namespace" in " ".join(out.split())
        says = "4 found" if command == "repair" else "2 errors, 3 warnings, 1 info; 'hwmgr repair'"
        assert says in err


def test_piped_nothing_is_cut(damaged: Machine) -> None:
    status, out, _err = run(damaged, "doctor", "-o", "wide")
    assert status == 1
    assert "\x1b" not in out
    assert "…" not in out
    assert "nobody has it, yet it has VLAN 77" in out
    assert "(ip link show eth1, vf 3)" in out


def test_json_is_the_interface(damaged: Machine) -> None:
    status, out, err = run(damaged, "doctor", "-o", "json")
    found: list[dict[str, Any]] = json.loads(out)
    assert (status, err) == (1, "")
    assert [list(f) for f in found] == [KEYS] * 6
    assert {f["severity"] for f in found} == {"error", "warning", "info"}
    assert all(list(e) == ["fact", "source"] for f in found for e in f["evidence"])
    assert [f["id"] for f in found if f["subject"] == VF] == ["vf-leaked"]


def test_a_clean_node_says_so(machine: Machine) -> None:
    assert run(machine, "doctor") == (0, "clean: nothing is wrong\n", "")
    assert run(machine, "doctor", "-o", "json") == (0, "[]\n", "")
    machine.netlink.edit("eth1v5", up=True)
    status, out, err = run(machine, "doctor")
    assert (status, "vf-up" in out) == (0, True), "information alone is no fault"
    assert err.startswith("hwmgr: 1 info")


@pytest.mark.parametrize("command", [("vf", "list"), ("vf", "list", "-o", "wide"), ("vf", "map")])
def test_who_sees_a_state_that_is_wrong_is_told_who_explains_it(
    damaged: Machine, command: tuple[str, ...]
) -> None:
    status, _out, err = run(damaged, *command, out=Tty())
    assert status == 0
    assert err == "hwmgr: 1 leaked, 1 dirty, 1 broken: 'hwmgr doctor' says why, and what to do\n"
    assert run(damaged, *command)[2] == "", "elsewhere the table is all"
    assert run(damaged, *command, "-o", "json", out=Tty())[2] == ""


def test_one_finding_is_put_right_in_the_singular(machine: Machine) -> None:
    machine.sim.vf_side.change("0000:01:00.0", 3, VFSettings(vlan=77, qos=0))
    assert run(machine, "vf", "list", out=Tty())[2].startswith("hwmgr: 1 dirty: ")
    assert run(machine, "doctor")[2].startswith("hwmgr: 1 warning; 'hwmgr repair' has a cure")
    assert "1 found; 'hwmgr repair --yes' puts it right" in run(machine, "repair")[2]


def test_one_pf(damaged: Machine) -> None:
    found = json.loads(run(damaged, "doctor", "--pf", "eth1", "-o", "json")[1])
    assert len(found) == 4
    assert run(damaged, "doctor", "--pf", "nosuch0")[0] == 1


def test_repair_tells_what_became_of_each(damaged: Machine) -> None:
    status, planned, err = run(damaged, "repair", "-o", "json")
    assert (status, len(json.loads(planned))) == (1, 4)
    assert "'hwmgr repair --yes' puts them right" in err
    damaged.sim.vf_side.refuse("0000:01:00.0", "vlan", 1)
    status, out, err = run(damaged, "repair", "--yes", "-o", "json")
    done = json.loads(out)
    assert status == 1
    assert [list(d) for d in done] == [[*KEYS, "result", "problems"]] * len(done)
    assert [(d["id"], d["result"]) for d in done if d["result"] != "done"] == [
        ("vf-settings", "failed")
    ]
    assert "set proto, qos, vlan of VF 3" in err
    damaged.sim.vf_side.forgive("0000:01:00.0")
    status, out, _err = run(damaged, "repair", "--yes")
    assert status == 0
    assert "done" in out.splitlines()[-1]
    left = "no cure for what is left (2 warnings); 'hwmgr doctor' says what to do"
    assert run(damaged, "repair", "--yes") == (0, "", f"hwmgr: {left}\n")
    assert run(damaged, "repair", "0000:01:10.0") == (0, "", "hwmgr: nothing to repair\n")
    status, out, err = run(damaged, "repair", "0000:ff:1f.7")
    assert (status, out) == (1, "")
    assert "0000:ff:1f.7: no such PCI function here; see 'hwmgr vf list'" in err
    damaged.node = replace_node(damaged.node, all_processes=False)
    assert "run it as root, on the host itself" in run(damaged, "doctor")[2]


def test_the_manual_has_every_id() -> None:
    manual = set(re.findall(r"`([a-z-]+)`", (ROOT / "docs/doctor.md").read_text(encoding="utf-8")))
    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "hwmgr/doctor").glob("checks_*")
    )
    told = set(re.findall(r"\bid=\"([a-z-]+)\"", code))
    told |= set(re.findall(r"found\(\"([a-z-]+)\"", code))
    assert len(told) > 30
    assert told - manual == set()


def test_repair_of_named_functions(damaged: Machine) -> None:
    _status, out, _err = run(damaged, "repair", "01:10.2", "-o", "json")
    assert [f["subject"] for f in json.loads(out)] == [VF]
    assert run(damaged, "repair", "--yes", "01:10.2")[0] == 0
    assert len(json.loads(run(damaged, "repair", "-o", "json")[1])) == 3
    assert run(damaged, "repair", "eth1v1")[0] == 2
