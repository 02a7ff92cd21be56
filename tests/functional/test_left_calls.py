"""DELs that a shim left in the spool, on real namespaces: nobody loses, nobody is harmed."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.left import leave
from tests.functional.node import HERE, ROOT, Done, Node, make_node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.functional


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    yield from make_node(tmp_path)


def conf(node: Node) -> dict[str, Any]:
    leases = {"name": "lst", "cniVersion": "1.0.0", "type": "leasea"}
    delegates = [node.bridge(), leases]
    places = {"name": "mnet", "cniDir": str(node.cni_dir), "binDir": str(node.bin)}
    return {"cniVersion": "1.1.0", **places, "delegates": delegates}


def left(node: Node, container_id: str = "c1", program: str = "multus") -> Path:
    env = node.env("DEL", container_id, "eth0")
    return leave(node.state_dir, env, conf(node), program=program)


def repair(node: Node, *options: str) -> Done:
    programs = node.root / "programs"
    programs.mkdir(exist_ok=True)
    for name, module in (("multus", "multus"), ("sriov", "multus.sriov_main")):
        script = programs / name
        script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m {module} "$@"\n')
        script.chmod(0o755)
    return node.run(str(HERE / "repair_main.py"), str(programs), *options)


def test_add_for_the_same_container(node: Node) -> None:
    assert node.cni("ADD", conf(node)).rc == 0
    left(node)
    assert node.cni("ADD", conf(node)).rc == 0
    assert set(node.links(node.pod)) == {"lo", "eth0"}
    assert node.cni("CHECK", conf(node)).rc == 0
    assert not list((node.state_dir / "spool").iterdir())
    assert node.cni("DEL", conf(node)).rc == 0
    node.assert_clean()


def test_add_of_another_container_that_wants_what_is_still_held(node: Node) -> None:
    node.tell("leasea", "one")
    assert node.cni("ADD", conf(node)).rc == 0
    assert node.cni("ADD", conf(node), container_id="c2", ifname="eth1").json["code"] == 11
    left(node)
    assert node.cni("ADD", conf(node), container_id="c2", ifname="eth1").rc == 0
    assert set(node.links(node.pod)) == {"lo", "eth1"}
    assert node.cni("DEL", conf(node), container_id="c2", ifname="eth1").rc == 0
    node.assert_clean()


def test_gc(node: Node) -> None:
    assert node.cni("ADD", conf(node)).rc == 0
    left(node)
    assert node.cni("GC", conf(node)).rc == 0
    node.assert_clean()


def test_any_call_drains_in_passing_what_rested_for_a_while(node: Node) -> None:
    assert node.cni("ADD", conf(node)).rc == 0
    os.utime(left(node), (1000, 1000))
    assert node.cni("DEL", conf(node), container_id="c9").rc == 0
    node.assert_clean()


def test_repair_lists_them_and_runs_them(node: Node) -> None:
    assert node.cni("ADD", conf(node)).rc == 0
    first, second = left(node), left(node, "c7", "sriov")
    shown = repair(node, "-o", "json")
    assert (shown.rc, [step["subject"] for step in shown.json]) == (1, [str(first), str(second)])
    assert {step["repair"] for step in shown.json} == {"run the call"}
    assert first.exists()
    done = repair(node, "--yes")
    assert done.rc == 0, done
    node.assert_clean()
    assert repair(node, "-o", "json").json == []


def test_repair_says_why_a_call_is_still_left(node: Node) -> None:
    assert node.cni("ADD", conf(node)).rc == 0
    left(node)
    node.tell("leasea", "nodel")
    done = repair(node, "--yes")
    assert done.rc == 1
    assert "told to keep" in done.stderr
    assert len(list((node.state_dir / "spool").iterdir())) == 1
    node.tell("leasea", "nodel", on=False)
    assert repair(node, "--yes").rc == 0
    node.assert_clean()


@pytest.mark.parametrize("how", ["ADD", "DEL", "GC", "repair"])
@pytest.mark.parametrize("at", ["del.deleting", "del.delegate.1.deleted", "left.done"])
def test_killed_in_between(node: Node, at: str, how: str) -> None:
    assert node.cni("ADD", conf(node)).rc == 0
    left(node)
    assert node.crash("GC", conf(node), at).rc in (-signal.SIGKILL, 128 + signal.SIGKILL)
    if how == "repair":
        assert repair(node, "--yes").rc == 0
    else:
        assert node.cni(how, conf(node)).rc == 0
    if how == "ADD":
        assert node.cni("DEL", conf(node)).rc == 0
    node.assert_clean()


def test_killed_after_it_was_done_it_does_not_hit_the_next_attachment(node: Node) -> None:
    assert node.cni("ADD", conf(node)).rc == 0
    left(node)
    node.crash("GC", conf(node), "left.done")
    assert node.cni("ADD", conf(node)).rc == 0
    assert node.cni("GC", conf(node)).rc == 0
    assert node.cni("CHECK", conf(node)).rc == 0
    assert node.cni("DEL", conf(node)).rc == 0
    node.assert_clean()


def test_a_torn_file_is_set_aside_and_harms_nobody(node: Node) -> None:
    path = left(node)
    path.write_bytes(path.read_bytes()[:-9])
    assert node.cni("ADD", conf(node)).rc == 0
    assert [p.name for p in (node.state_dir / "spool-torn").iterdir()] == [path.name]
    assert node.cni("DEL", conf(node)).rc == 0
    (node.state_dir / "spool-torn" / path.name).unlink()
    node.assert_clean()


def test_drainers_and_an_add_at_once(node: Node) -> None:
    assert node.cni("ADD", conf(node)).rc == 0
    left(node)

    def call(verb: str) -> Done:
        return node.cni(verb, conf(node))

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(call, ["GC", "GC", "ADD", "GC"]))
    assert [answer.rc for answer in answers] == [0, 0, 0, 0], answers
    assert node.log().count("DEL leasea net1") == 1
    assert node.cni("CHECK", conf(node)).rc == 0
    assert set(node.links(node.pod)) == {"lo", "eth0"}
    assert node.cni("DEL", conf(node)).rc == 0
    node.assert_clean()
