"""The hwmgr command: exit statuses, streams, keys of its JSON, completion, and its own manual."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hwmgr.cli.app import main
from hwmgr.cli.session import Session
from hwmgr.driver import current_driver
from hwmgr.errors import ConfigError
from hwmgr.manager import Manager
from hwmgr.model import AttachRequest, Kind, PciAddress, VFSettings
from hwmgr.run import Completed
from tests.fakes.left import leave

if TYPE_CHECKING:
    from tests.fakes.machine import Machine
    from tests.fakes.runner import Call

ROOT = Path(__file__).parents[3]
CONTAINER = "feedbeef" * 8
VF = PciAddress("0000:01:10.2")
PF_KEYS = [
    "address", "ifname", "driver", "vendor", "device", "totalVfs", "numVfs", "freeVfs", "numaNode",
    "eswitchMode", "mtu", "mac", "linkState",
]  # fmt: skip
VF_KEYS = [
    "address", "pf", "pfAddress", "index", "driver", "ifname", "state", "owner", "mac", "vlan",
    "trust", "spoofchk", "numaNode", "iommuGroup",
]  # fmt: skip
OWNER_KEYS = [
    "containerId", "ifname", "netns", "network", "podNamespace", "podName", "podUid", "since",
]  # fmt: skip


@dataclass
class Answer:
    """What a run of the command gave."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Cli:
    """Runs the command on a machine of fakes."""

    machine: Machine

    def __call__(self, *words: str) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        session = Session(lambda _s, _d, _log: self.machine.node, {}, out, err)
        return Answer(main(words, session), out.getvalue(), err.getvalue())

    def attach(self, **change: object) -> str:
        pod = self.machine.namespace()
        fields: dict[str, Any] = {
            "container_id": CONTAINER,
            "ifname": "net1",
            "netns_path": pod.path,
            "kind": Kind.VF,
            "device": VF,
            "network": "net-a",
            "pod_namespace": "default",
            "pod_name": "web",
        }
        Manager(self.machine.node).attach(AttachRequest(**{**fields, **change}))
        return pod.path


@pytest.fixture
def cli(machine: Machine) -> Cli:
    return Cli(machine)


def test_pf_list(cli: Cli) -> None:
    answer = cli("pf", "list", "-o", "json")
    assert (answer.status, answer.err) == (0, "")
    (pf,) = answer.json
    assert list(pf) == PF_KEYS
    assert (pf["address"], pf["ifname"], pf["vendor"]) == ("0000:01:00.0", "eth1", "8086")
    assert (pf["totalVfs"], pf["numVfs"], pf["freeVfs"]) == (7, 7, 7)


def test_vf_list(cli: Cli) -> None:
    path = cli.attach()
    found = cli("vf", "list", "-o", "json").json
    assert [list(vf) for vf in found] == [VF_KEYS] * 7
    assert [vf["state"] for vf in found] == ["free", "allocated"] + ["free"] * 5
    assert found[0]["owner"] is None
    assert found[0]["vlan"] is None
    owner = found[1]["owner"]
    assert list(owner) == OWNER_KEYS
    assert (owner["containerId"], owner["netns"], owner["podUid"]) == (CONTAINER, path, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", owner["since"])


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("--state", "free"), 6),
        (("--state", "allocated"), 1),
        (("--pf", "eth1"), 7),
        (("--pf", "0000:01:00.0"), 7),
        (("--pf", "01:00.0"), 7),
        (("--driver", "igbvf"), 7),
        (("--driver", "vfio-pci"), 0),
        (("--driver", "none"), 0),
    ],
)
def test_vf_list_filters(cli: Cli, words: tuple[str, ...], count: int) -> None:
    cli.attach()
    assert len(cli("-o", "json", "vf", "list", *words).json) == count


def test_the_output_option_is_taken_before_and_after(cli: Cli) -> None:
    before, after = cli("-o", "json", "vf", "list"), cli("vf", "list", "-o", "json")
    assert before.out == after.out
    assert yaml.safe_load(cli("-o", "json", "vf", "list", "-o", "yaml").out) == before.json


def test_tables_are_for_people(cli: Cli) -> None:
    cli.attach()
    lines = cli("vf", "list").out.splitlines()
    assert len(lines) == 8
    assert "default/web net1" in lines[2]
    wide = cli("vf", "list", "-o", "wide").out
    assert "held by pod default/web" in wide


def test_vf_show(cli: Cli) -> None:
    cli.attach()
    found = cli("vf", "show", "01:10.2", "-o", "json").json
    assert list(found)[: len(VF_KEYS)] == VF_KEYS
    assert found["original"]["netdevs"][0]["name"] == "eth1v1"
    assert found["original"]["driver"] == "igbvf"
    assert found["attachment"]["stage"] == "attached"
    text = cli("vf", "show", VF).out
    assert "original:" in text
    assert "eth1v1" in text


