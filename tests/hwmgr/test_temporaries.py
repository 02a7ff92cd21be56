"""Files that killed writers leave: swept by pattern, age and writer; a living one's never."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwmgr.doctor import examination as doctor
from hwmgr.doctor import repair
from tests.fakes.machine import replace_node

if TYPE_CHECKING:
    from hwmgr.node import Node
    from tests.fakes.machine import Machine

NOW = 1_800_000_000.0
GONE, ALIVE = 4_000_000, os.getpid()
SHIM = "c0ffee.eth0.1799999999123456789"


@pytest.fixture
def node(machine: Machine) -> Node:
    Path(machine.node.proc, str(ALIVE)).mkdir()
    return replace_node(machine.node, clock=lambda: NOW)


def leave(node: Node, path: str, age: float) -> str:
    full = Path(node.state.root, path)
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_text("{")
    os.utime(full, (NOW - age, NOW - age))
    return str(full)


@pytest.mark.parametrize(
    "path",
    [
        f".abc-net1.{GONE}.17",
        f".probe.{GONE}.17",
        f"journal/.0000:01:10.0.json.{GONE}.17",
        f"journal/containers/.abc.json.{GONE}.17",
        f"journal-torn/.x.{GONE}.17",
        f"pci/.0000:01:10.0.{GONE}.17",
        f"applied/.0000:01:00.0.json.{GONE}.17",
        f"4026532/.abc-net1.{GONE}.17",
        f"spool/.{SHIM}.{GONE}",
    ],
)
@pytest.mark.parametrize("age", [61, -3600])
def test_left_by_the_dead(node: Node, path: str, age: float) -> None:
    full = leave(node, path, age)
    (found,) = doctor.examine(node)
    assert (found.id, found.subject) == ("temp-file", full)
    assert [o.problems for o in repair.carry_out(node, repair.plan(node))] == [()]
    assert not os.path.exists(full)
    assert doctor.examine(node) == []


@pytest.mark.parametrize(
    ("path", "age"),
    [
        (f"pci/.x.{GONE}.17", 59),
        (f"pci/.x.{ALIVE}.17", 3599),
        (f"spool/.{SHIM}.{ALIVE}", 3599),
        ("pci/.x", 10**6),
        ("spool/.x.4000000.17", 10**6),
        (f"locks/.x.{GONE}.17", 10**6),
    ],
)
def test_what_may_be_somebodys_stays(node: Node, path: str, age: float) -> None:
    leave(node, path, age)
    assert doctor.examine(node) == []


def test_a_recycled_process_id_keeps_nothing_for_ever(node: Node) -> None:
    leave(node, f"pci/.x.{ALIVE}.17", 3601)
    assert [f.id for f in doctor.examine(node)] == ["temp-file"]


def test_a_writer_that_cannot_be_seen_has_an_hour(node: Node) -> None:
    node = replace_node(node, all_processes=False)
    leave(node, f"pci/.x.{GONE}.17", 3599)
    assert doctor.examine(node) == []


def test_a_folder_or_link_of_such_a_name_is_nobodys_temporary(node: Node) -> None:
    os.makedirs(f"{node.state.root}/pci/.x.{GONE}.17")
    os.symlink("/etc/passwd", f"{node.state.root}/pci/.y.{GONE}.17")
    assert doctor.examine(node) == []
