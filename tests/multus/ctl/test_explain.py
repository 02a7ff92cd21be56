"""``multusctl explain``: the answers of files and of a cluster, and that it only asks."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from multus.api.cluster import Cluster
from multus.api.clusterapi import ApiError
from multus.config import load_conf
from multus.ctl import app as ctl
from multus.ctl.session import CtlSession
from multus.explain import explain
from multus.objectfiles import ObjectFiles, ReadOnly, read_objects
from tests.apiserver.server import ApiServer
from tests.multus.fake_api import PODS, FakeApi
from tests.multus.fakes import FakeClock

ROOT = Path(__file__).parents[3]
NETWORKS = "k8s.v1.cni.cncf.io/networks"
CONF: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "node",
    "type": "multus",
    "kubeconfig": "/nonexistent/kubeconfig",
    "delegates": [{"cniVersion": "1.0.0", "name": "cbr0", "type": "bridge"}],
}
NAD: dict[str, Any] = {
    "apiVersion": "k8s.cni.cncf.io/v1",
    "kind": "NetworkAttachmentDefinition",
    "metadata": {"name": "net1"},
    "spec": {"config": '{"cniVersion": "1.0.0", "type": "macvlan"}'},
}


def pod(networks: str = "net1", **meta: Any) -> dict[str, Any]:
    whole = {"name": "web", "annotations": {NETWORKS: networks}, **meta}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": whole}


class Files:
    """A folder of objects and a configuration, and the command over them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.configure(CONF)

    def configure(self, conf: dict[str, Any]) -> None:
        self.write("conf", json.dumps(conf))

    def write(self, name: str, *documents: Any) -> str:
        texts = [text if isinstance(text, str) else yaml.safe_dump(text) for text in documents]
        (self.root / name).write_text("---\n".join(texts))
        return str(self.root / name)

    def explain(self, *words: str) -> tuple[int, Any, str]:
        out, err = io.StringIO(), io.StringIO()
        session = CtlSession({"HWMGR_CONFIG": str(self.root / "none")}, out, err)
        conf = ("--conf", str(self.root / "conf"), "-o", "json")
        status = ctl.main(["explain", *words, *conf], session)
        return status, json.loads(out.getvalue() or "null"), err.getvalue()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_lists_and_other_kinds_in_the_files(files: Files) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    nads = {"apiVersion": "v1", "kind": "List", "items": [NAD]}
    path = files.write("all", service, pod(), nads)
    status, told, err = files.explain("--pod", path)
    assert (status, told["errors"], err) == (0, [], "")
    assert [item["type"] for item in told["delegates"]] == ["bridge", "macvlan"]


def test_several_files_of_networks(files: Files) -> None:
    other = {**NAD, "metadata": {"name": "net2", "namespace": "infra"}}
    one, two = files.write("one", NAD), files.write("two", json.dumps(other))
    words = ("--pod", files.write("pod", pod("net1,infra/net2@data0")))
    status, told, _ = files.explain(*words, "--net-attach-defs", one, "--net-attach-defs", two)
    assert status == 0
    assert [item["ifname"] for item in told["delegates"]] == ["eth0", "net1", "data0"]
    assert told["delegates"][2]["source"] == "NetworkAttachmentDefinition infra/net2"


def test_what_the_pod_asked_for_is_shown_where_it_goes(files: Files) -> None:
    config = {"cniVersion": "1.0.0", "type": "macvlan", "capabilities": {"ips": True}}
    nad = files.write("nad", {**NAD, "spec": {"config": json.dumps(config)}})
    element = {"name": "net1", "ips": ["10.1.2.3/24"], "mac": "02:00:00:00:00:01"}
    words = ("--pod", files.write("pod", pod(json.dumps([element]))), "--net-attach-defs", nad)
    delegate = files.explain(*words)[1]["delegates"][1]
    assert delegate["runtimeConfig"] == {"ips": ["10.1.2.3/24"]}
    assert "K8S_POD_NAMESPACE=default" in delegate["cniArgs"].split(";")


def test_errors_of_the_plan_have_the_codes_of_add(files: Files) -> None:
    nad = files.write("nad", NAD)
    path = files.write("pod", pod("net1@data0,net1@data0"))
    status, told, _ = files.explain("--pod", path, "--net-attach-defs", nad)
    assert status == 1
    assert [error["code"] for error in told["errors"]] == [7]
    assert "data0" in told["errors"][0]["msg"]
    assert len(told["selections"]) == 2


