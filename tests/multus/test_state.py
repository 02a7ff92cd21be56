"""Saved state and journal on disk: durable, private, tolerant of damage."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from hwmgr.errors import RecordTorn, StateError
from hwmgr.model import NetnsIdentity
from hwmgr.store import StateDir
from multus.chain import Attachment
from multus.delegates import load_delegate
from multus.intents import Intents, Phase, Record, Step, StepState
from multus.savedstate import CachedResult, SavedState

if TYPE_CHECKING:
    from pathlib import Path

CONF = {"name": "neta", "type": "plugA", "cniVersion": "1.0.0", "big": 12345678901234567890}
ELEMENT: dict[str, object] = {
    "name": "n",
    "namespace": "ns",
    "interface": "if1",
    "mac": "02:00:00:00:00:01",
    "ips": ["10.0.0.1/24"],
    "default-route": [],
}


def record() -> Record:
    delegate = load_delegate(CONF, ELEMENT, device_id="0000:01:00.1", resource_name="r/x")
    item = Attachment(delegate, "c1", "/ns", "if1", (("A", "b"), ("A", "")), {"mac": "x"})
    return Record(
        container_id="c1",
        ifname="eth0",
        network="mnet",
        cni_dir="/cni",
        boot_id="boot",
        netns_path="/ns",
        netns=NetnsIdentity("/ns", 4, 7),
        since="2026-01-02T03:04:05Z",
        phase=Phase.ADDING,
        steps=(Step(item, StepState.STARTED), Step(item)),
    )


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    intents = Intents(StateDir(str(tmp_path)))
    written = record()
    intents.save(written)
    read = intents.load("c1")
    assert read is not None
    assert read.to_json() == written.to_json()
    assert read.steps[0].attachment.delegate.request.ips == ("10.0.0.1/24",)
    assert read.steps[0].attachment.delegate.conf["big"] == CONF["big"]
    assert read.held() == [0]
    assert intents.containers() == ["c1"]
    intents.remove("c1")
    assert intents.load("c1") is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 2}', '{"schema": 1}'])
def test_a_damaged_record_says_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "journal/containers/c1.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(RecordTorn) as caught:
        Intents(StateDir(str(tmp_path))).load("c1")
    assert str(path) in caught.value.message


def test_every_truncation_of_a_record_is_noticed(tmp_path: Path) -> None:
    """A power cut cannot leave one (rename after fsync), a broken disk can."""
    intents = Intents(StateDir(str(tmp_path)))
    intents.save(record())
    path = tmp_path / "journal/containers/c1.json"
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(RecordTorn):
            intents.load("c1")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '[{"Bytes": "!"}]', '[{"Bytes": "e30="}]']
)
def test_a_damaged_scratch_says_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "c1").write_text(content)
    with pytest.raises(RecordTorn):
        SavedState(StateDir(str(tmp_path))).load_scratch("c1")


def test_scratch_and_results_are_private_and_have_the_names_of_libcni(tmp_path: Path) -> None:
    saved = SavedState(StateDir(str(tmp_path / "cni")))
    delegate = load_delegate(CONF, ELEMENT)
    saved.save_scratch("c1", [delegate, delegate])
    saved.save_result(CachedResult("c1", "if1", "neta", "/ns", CONF, (("A", "b"),), {}, {"x": 1}))
    for path, mode in (
        ("cni", 0o700),
        ("cni/c1", 0o600),
        ("cni/results", 0o700),
        ("cni/results/neta-c1-if1", 0o600),
    ):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == mode
    assert saved.containers() == ["c1"]
    loaded = saved.load_scratch("c1")
    assert loaded is not None
    assert [item.master for item in loaded] == [True, False]
    assert [item.request for item in loaded] == [delegate.request] * 2
    (cached,) = saved.results()
    assert (cached.conf, cached.result, cached.cni_args) == (CONF, {"x": 1}, (("A", "b"),))


@pytest.mark.parametrize("content", ["", "{", '{"kind": "other"}', '{"kind": "cniCacheV1"}', "3"])
def test_a_damaged_result_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/neta-c1-if1").write_text(content)
    saved = SavedState(StateDir(str(tmp_path)))
    assert saved.load_result("neta", "c1", "if1") is None
    assert saved.results() == []


def test_names_never_become_paths_elsewhere(tmp_path: Path) -> None:
    saved = SavedState(StateDir(str(tmp_path)))
    for name in ("../x", "a/b", "..", ""):
        with pytest.raises(StateError):
            saved.save_scratch(name, [])
    with pytest.raises(StateError):
        saved.load_result("../../etc/passwd", "c1", "x")


def test_the_scratch_is_what_multus_cni_writes(tmp_path: Path) -> None:
    """The summaries beside ``Bytes`` have the members of Go's PluginConf, ``ipam`` always."""
    conf = {**CONF, "ipam": {"type": "host-local", "subnet": "10.0.0.0/24"}, "dns": {}}
    SavedState(StateDir(str(tmp_path))).save_scratch("c1", [load_delegate(conf)])
    (entry,) = json.loads((tmp_path / "c1").read_text())
    assert entry["Conf"] == {
        "cniVersion": "1.0.0",
        "name": "neta",
        "type": "plugA",
        "ipam": {"type": "host-local"},
    }
