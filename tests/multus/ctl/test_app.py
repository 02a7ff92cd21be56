"""``multusctl`` as people and scripts use it."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from multus import manifests
from multus.ctl import app as ctl
from multus.ctl.session import CtlSession
from tests.multus.fake_api import FakeApi
from tests.multus.fakes import World
from tests.multus.test_pods import ARGS, CONF, NETWORKS, PLUG_B
from tests.seed import objects

if TYPE_CHECKING:
    from pathlib import Path

NAD = {
    "apiVersion": "k8s.cni.cncf.io/v1",
    "kind": "NetworkAttachmentDefinition",
    "metadata": {"name": "net1"},
    "spec": {"config": json.dumps({"cniVersion": "1.0.0", "type": "macvlan"})},
}


class Ctl:
    """Runs the command line and keeps what it printed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state_dir = str(root / "state")

    def run(self, *words: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        env = {"HWMGR_CONFIG": str(self.root / "no-config")}
        session = CtlSession(env, out, err)
        status = ctl.main(["--state-dir", self.state_dir, *words], session)
        return status, out.getvalue(), err.getvalue()

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "-o", "json")[1])

    def write(self, name: str, *documents: Any) -> str:
        path = self.root / name
        path.write_text("---\n".join(yaml.safe_dump(document) for document in documents))
        return str(path)


@pytest.fixture
def cli(tmp_path: Path) -> Ctl:
    return Ctl(tmp_path)


def pod(networks: str, **annotations: str) -> dict[str, Any]:
    named = {NETWORKS: networks, **annotations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "annotations": named}}


def test_explain_says_what_add_would_do(cli: Ctl, tmp_path: Path) -> None:
    files = ("--pod", cli.write("pod", pod("net1@data0")), "--net-attach-defs", cli.write("n", NAD))
    path = tmp_path / "conf"
    path.write_text(json.dumps({**CONF, "name": "node", "type": "multus"}))
    conf = ("--conf", str(path))
    status, out, _ = cli.run("explain", *files, *conf)
    assert status == 0
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["eth0", "neta", "plugA"],
        ["data0", "default/net1", "macvlan"],
    ]
    told = cli.json("explain", *files, *conf)
    assert set(told) == {"selections", "delegates", "errors"}
    assert told["selections"] == [{"name": "net1", "namespace": "default", "interface": "data0"}]
    assert set(told["delegates"][1]) == {
        *("name", "ifname", "type", "master", "config", "runtimeConfig", "cniArgs", "deviceID"),
        "source",
    }
    assert told["delegates"][0]["master"] is True
    assert "K8S_POD_NAME=web" in told["delegates"][1]["cniArgs"]
    assert not (cli.root / "state").exists()


def test_explain_the_seeds_pod(cli: Ctl, tmp_path: Path) -> None:
    words = objects.words_of("enp4s0f1", "ixgbevf", "igb_uio", "/x/dpdk-devbind.py")
    loaded = [objects.load(name, words) for name in (*objects.OBJECTS, objects.POD)]
    conf = tmp_path / "conf"
    conf.write_text(json.dumps(objects.configuration("/etc/kubernetes/admin.conf")))
    told = cli.json("explain", "--pod", cli.write("all", *loaded), "--conf", str(conf))
    assert told["errors"] == []
    found = [(item["ifname"], item["type"], item["master"]) for item in told["delegates"]]
    assert found == [("eth0", "flannel", True), ("net0", "sriov", False), ("net1", "sriov", False)]
    assert told["delegates"][2]["config"]["dpdk"]["dpdk_driver"] == "igb_uio"


def test_explain_gives_the_devices_of_a_checkpoint(cli: Ctl, tmp_path: Path) -> None:
    meta = {"name": "net1", "annotations": {"k8s.v1.cni.cncf.io/resourceName": "intel.com/vf"}}
    files = ("--pod", cli.write("pod", with_uid()), "--net-attach-defs")
    nads = cli.write("nads", {**NAD, "metadata": meta})
    conf, checkpoint = tmp_path / "conf", tmp_path / "checkpoint"
    conf.write_text(json.dumps({**CONF, "name": "node", "type": "multus"}))
    entry = {
        "PodUID": "uid1",
        "ContainerName": "c",
        "ResourceName": "intel.com/vf",
        "DeviceIDs": {"0": ["0000:03:02.1"]},
    }
    checkpoint.write_text(json.dumps({"Data": {"PodDeviceEntries": [entry]}, "Checksum": 1}))
    words = ("explain", *files, nads, "--conf", str(conf), "--checkpoint", str(checkpoint))
    told = cli.json(*words)
    assert [item["deviceID"] for item in told["delegates"]] == [None, "0000:03:02.1"]