def test_a_configuration_without_kubernetes_is_pointed_out(files: Files) -> None:
    files.configure({key: value for key, value in CONF.items() if key != "kubeconfig"})
    path = files.write("pod", pod(), NAD)
    status, told, err = files.explain("--pod", path)
    assert (status, len(told["delegates"])) == (0, 2)
    assert "no kubeconfig" in err


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (("--pod", "nothing.yaml"), 1, "neither a file nor NAMESPACE/NAME"),
        (("--pod", "some/nothing.yaml"), 1, "neither a file nor NAMESPACE/NAME"),
        (("--pod", "/default/web"), 1, "neither a file nor NAMESPACE/NAME"),
        (("--pod", "default/web"), 1, "/nonexistent/kubeconfig"),
        (("--pod", "default/web", "--net-attach-defs", "x"), 2, "a pod from one"),
        (("--pod", "/"), 1, "Is a directory"),
    ],
)
def test_pods_that_cannot_be_had(
    files: Files, words: tuple[str, ...], status: int, reason: str
) -> None:
    found, told, err = files.explain(*words)
    assert (found, told) == (status, None)
    assert reason in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "&a [*a]",
        "[" * 5000,
        "kind: Pod\nmetadata: {name: a, annotations: {1: b}}",
        "kind: Pod\nmetadata: 7",
        "kind: Pod\nmetadata: {name: 7}",
        "kind: 7",
        "kind: Pod",
        "\x00",
    ],
)
def test_files_that_are_no_objects_are_named_in_one_line(files: Files, text: str) -> None:
    status, told, err = files.explain("--pod", files.write("pod", text))
    assert (status, told) == (1, None)
    assert err.count("\n") == 1
    assert "internal error" not in err


def test_a_question_writes_nothing_to_the_cluster() -> None:
    api = FakeApi()
    api.put_pod({NETWORKS: "missing"})
    conf = load_conf(json.dumps(CONF).encode())
    told = explain(conf, api.objects[PODS.format(namespace="ns1", name="pod1")], asked(api), None)
    assert [error["code"] for error in errors_of(told)] == [7]
    assert api.events == []
    assert {line.split()[0] for line in api.requests} == {"GET"}


@pytest.mark.parametrize("networks", ["net1", "missing"])
def test_a_pod_of_the_cluster(files: Files, networks: str) -> None:
    with ApiServer() as server:
        server.add(pod(networks, namespace="ns1", uid="uid1"))
        server.add({**NAD, "metadata": {"name": "net1", "namespace": "ns1"}})
        kubeconfig = files.root / "kubeconfig"
        server.kubeconfig(kubeconfig)
        files.configure({**CONF, "kubeconfig": str(kubeconfig)})
        status, told, err = files.explain("--pod", "ns1/web")
        found = [item["name"] for item in told["delegates"]]
        assert found == ([] if networks == "missing" else ["cbr0", "ns1/net1"])
        assert (status, err) == (int(networks == "missing"), "")
        assert {request.verb for request in server.requests} == {"GET"}
        status, told, err = files.explain("--pod", "ns1/another")
        assert (status, told) == (1, None)
        assert "another" in err


def asked(api: FakeApi) -> Cluster:
    return Cluster(ReadOnly(api), FakeClock())


def errors_of(told: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = told["errors"]
    return found


def test_files_are_not_written(files: Files) -> None:
    objects = ObjectFiles(read_objects(files.write("pod", pod())))
    path = "/api/v1/namespaces/default/pods/web"
    assert objects.get(path, timeout=1.0)["kind"] == "Pod"
    with pytest.raises(ApiError):
        objects.patch(path, {}, timeout=1.0)
    with pytest.raises(ApiError):
        objects.create(path, {}, timeout=1.0)


def test_as_a_process(files: Files) -> None:
    words = ["explain", "--pod", files.write("pod", pod(), NAD), "--conf", str(files.root / "conf")]
    done = subprocess.run(
        [sys.executable, "-m", "multus.ctl.app", "-o", "json", *words],
        env={**os.environ, "HWMGR_CONFIG": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["delegates"]) == 2