def test_vf_show_of_one_that_is_gone(cli: Cli) -> None:
    cli.attach()
    cli.machine.sim.write("bus/pci/devices/0000:01:00.0/sriov_numvfs", "0")
    assert cli("vf", "show", VF, "-o", "json").json["state"] == "broken"
    assert cli("vf", "show", "0000:01:10.0").status == 1


def test_vf_bind_and_unbind(cli: Cli) -> None:
    answer = cli("vf", "bind", VF, "vfio-pci", "-o", "json")
    assert (answer.status, answer.json["driver"]) == (0, "vfio-pci")
    assert cli("vf", "unbind", VF, "-o", "json").json["driver"] is None
    assert current_driver(cli.machine.sim, VF) is None


def test_vf_bind_into_a_group_that_is_not_viable_names_who_is_in_the_way(cli: Cli) -> None:
    tree, other = cli.machine.sim.tree, "0000:01:10.4"
    group = cli.machine.sim.link_name(f"bus/pci/devices/{VF}/iommu_group")
    tree.link(f"kernel/iommu_groups/{group}/devices/{other}", f"bus/pci/devices/{other}")
    answer = cli("vf", "bind", VF, "vfio-pci", "-o", "json")
    assert (answer.status, answer.json["driver"], answer.err.count("\n")) == (0, "vfio-pci", 1)
    assert f"IOMMU group {group} has {other} on igbvf" in answer.err
    assert cli("vf", "bind", other, "vfio-pci").err == ""


def test_vfios_file_of_the_device_is_shown_and_its_holder_found(cli: Cli) -> None:
    """With iommufd a program opens this one, and the group's never."""
    cli("vf", "bind", VF, "vfio-pci")
    node = cli.machine.node
    assert cli("vf", "show", VF, "-o", "json").json["deviceFiles"][-1].endswith("/vfio/vfio")
    cli.machine.sim.tree.put(f"bus/pci/devices/{VF}/vfio-dev/vfio3/dev", "511:3")
    file = f"{node.dev}/vfio/devices/vfio3"
    assert cli("vf", "show", VF, "-o", "json").json["deviceFiles"][-1] == file
    folder = Path(node.proc, "88/fd")
    folder.mkdir(parents=True)
    (folder / "4").symlink_to(file)
    Path(node.proc, "88/comm").write_text("qemu\n")
    shown = cli("vf", "show", VF, "-o", "json").json
    assert (shown["state"], "process 88 (qemu)" in shown["reason"]) == ("foreign", True)
    assert cli("vf", "bind", VF, "igbvf").status == 1


