"""kill -9 at every checkpoint of every kind of attachment; then detach, GC or repair."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from hwmgr.doctor import repair
from hwmgr.manager import Manager
from hwmgr.model import Stage
from hwmgr.netns import entered
from tests.fakes.attachments import CASES, CONTAINER, Case, repair_of_records
from tests.functional.harness import Bench, changes
from tests.functional.processes import SuicideAt, finish, start
from tests.functional.test_device_attach import bench_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hwmgr.node import Node
    from tests.fakes.namespaces import Namespace

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: namespaces and veth"),
]
Row = tuple[str, str, str, str]


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    """Collect what was tried and print it when the module is through."""
    rows: list[Row] = []
    yield rows
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:
        return
    reporter.write_line("")
    reporter.write_line(f"killed at a checkpoint and recovered: {len(rows)} times")
    if reporter.verbosity > 0:
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for row in rows:
            reporter.write_line("  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)))


def by_detach(node: Node, pod: Namespace) -> None:
    Manager(node).detach(CONTAINER, "net1", pod.path)


def by_gc(node: Node, _pod: Namespace) -> None:
    assert Manager(node).collect([]) == []


def by_repair(node: Node, pod: Namespace) -> None:
    for step in repair_of_records(node):
        assert repair.act(node, step) == [], step
    assert repair_of_records(node) == []
    for record in node.journal.records():
        assert record.stage is Stage.ATTACHED
        Manager(node).check(CONTAINER, "net1")
        Manager(node).detach(CONTAINER, "net1", pod.path)


RECOVERIES = (by_detach, by_gc, by_repair)


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
@pytest.mark.parametrize("recover", RECOVERIES, ids=[r.__name__[3:] for r in RECOVERIES])
def test_killed_at_every_checkpoint(
    folder: str,
    case: Case,
    recover: Callable[[Node, Namespace], None],
    table: list[Row],
) -> None:
    bench = bench_for(folder, case)
    pod = bench.pod()
    with entered(bench.host.fd):
        before = bench.snapshot()
        names: list[str] = []
        _attach_and_detach(bench, case, pod, names.append)
        assert changes(before, bench.snapshot()) == {}
        assert len(names) > 10
        for number, name in enumerate(names, 1):
            _kill(bench, case, pod, number)
            recover(bench.node(), pod)
            assert changes(before, bench.snapshot()) == {}, f"killed at {name} (no. {number})"
            assert bench.names_in(pod) == set(), name
            table.append((case.name, f"{number:2} {name}", recover.__name__[3:], "as before"))
    bench.close()


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_the_recovery_is_killed_too(folder: str, case: Case) -> None:
    """Killed while attaching, and the detach that follows is killed at each of its checkpoints."""
    bench = bench_for(folder, case)
    pod = bench.pod()
    with entered(bench.host.fd):
        before = bench.snapshot()
        names: list[str] = []
        Manager(bench.node(names.append)).attach(case.request(pod.path, bench.tool))
        middle = max(1, len(names) - 2)
        second: list[str] = []
        Manager(bench.node(second.append)).detach(CONTAINER, "net1", pod.path)
        for number in range(1, len(second) + 1):
            _kill(bench, case, pod, middle)

            def again(number: int = number) -> str:
                Manager(bench.node(SuicideAt(number))).detach(CONTAINER, "net1", pod.path)
                return ""

            code, answer = finish(*start(again))
            assert code in (0, -signal.SIGKILL), answer
            by_detach(bench.node(), pod)
            assert changes(before, bench.snapshot()) == {}, second[number - 1]
    bench.close()


def _attach_and_detach(
    bench: Bench, case: Case, pod: Namespace, checkpoint: Callable[[str], None]
) -> None:
    manager = Manager(bench.node(checkpoint))
    manager.attach(case.request(pod.path, bench.tool))
    manager.detach(CONTAINER, "net1", pod.path)


def _kill(bench: Bench, case: Case, pod: Namespace, number: int) -> None:
    def work() -> str:
        _attach_and_detach(bench, case, pod, SuicideAt(number))
        return "it was not killed"

    code, answer = finish(*start(work))
    assert code == -signal.SIGKILL, answer
