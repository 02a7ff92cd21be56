"""Killed at every durable step, whatever comes next ends with nothing left."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.functional.node import HERE, Node, make_node

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.functional

ADD = [
    "add.intended",
    "add.scratch",
    "add.delegate.0.started",
    "add.delegate.0.plugin.0.ran",
    "add.delegate.0.cached",
    "add.delegate.0.added",
    "add.delegate.1.started",
    "add.delegate.1.plugin.0.ran",
    "add.delegate.1.plugin.1.ran",
    "add.delegate.1.cached",
    "add.delegate.1.added",
]
UNDONE = [
    "deleting",
    "delegate.1.deleted",
    "delegate.1.done",
    "delegate.0.deleted",
    "delegate.0.done",
    "forgotten",
]
DEL = [f"del.{name}" for name in UNDONE]
UNDO = [f"undo.{name}" for name in UNDONE]
KILLED = -signal.SIGKILL


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    yield from make_node(tmp_path)


def conf(node: Node) -> dict[str, Any]:
    lists = [{"type": "leasea"}, {"type": "leaseb"}]
    leases = {"name": "lst", "cniVersion": "1.0.0", "plugins": lists}
    return {"cniVersion": "1.1.0", "delegates": [node.bridge(), leases]}


def finish(node: Node, how: str) -> None:
    """Do what a runtime may do next, and find nothing left."""
    if how == "DEL":
        assert node.cni("DEL", conf(node)).rc == 0
    elif how == "GC":
        done = node.cni("GC", {**conf(node), "cni.dev/valid-attachments": []})
        assert done.rc == 0, done
    else:
        done = node.cni("ADD", conf(node))
        if done.rc == 1:  # killed after all was done: only then it counts as attached
            assert "DEL it first" in done.json["msg"]
        assert node.cni("CHECK", conf(node)).rc == 0
        assert node.cni("DEL", conf(node)).rc == 0
    node.assert_clean()


def passed(node: Node, command: str) -> list[str]:
    log = node.root / "checkpoints"
    node.cni(command, conf(node), main=str(HERE / "crash_main.py"), CRASH_LOG=str(log))
    names = log.read_text().splitlines()
    log.unlink()
    return names


def test_the_matrix_names_every_checkpoint(node: Node) -> None:
    assert passed(node, "ADD") == ADD
    assert passed(node, "DEL") == DEL
    node.tell("leaseb", "fail")
    assert [name for name in passed(node, "ADD") if name.startswith("undo")] == UNDO


@pytest.mark.parametrize("how", ["DEL", "GC", "ADD"])
@pytest.mark.parametrize("at", ADD)
def test_add(node: Node, at: str, how: str) -> None:
    assert node.crash("ADD", conf(node), at).rc in (KILLED, 128 + signal.SIGKILL)
    finish(node, how)


@pytest.mark.parametrize("how", ["DEL", "GC", "ADD"])
@pytest.mark.parametrize("at", DEL)
def test_del(node: Node, at: str, how: str) -> None:
    assert node.cni("ADD", conf(node)).rc == 0
    assert node.crash("DEL", conf(node), at).rc in (KILLED, 128 + signal.SIGKILL)
    finish(node, how)


@pytest.mark.parametrize("how", ["DEL", "GC"])
@pytest.mark.parametrize("at", UNDO)
def test_rollback(node: Node, at: str, how: str) -> None:
    node.tell("leaseb", "fail")
    assert node.crash("ADD", conf(node), at).rc in (KILLED, 128 + signal.SIGKILL)
    finish(node, how)


def test_killed_twice(node: Node) -> None:
    node.crash("ADD", conf(node), "add.delegate.1.plugin.0.ran")
    node.crash("DEL", conf(node), "del.delegate.1.deleted")
    node.crash("DEL", conf(node), "del.delegate.0.deleted")
    finish(node, "DEL")


def test_what_a_failed_rollback_holds_is_freed_later(node: Node) -> None:
    node.tell("leaseb", "fail")
    node.tell("leasea", "nodel")
    failed = node.cni("ADD", conf(node))
    assert failed.json["code"] == 100
    assert "told to keep" in failed.json["details"]
    assert node.cni("DEL", conf(node)).rc == 1
    node.tell("leasea", "nodel", on=False)
    assert node.cni("DEL", conf(node)).rc == 0
    node.assert_clean()


def test_temporary_files_of_a_killed_writer_do_no_harm(node: Node) -> None:
    node.crash("ADD", conf(node), "add.delegate.0.added")
    folder = node.state_dir / "journal/containers"
    (folder / ".c1.json.1.1").write_text("{half")
    (folder / ".c9.json.1.1").write_text("{half")
    assert node.cni("DEL", conf(node)).rc == 0
    for path in folder.iterdir():
        Path(path).unlink()
    node.assert_clean()