def test_vf_bind_refuses_in_one_line(cli: Cli) -> None:
    cli.attach()
    answer = cli("vf", "bind", VF, "vfio-pci")
    assert (answer.status, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert "held by pod default/web" in answer.err
    assert cli("vf", "bind", VF, "vfio-pci", "--force").status == 0


def test_state_list_and_show(cli: Cli) -> None:
    cli.attach()
    cli.machine.state.write_bytes(b"{", "torn-net0")
    found = cli("state", "list", "-o", "json").json
    assert {e["format"] for e in found} == {"journal", "sriov-cni", "claim"}
    assert [e["id"] for e in found if e["problem"]] == ["torn-net0"]
    shown = cli("state", "show", f"journal/{VF}.json", "-o", "json").json
    assert shown["content"]["owner"]["pod_name"] == "web"
    assert "pod_name: " in cli("state", "show", f"journal/{VF}.json").out
    several = cli("state", "show", VF)
    assert (several.status, several.err.count("\n")) == (1, 1)
    assert "names several" in several.err
    assert cli("state", "show", "nothing").status == 1


def test_repair_plans_and_then_acts(cli: Cli) -> None:
    assert cli("repair", "-o", "json").json == []
    pod = cli.machine.namespace()
    Manager(cli.machine.node).attach(AttachRequest(CONTAINER, "net1", pod.path, Kind.VF, device=VF))
    cli.machine.kill(pod)
    planned = cli("repair", "-o", "json")
    assert planned.status == 1
    (step,) = planned.json
    assert list(step) == ["id", "severity", "subject", "finding", "evidence", "repair"]
    assert (step["subject"], step["severity"], step["repair"]) == (VF, "error", "give back")
    assert step["id"] == "vf-leaked"
    assert os.path.exists(step["evidence"][0]["source"])
    assert cli("vf", "list", "--state", "leaked", "-o", "json").json
    assert cli("repair", "--yes").status == 0
    assert cli("repair").status == 0
    assert cli("vf", "list", "--state", "leaked", "-o", "json").json == []


def leave_call(cli: Cli, program: str = "sriov") -> Path:
    env = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": CONTAINER, "CNI_IFNAME": "net1"}
    env |= {"HWMGR_LOCKED_CONTAINER": CONTAINER, "HWMGR_STATE_DIR": "/elsewhere"}
    return leave(Path(cli.machine.state.root), env, {"name": "n"}, program=program)


def test_repair_runs_the_calls_that_were_left_for_later(cli: Cli) -> None:
    path = leave_call(cli)
    (step,) = cli("repair", "-o", "json").json
    assert (step["subject"], step["repair"]) == (str(path), "run the call")
    assert step["evidence"][0]["source"] == str(path)
    assert cli("doctor", "-o", "json").json == [step]
    assert path.exists()

    def sriov(call: Call) -> Completed:
        assert call.env["HWMGR_LEFT_CALL"] == path.name
        assert call.env["HWMGR_STATE_DIR"] == cli.machine.state.root
        assert "HWMGR_LOCKED_CONTAINER" not in call.env
        assert call.stdin == b'{"name": "n"}'
        path.unlink()
        return Completed(0, b"", b"")

    programs = os.path.dirname(sys.executable)
    cli.machine.runner.programs[f"{programs}/sriov"] = sriov
    assert cli("repair", "--yes").status == 0
    assert cli("repair").status == 0


def test_repair_says_which_calls_are_still_left(cli: Cli) -> None:
    path = leave_call(cli)
    missing = cli("repair", "--yes")
    assert (missing.status, "No such file" in missing.err) == (1, True)
    answers = {
        b'{"code": 7, "msg": "no such network"}': (1, "no such network"),
        b"": (0, "somebody is at work"),
    }
    for said, (status, expected) in answers.items():
        program = f"{os.path.dirname(sys.executable)}/sriov"
        done = Completed(status, said, b"")
        cli.machine.runner.programs[program] = lambda _call, done=done: done  # type: ignore[misc]
        answer = cli("repair", "--yes")
        assert (answer.status, expected in answer.err) == (1, True), answer
    assert path.exists()


def test_repair_sets_a_damaged_call_aside(cli: Cli) -> None:
    path = leave_call(cli)
    path.write_bytes(b"junk")
    (step,) = cli("repair", "-o", "json").json
    assert step["repair"] == "set the call aside"
    assert cli("repair", "--yes").status == 0
    assert cli("repair").status == 0
    shown = cli("state", "list", "-o", "json").json
    assert [row["id"] for row in shown] == [f"spool-torn/{path.name}"]


def test_repair_says_what_it_could_not_do(cli: Cli) -> None:
    cli.attach(settings=VFSettings(vlan=5))
    cli.machine.kill(cli.machine._namespaces[-1])
    cli.machine.netlink.fail("set_vf", 16, times=99)
    answer = cli("repair", "--yes")
    assert answer.status == 1
    assert "busy" in answer.err.lower()


@pytest.mark.parametrize(
    "words",
    [
        (), ("vf",), ("vf", "lst"), ("vf", "list", "--state", "odd"), ("vf", "show", "eth0"),
        ("vf", "show"), ("-o", "xml", "vf", "list"), ("vf", "list", "extra"), ("--nonsense",),
    ],
)  # fmt: skip
def test_mistakes_in_usage(cli: Cli, words: tuple[str, ...]) -> None:
    answer = cli(*words)
    assert (answer.status, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert re.fullmatch(r"hwmgr: .*[.?] See 'hwmgr[a-z ]* --help'\.", answer.err.strip())
    assert "Value error" not in answer.err


@pytest.mark.parametrize(
    "words", [("vf", "list", "--pf", "nosuch0"), ("vf", "show", "7f:00.0"), ("vf", "bind", VF, "x")]
)
def test_failures_are_one_line(cli: Cli, words: tuple[str, ...]) -> None:
    answer = cli(*words)
    assert (answer.status, answer.out, answer.err.count("\n")) == (1, "", 1)


def test_a_bad_node_configuration_is_told() -> None:
    def refuse(*_options: object) -> Any:
        raise ConfigError("/etc/hwmgr/config.yaml", ["a: b", "c: d"])

    out, err = io.StringIO(), io.StringIO()
    assert main(["vf", "list"], Session(refuse, {}, out, err)) == 1
    assert err.getvalue() == "".join(
        f"hwmgr: /etc/hwmgr/config.yaml: {fault}\n" for fault in ("a: b", "c: d")
    )


def test_what_nobody_foresaw_is_no_traceback() -> None:
    def fail(*_options: object) -> Any:
        raise RuntimeError("two\nlines")

    out, err = io.StringIO(), io.StringIO()
    assert main(["vf", "list"], Session(fail, {}, out, err)) == 1
    assert err.getvalue() == "hwmgr: internal error: RuntimeError: two lines\n"


def run(machine: Machine, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hwmgr", *words],
        env={**os.environ, **environment(machine), **extra},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def environment(machine: Machine) -> dict[str, str]:
    return {
        "HWMGR_SYSFS": machine.sim.root,
        "HWMGR_STATE_DIR": machine.state.root,
        "HWMGR_CONFIG": "/nonexistent",
    }


def test_as_a_process(machine: Machine) -> None:
    done = run(machine, "vf", "list", "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [vf["address"] for vf in json.loads(done.stdout)][:2] == ["0000:01:10.0", VF]
    nowhere = run(machine, "--sysfs", "/nonexistent", "vf", "list", "-o", "json")
    assert (nowhere.returncode, nowhere.stdout) == (1, "")
    assert "no sysfs tree is there" in nowhere.stderr
    assert run(machine, "--version").returncode == 0


def test_a_reader_that_goes_away_is_no_error_message(machine: Machine) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "hwmgr", "vf", "list", "-o", "json"],
        env={**os.environ, **environment(machine)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.stderr is not None
        assert child.stderr.read() == b""


@pytest.mark.parametrize(("extra", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_on_a_terminal(machine: Machine, extra: dict[str, str], coloured: bool) -> None:
    ours, theirs = pty.openpty()
    variables = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    with subprocess.Popen(
        [sys.executable, "-m", "hwmgr", "vf", "list", "-o", "wide"],
        env={**variables, **environment(machine), "COLUMNS": "80", "TERM": "xterm", **extra},
        stdout=theirs,
        cwd=ROOT,
    ) as child:
        os.close(theirs)
        text = b""
        while chunk := _read(ours):
            text += chunk
        os.close(ours)
    assert child.returncode == 0
    assert (b"\x1b[32m" in text) is coloured
    lines = re.sub(rb"\x1b\[\d*m", b"", text).splitlines()
    assert len(lines) == 8
    assert max(map(len, lines)) <= 80


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""


def complete(machine: Machine, words: list[str]) -> list[str]:
    """Return what bash is offered for the last word; bash has split the words at colons."""
    variables = {
        "_HWMGR_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    return run(machine, **variables).stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["hwmgr", "vf", "list", "--pf", "e"], ["eth1"]),
        (["hwmgr", "vf", "list", "--state", "f"], ["free", "foreign"]),
        (["hwmgr", "vf", "list", "--driver", "v"], ["vfio-pci"]),
        (["hwmgr", "vf", "show", "0000:01:11"], ["11.0", "11.2", "11.4"]),
        (["hwmgr", "vf", "show", "0000", ":", "01", ":", "11"], ["11.0", "11.2", "11.4"]),
        (["hwmgr", "vf", "bind", "0000", ":", "01", ":", "10.2", "ig"], ["igb", "igbvf"]),
        (["hwmgr", "state", "show", "j"], []),
    ],
)
def test_completion(machine: Machine, words: list[str], offered: list[str]) -> None:
    assert [w for w in complete(machine, words) if w != "igb_uio"] == offered


COMMANDS = [
    "pf list", "vf list", "vf show", "vf bind", "vf unbind", "vf map", "watch", "state list",
    "state show", "plan", "apply", "units", "doctor", "repair",
]  # fmt: skip


def test_the_manual_has_every_option_of_every_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manual = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    synopses = {
        " ".join(re.findall(r"^hwmgr (?:\[[^]]*\] )?([a-z]+(?: [a-z]+)?)", line)): line
        for line in re.findall(r"^    (hwmgr .*)$", manual, re.MULTILINE)
    }
    for command in COMMANDS:
        assert main([*command.split(), "--help"]) == 0
        text = capsys.readouterr().out
        assert "Example" in text
        assert "<str>" not in text
        assert "list[str]" not in text
        assert command in synopses, f"docs/cli.md has no synopsis of {command}"
        own = set(re.findall(r"(--[a-z-]+)", text.split("Options:")[1])) - {"--help"}
        missing = own - set(re.findall(r"(--[a-z-]+)", synopses[command]))
        assert missing == set(), command
    monkeypatch.setenv("COLUMNS", "80")
    for group in ([], ["pf"], ["vf"], ["state"]):
        assert main([*group, "--help"]) == 0
        assert "..." not in capsys.readouterr().out.split("Commands:")[1]  # cut off
    assert main(["--help"]) == 0
    for option in re.findall(r"(--[a-z-]+)", capsys.readouterr().out.split("Commands:")[0]):
        assert option in manual
