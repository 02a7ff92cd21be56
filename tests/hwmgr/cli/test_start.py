"""Listings are read without typer: whatever is taken that way means what typer makes of it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwmgr.cli import app as cli
from hwmgr.cli import start as cli_start
from hwmgr.cli.session import Session
from hwmgr.driver import bind, unbind
from hwmgr.store import StateDir
from tests.fakes.machine import build, replace_node
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hwmgr.node import Node

WORDS = st.sampled_from(
    [
        *("pf", "vf", "list", "show", "--pf", "--state", "--driver", "--output", "-o", "-v", "-h"),
        *("--sysfs", "--state-dir", "json", "yaml", "wide", "table", "free", "dirty", "none"),
        *("--output=json", "-ojson", "--pf=eth1", "--state=broken", "eth1", "eth9", "01:00.0"),
        *("igbvf", "/some/where", "", "-", "--", "--driver=", "--pf=-x", "--version"),
    ]
)


class Runs:
    """Runs one command line both ways, and tells where the node was looked for."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def __call__(self, main: Callable[..., int], words: list[str]) -> tuple[object, ...]:
        out, err = io.StringIO(), io.StringIO()
        roots: list[tuple[str | None, str | None]] = []

        def make_node(sysfs: str | None, state: str | None, _log: object) -> Node:
            roots.append((sysfs, state))
            return self._node

        session = Session(make_node, {}, out, err)
        return main(words, session), out.getvalue(), err.getvalue(), roots


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    base = tmp_path_factory.mktemp("node")
    machine = build(str(base), Nic(vfs=3), Nic(address="0000:02:00.0", ifname="eth2", vfs=1))
    unbind(machine.sim, machine.nics[0].vf(0))
    bind(machine.sim, machine.nics[0].vf(1), "vfio-pci")
    yield Runs(replace_node(machine.node, state=StateDir(f"{base}/none")))
    machine.close()


@pytest.mark.parametrize(
    "line",
    [
        *("vf list", "pf list", "vf list -o json", "pf list --output yaml", "-o json vf list"),
        *("--output=wide pf list", "-o json vf list -o table", "vf list --pf eth1 --state free"),
        *("vf list --pf 01:00.0", "vf list --pf=0000:02:00.0 -o json", "vf list --driver none"),
        *("vf list --state=broken --driver igbvf", "vf list --pf eth9", "vf list --pf ../x"),
        *("--sysfs /a/b --state-dir=/c vf list", "vf list --pf eth2 --pf eth1"),
    ],
)
def test_what_is_taken_is_answered_as_typer_would(runs: Runs, line: str) -> None:
    assert cli_start.listing(line.split()) is not None
    assert runs(cli_start.main, line.split()) == runs(cli.main, line.split())


@settings(max_examples=150, deadline=None)
@given(words=st.lists(WORDS, max_size=7))
def test_no_words_are_taken_that_typer_understands_otherwise(runs: Runs, words: list[str]) -> None:
    if cli_start.listing(words) is not None:
        assert runs(cli_start.main, words) == runs(cli.main, words)


@settings(max_examples=60, deadline=None)
@given(before=st.lists(WORDS, max_size=2), after=st.lists(WORDS, max_size=4))
def test_nor_around_a_listing(runs: Runs, before: list[str], after: list[str]) -> None:
    words = [*before, "vf", "list", *after]
    if cli_start.listing(words) is not None:
        assert runs(cli_start.main, words) == runs(cli.main, words)


@pytest.mark.parametrize(
    "line",
    [
        *("", "vf", "vf show 01:10.0", "vf list --help", "vf list -h", "-v vf list", "--version"),
        *(
            "vf list -o xml",
            "vf list --state lost",
            "vf list more",
            "vf list --pf",
            "pf list --pf a",
        ),
        *("vf list -ojson", "vf list --", "vf list --pf=", "vf list --pf -x", "repair", "list"),
    ],
)
def test_everything_else_is_left_to_typer(runs: Runs, line: str) -> None:
    words = line.split()
    assert cli_start.listing(words) is None
    assert runs(cli_start.main, words) == runs(cli.main, words)


def test_the_environment_names_the_roots_too(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWMGR_SYSFS", "/from/env")
    monkeypatch.setenv("HWMGR_STATE_DIR", "")
    for line in ("vf list", "--state-dir /given pf list"):
        assert runs(cli_start.main, line.split()) == runs(cli.main, line.split())


def test_completion_is_typers(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_HWMGR_COMPLETE", "complete_zsh")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "hwmgr vf ")
    assert runs(cli_start.main, ["vf", "list"]) == (0, "", "", [])
    assert '"unbind"' in capsys.readouterr().out
