"""Whole calls as the reference made them: plugins called, output, files left.

Each recorded step is run from the files that the reference had just before it ("takeover": our
own state folder is empty, as on a node where multus-cni was replaced), and each scenario is also
run from its beginning on our own files ("own").
"""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.multus.fake_api import NADS, PODS, FakeApi
from tests.multus.fakes import FakeNamespaces, World, real_runner
from tests.multus.vectors import DEVIATIONS, cases

NETNS = "/run/netns/flow"
PLUGIN = Path(__file__).with_name("fake_plugin.py")
FLOWS = ("flows_thin_nok8s", "flows_k8s")
STATUS = "k8s.v1.cni.cncf.io/network-status"


def flow_params() -> list[Any]:
    return [param for name in FLOWS for param in params_of(name)]


def params_of(name_of_file: str) -> list[Any]:
    listed = dict(DEVIATIONS.get(name_of_file, {}))
    params = []
    for case in cases(name_of_file):
        for index in range(len(case["steps"])):
            for mode in ("takeover", "own"):
                name = f"{case['id']}.{index}.{mode}"
                reason = listed.pop(name, None)
                mark = pytest.mark.xfail(strict=True, raises=AssertionError, reason=str(reason))
                params.append(
                    pytest.param(case, index, mode, id=name, marks=[mark] if reason else [])
                )
    assert not listed, f"no such flow steps: {sorted(listed)}"
    return params


class Scenario:
    """One scenario's folder and node."""

    def __init__(self, root: Path, name: str) -> None:
        self.work = root / name
        self.work.mkdir()
        self.root = root
        namespaces = FakeNamespaces(**{NETNS: 7})
        self.world = World(root, runner=real_runner(), namespaces=namespaces)
        for plugin in ("plugA", "plugB", "plugC", "passthru"):
            shutil.copy(PLUGIN, self.world.bin / plugin)
        self.words = {
            "@WORK@": str(root),
            "@BIN@": str(self.world.bin),
            "@NETNS@": NETNS,
            "@KUBECONFIG_UNREACHABLE@": "/unreachable",
            "@KUBECONFIG@": "/kubeconfig",
            "@APISERVER@": "http://api",
        }

    def fill(self, value: Any) -> Any:
        text = json.dumps(value)
        for word, meaning in self.words.items():
            text = text.replace(word, meaning)
        return json.loads(text)

    def put(self, files: dict[str, str], *, whole: bool) -> None:
        """Lay out the recorded files, or only the plugins' answers."""
        for path in self.work.iterdir():
            if path.is_file():
                path.unlink()
        if whole:
            shutil.rmtree(self.work / "cni", ignore_errors=True)
        for name, content in self.fill(files).items():
            if whole or not name.startswith("cni/"):
                path = self.work / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)

    def describe_devices(self, checkpoint: dict[str, Any]) -> None:
        """Write the files that the device plugin of the record had written."""
        folder = self.root / "devinfo" / "dp"
        folder.mkdir(parents=True, exist_ok=True)
        for resource, ids in checkpoint["Data"]["RegisteredDevices"].items():
            for name in ids:
                info = {"type": "pci", "version": "1.1.0", "pci": {"pci-address": name}}
                file = f"{resource}-{name}-device.json".replace("/", "-")
                (folder / file).write_text(json.dumps(info))

    def serve(self, held: dict[str, Any] | None) -> None:
        """Have the API server hold what it held in the record."""
        api = FakeApi()
        for pod in (held or {}).get("pods") or []:
            api.put(PODS, pod)
        for nad in (held or {}).get("nads") or []:
            api.put(NADS, nad)
        api.fail = (held or {}).get("fail")
        api.conflicts = (held or {}).get("conflicts") or 0
        self.world.api = api

    def run(self, step: dict[str, Any]) -> dict[str, Any]:
        """Make the call of a step and return what can be compared with the record."""
        config = self.fill(step["config"])
        self.serve(step.get("kube_before"))
        kubeconfig = config.get("kubeconfig") if isinstance(config, dict) else None
        if kubeconfig == "/unreachable":
            self.world.api.fail = 0
        self.world.kubeconfigs = {"/kubeconfig", "/unreachable"}
        self.world.strict = False  # as the reference does it
        checkpoint = self.work / "ck.json"
        if checkpoint.exists():
            shutil.copy(checkpoint, self.root / "checkpoint")
            self.describe_devices(json.loads(checkpoint.read_text()))
        stdin = config if isinstance(config, str) else json.dumps(config)
        env = {**self.fill(step["env"]), "FAKE_PLUGIN_WORK": str(self.work), "PATH": "/usr/bin"}
        answer = self.world.call(env, stdin.encode())
        calls = self.work / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        messages = [str(event["message"]) for event in self.world.api.events]
        return {
            "rc": answer.rc,
            "stdout": self.outcome(answer.json if answer.stdout else ""),
            "delegate_calls": [json.loads(line) for line in lines],
            "files_after": self.files(config),
            "network-status": self.status(),
            "events": sorted(text for text in messages if text.startswith("Add ")),
        }

    def status(self) -> Any:
        """Return what was written into the pod's annotation, None when nothing was."""
        for path, pod in self.world.api.objects.items():
            if "/pods/" in path:
                found: Any = pod["metadata"]
                if STATUS in found.get("annotations", {}):
                    return json.loads(found["annotations"][STATUS])
        return None

    @staticmethod
    def outcome(document: Any) -> Any:
        if isinstance(document, dict) and "code" in document:
            return {"code": document["code"]}
        return document

    def files(self, config: Any) -> dict[str, Any]:
        if not isinstance(config, dict):
            return {}
        folder = Path(config["cniDir"])
        if not folder.is_dir():
            return {}
        found = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): readable(path) for path in found}


def readable(path: Path) -> Any:
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return path.read_text()
    for record in content if isinstance(content, list) else [content]:
        for key in ("Bytes", "config"):
            if key in record:
                decoded = json.loads(base64.b64decode(record[key]))
                record[key] = {"__base64_of__": decoded}
    return content


def expected(scenario: Scenario, step: dict[str, Any]) -> dict[str, Any]:
    keys = ("rc", "stdout", "delegate_calls", "files_after")
    filled: dict[str, Any] = scenario.fill({key: step[key] for key in keys})
    return {**filled, **scenario.fill(told(step))}


def told(step: dict[str, Any]) -> dict[str, Any]:
    """Return what the reference wrote to the API server: the last status, the events' texts."""
    requests = [item for item in step.get("kube_requests") or [] if isinstance(item, dict)]
    written = [item for item in requests if "network-status" in item]
    texts = [text for item in requests for text in item.get("strings", ()) if "Add " in text]
    return {
        "network-status": written[-1]["network-status"] if written else None,
        "events": sorted("Add " + text.split("Add ", 1)[1].rstrip("*") for text in texts),
    }


def is_version_or_help(step: dict[str, Any]) -> bool:
    """VERSION and the empty command are answered before the engine (test_main)."""
    return step["env"].get("CNI_COMMAND") in (None, "VERSION")


@pytest.mark.parametrize(("case", "index", "mode"), flow_params())
def test_flow(case: dict[str, Any], index: int, mode: str, tmp_path: Path) -> None:
    scenario = Scenario(tmp_path, case["id"])
    steps = case["steps"]
    if is_version_or_help(steps[index]):
        return
    if mode == "own":
        for step in steps[:index]:
            scenario.put(step["work_before"], whole=False)
            scenario.run(step)
    scenario.put(steps[index]["work_before"], whole=mode == "takeover")
    assert scenario.run(steps[index]) == expected(scenario, steps[index])