def with_uid() -> dict[str, Any]:
    whole = pod("net1")
    whole["metadata"]["uid"] = "uid1"
    return whole


def test_explain_says_why_add_would_fail(cli: Ctl, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.write_text(json.dumps({**CONF, "name": "node", "type": "multus"}))
    words = ("explain", "--pod", cli.write("pod", pod("missing")), "--conf", str(conf))
    status, _, err = cli.run(*words)
    assert status == 1
    assert "missing" in err
    assert cli.json(*words)["errors"][0]["code"] == 7


@pytest.mark.parametrize("content", ["{", "- 1", "kind: Node\nmetadata: {name: n}", ""])
def test_files_that_hold_no_pod_are_named(cli: Ctl, tmp_path: Path, content: str) -> None:
    path, conf = tmp_path / "pod", tmp_path / "conf"
    path.write_text(content)
    conf.write_text(json.dumps({**CONF, "name": "node", "type": "multus"}))
    status, out, err = cli.run("explain", "--pod", str(path), "--conf", str(conf))
    assert (status, out) == (1, "")
    assert err.startswith("multusctl: ")
    assert "internal error" not in err


def test_attachments_of_ours_and_of_multus_cni(cli: Ctl, tmp_path: Path) -> None:
    api = FakeApi()
    api.put_pod({NETWORKS: "net1"})
    api.put_nad("net1", PLUG_B)
    world = World(tmp_path, api=api)
    world.plugin("plugA", "plugB")
    assert world.cni("ADD", CONF, ARGS=ARGS).rc == 0
    scratch = world.cni_dir / "c1"
    (world.cni_dir / "c2").write_text(scratch.read_text())
    listed = cli.json("attachments", "list", "--cni-dir", str(world.cni_dir))
    assert [(each["containerId"], each["source"]) for each in listed] == [
        ("c1", "journal"),
        ("c2", "multus-cni"),
    ]
    assert listed[0]["podName"] == "pod1"
    assert [(n["name"], n["ifname"]) for n in listed[0]["networks"]] == [
        ("neta", "eth0"),
        ("ns1/net1", "net1"),
    ]
    show = ("attachments", "show", "ns1/pod1", "--cni-dir", str(world.cni_dir))
    assert cli.json(*show)["containerId"] == "c1"
    assert cli.run(*show)[0] == 0
    status, out, _ = cli.run("attachments", "list", "--cni-dir", str(world.cni_dir))
    assert status == 0
    assert "ns1/pod1" in out
    assert cli.run("attachments", "show", "zzz", "--cni-dir", str(world.cni_dir))[0] == 1


def test_a_damaged_file_is_found_and_hides_nothing(cli: Ctl, tmp_path: Path) -> None:
    folder = tmp_path / "state/journal/containers"
    folder.mkdir(parents=True)
    (folder / "c9.json").write_text("{")
    status, _, err = cli.run("attachments", "list", "--cni-dir", str(tmp_path / "cni"))
    assert status == 1
    assert "c9.json" in err


def test_manifests_are_yaml_that_names_everything_needed(cli: Ctl) -> None:
    status, out, _ = cli.run("manifests", "crds")
    assert status == 0
    assert list(yaml.safe_load_all(out)) == manifests.crds()
    names = [crd["metadata"]["name"] for crd in yaml.safe_load_all(out)]
    assert names == [
        "network-attachment-definitions.k8s.cni.cncf.io",
        "networks.kubernetes.com",
        "networks.kubernetes.cni.cncf.io",
    ]
    assert cli.json("manifests")["items"] == manifests.crds() + manifests.rbac()
    assert cli.run("manifests", "what")[0] == 2


def test_the_rights_are_the_least() -> None:
    role: Any = manifests.rbac()[1]
    verbs = {(rule["resources"][0], *rule["verbs"]) for rule in role["rules"]}
    assert verbs == {
        ("pods", "get", "list", "watch"),
        ("pods/status", "patch"),
        ("events", "create"),
        ("network-attachment-definitions", "get", "list", "watch"),
        ("networks", "get"),
        ("resourceclaims", "get"),
        ("resourceslices", "list"),
    }


def test_usage_errors_have_their_status(cli: Ctl) -> None:
    assert cli.run("explain")[0] == 2
    assert cli.run("nothing")[0] == 2
    assert cli.run("--help")[0] == 0
