"""``multusctl attachments``: saved state of every origin, whole, half-way and damaged."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hwmgr.store import StateDir
from multus.chain import Attachment
from multus.ctl import app as ctl
from multus.ctl.session import CtlSession
from multus.delegates import load_delegate
from multus.intents import Intents, Phase, Record, Step, StepState
from multus.savedstate import CachedResult, SavedState

ROOT = Path(__file__).parents[3]
PAIRS = (
    ("IgnoreUnknown", "true"),
    ("K8S_POD_NAMESPACE", "ns1"),
    ("K8S_POD_NAME", "web"),
    ("K8S_POD_UID", "uid1"),
)


def conf(name: str, kind: str) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": name, "type": kind}


class Node:
    """Saved state in a folder, and the command over it."""

    def __init__(self, root: Path) -> None:
        self.state, self.cni_dir = StateDir(str(root / "state")), str(root / "cni")
        self.saved = SavedState(StateDir(self.cni_dir))

    def journal(self, container_id: str, phase: Phase, *states: StepState) -> None:
        steps = [
            Step(self.attachment(container_id, f"net{index}"), state)
            for index, state in enumerate(states)
        ]
        record = Record(
            container_id, "eth0", "node", self.cni_dir, "boot", "/run/netns/a", None,
            "2026-01-02T03:04:05Z", phase, tuple(steps),
        )  # fmt: skip
        Intents(self.state).save(record)

    @staticmethod
    def attachment(container_id: str, ifname: str) -> Attachment:
        delegate = load_delegate(conf("neta", "sriov"), device_id="0000:03:02.1")
        return Attachment(delegate, container_id, "/run/netns/a", ifname, PAIRS, {})

    def multus_cni(self, container_id: str, *addresses: str) -> None:
        whole = conf("cbr0", "bridge")
        self.saved.save_scratch(container_id, [load_delegate(whole, master=True)])
        ips = [{"address": address} for address in addresses]
        result: dict[str, object] = {"cniVersion": "1.0.0", "ips": ips}
        self.saved.save_result(
            CachedResult(container_id, "eth0", "cbr0", "/run/netns/b", whole, PAIRS, {}, result)
        )

    def run(self, *words: str, **environment: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        session = CtlSession({"HWMGR_CONFIG": "/nonexistent", **environment}, out, err)
        line = ["--state-dir", self.state.root, "attachments", *words, "--cni-dir", self.cni_dir]
        return ctl.main(line, session), out.getvalue(), err.getvalue()

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "-o", "json")[1])


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize("phase", Phase)
def test_how_far_a_container_has_come(node: Node, phase: Phase) -> None:
    node.journal("c1", phase, StepState.ADDED, StepState.STARTED, StepState.INTENDED)
    (listed,) = node.json("list")
    assert (listed["state"], listed["source"]) == (phase.value, "journal")
    assert [network["state"] for network in listed["networks"]] == ["added", "started", "intended"]
    assert listed["networks"][0]["deviceID"] == "0000:03:02.1"
    pod = (listed["podNamespace"], listed["podName"], listed["podUid"])
    assert pod == ("ns1", "web", "uid1")
    assert phase.value in node.run("list")[1]


def test_addresses_are_those_that_libcni_saved(node: Node) -> None:
    node.multus_cni("c1", "10.1.0.2/24", "fd00::2/64")
    assert node.json("list")[0]["networks"] == [
        {
            "name": "cbr0",
            "ifname": "eth0",
            "podIfname": "eth0",
            "type": "bridge",
            "ips": ["10.1.0.2/24", "fd00::2/64"],
            "deviceID": None,
            "state": "added",
        }
    ]
    assert "eth0=10.1.0.2/24,fd00::2/64" in node.run("list")[1]


@pytest.mark.parametrize(
    ("result", "name"),
    [
        (None, "net0-4s0f1"),  # an ADD that has not come to its end
        ({"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.2/24"}}, "net0-4s0f1"),
        ({"cniVersion": "1.0.0", "interfaces": [{"name": "host0"}]}, "net0-4s0f1"),
        ({"cniVersion": "1.0.0", "interfaces": [{"name": "dp0", "sandbox": "/a"}]}, "dp0"),
        ({"cniVersion": "1.0.0", "interfaces": [
            {"name": "x", "sandbox": "/a"}, {"name": "net1", "sandbox": "/a"},
        ]}, "net1"),
        ({"cniVersion": "1.0.0", "interfaces": [{"name": 5, "sandbox": []}]}, "net0-4s0f1"),
    ],
)  # fmt: skip
def test_an_interface_has_the_name_that_it_has_in_the_pod(
    node: Node, result: dict[str, object] | None, name: str
) -> None:
    whole = {**conf("neta", "sriov"), "if0": "enp1s0", "if0name": "net0-4s0f1"}
    node.saved.save_scratch("c1", [load_delegate(whole, {"name": "neta", "interface": "net1"})])
    if result is not None:
        node.saved.save_result(
            CachedResult("c1", "net1", "neta", "/run/netns/b", whole, PAIRS, {}, result)
        )
    ((network,),) = [each["networks"] for each in node.json("list")]
    assert (network["ifname"], network["podIfname"]) == ("net1", name)
    assert f" {name}=" in node.run("list")[1]
    assert f"podIfname: {name}" in node.run("show", "c1")[1]


def test_nothing_is_changed(node: Node, tmp_path: Path) -> None:
    node.multus_cni("c1", "10.1.0.2/24")
    node.journal("c2", Phase.ADDING, StepState.STARTED)
    before = snapshot(tmp_path)
    assert node.run("list")[0] == 0
    assert node.run("show", "c1")[0] == 0
    assert snapshot(tmp_path) == before


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_node_without_any(node: Node) -> None:
    assert node.json("list") == []
    assert node.run("list")[::2] == (0, "multusctl: no pod has saved attachments\n")


def test_containers_are_named_whole_by_their_beginning_or_by_the_pod(node: Node) -> None:
    node.multus_cni("c1")
    node.multus_cni("c10")
    node.journal("d2", Phase.ATTACHED, StepState.ADDED)
    assert node.json("show", "c1")["containerId"] == "c1"
    assert node.json("show", "d")["containerId"] == "d2"
    status, out, err = node.run("show", "ns1/web")
    assert (status, out) == (1, "")
    assert "c1, c10, d2" in err
    assert "containerId:" in node.run("show", "c10")[1]


@pytest.mark.parametrize("name", ["cni/c3", "state/journal/containers/c3.json"])
@pytest.mark.parametrize(
    "data", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'[{"Bytes": 5}]', b'{"schema": 7}']
)
def test_a_damaged_record_is_told_and_hides_no_other(
    node: Node, tmp_path: Path, name: str, data: bytes
) -> None:
    node.multus_cni("c1")
    node.journal("c2", Phase.ATTACHED, StepState.ADDED)
    (tmp_path / name).write_bytes(data)
    status, out, err = node.run("list", "-o", "json")
    assert status == 1
    assert {each["containerId"] for each in json.loads(out)} == {"c1", "c2"}
    assert "c3" in err
    assert "internal error" not in err
    status, _, err = node.run("show", "c3")
    assert status == 1
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize("data", [b"", b"[]", b"[" * 100_000])
def test_a_damaged_result_is_told_and_its_network_shown(
    node: Node, tmp_path: Path, data: bytes
) -> None:
    node.multus_cni("c1", "10.1.0.2/24")
    (tmp_path / "cni/results/cbr0-c1-eth0").write_bytes(data)
    status, out, err = node.run("list", "-o", "json")
    assert status == 1
    assert json.loads(out)[0]["networks"][0]["ips"] == []
    assert "cbr0-c1-eth0" in err


def test_what_files_say_does_not_reach_the_terminal(node: Node) -> None:
    entry = conf("cbr0", "bridge\x1b[31m")
    node.saved.save_scratch("c1", [load_delegate(entry, master=True)])
    assert "\x1b" not in node.run("list")[1] + node.run("show", "c1")[1]


def test_completion(node: Node) -> None:
    node.multus_cni("c1")
    node.journal("d2", Phase.ATTACHED, StepState.ADDED)
    line = ["multusctl", "attachments", "show", "--cni-dir", node.cni_dir]
    assert complete(node, *line, "") == ["ns1/web", "c1", "d2"]
    assert complete(node, *line, "d") == ["d2"]
    assert complete(node, "multusctl", "manifests", "r") == ["rbac"]


def complete(node: Node, *words: str) -> list[str]:
    variables = {
        "_MULTUSCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "HWMGR_STATE_DIR": node.state.root,
        "HWMGR_CONFIG": "/nonexistent",
    }
    done = subprocess.run(
        [sys.executable, "-m", "multus.ctl.app"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return done.stdout.split()


def test_the_manual_has_every_option_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    manual = (ROOT / "docs/cli.md").read_text(encoding="utf-8").split("\n# multusctl\n")[1]
    lines = re.findall(r"^    multusctl \[OPTIONS\] (.*)$", manual, re.MULTILINE)
    for command in ("explain", "attachments list", "attachments show", "manifests"):
        assert ctl.main([*command.split(), "--help"]) == 0
        text = capsys.readouterr().out
        assert "Example" in text
        (synopsis,) = [line for line in lines if line.startswith(command)]
        own = set(re.findall(r"(--[a-z-]+)", text.split("Options:")[1])) - {"--help"}
        assert own <= set(re.findall(r"(--[a-z-]+)", synopsis)), command
    assert ctl.main(["--help"]) == 0
    for option in re.findall(r"(--[a-z-]+)", capsys.readouterr().out.split("Commands:")[0]):
        assert option in manual
