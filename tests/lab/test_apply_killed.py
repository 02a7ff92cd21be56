"""Apply and its revert on real functions, each killed at every step and begun again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.desired.pfsteps import set_number
from hwmgr.node import real_node
from tests.lab import forked
from tests.lab.host_state import PFS, announce_vfs, differences, snapshot, vfs_of
from tests.lab.test_apply import (
    PF,
    apply,
    as_before,
    assert_nothing_to_do,
    desired,
    revert,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["as_before"]

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1500)]

# Making a VF takes most of a second in here, and each step makes all of them twice.
_FEW = 3
ANEW: dict[str, Any] = {
    "match": {"address": PF},
    "numVfs": 2,
    "mtu": 2000,
    "vfs": [{"range": "0", "driver": "vfio-pci", "mac": "stable", "vlan": 100}],
}
STAYING: dict[str, Any] = {
    "match": {"address": PF},
    "vfs": [
        {"range": "1", "driver": "igb_uio", "spoofchk": False},
        {"range": "2", "mac": "stable", "trust": True, "mtu": 1400},
    ],
}


@pytest.fixture(scope="module", autouse=True)
def few_vfs() -> Iterator[None]:
    """Have few VFs on either PF, and as many as before afterwards."""
    node = real_node()
    before = {pf: len(vfs_of(pf)) for pf in PFS}
    for pf in PFS:
        set_number(node, pf, _FEW)
    yield
    for pf, number in before.items():
        set_number(node, pf, number)
    announce_vfs()


@pytest.mark.parametrize("entry", [ANEW, STAYING], ids=["made anew", "staying"])
def test_killed_at_every_step(
    as_before: dict[str, Any], capsys: pytest.CaptureFixture[str], entry: dict[str, Any]
) -> None:
    wanted = desired(entry)
    applies = forked.names_of(lambda tell: apply(wanted, tell))
    reverts = forked.names_of(revert)
    wrong = []
    for number in range(1, max(len(applies), len(reverts)) + 1):
        names = [(steps[number - 1 : number] or [""])[0] for steps in (applies, reverts)]
        killed = [forked.KILLED] * len(names)
        if names[0]:
            killed[0] = forked.in_child(partial(apply, wanted, forked.killing_at(number)))
        cured = forked.in_child(partial(apply, wanted))
        left = forked.in_child(lambda: assert_nothing_to_do(wanted))
        if names[1]:
            killed[1] = forked.in_child(partial(revert, forked.killing_at(number)))
        back = forked.in_child(revert)
        ends = (*killed, cured, left, back)
        other = differences(as_before, snapshot())
        good = (ends, other) == ((forked.KILLED, forked.KILLED, 0, 0, 0), [])
        with capsys.disabled():
            state = "as desired, then as before" if good else f"{ends} {other}"
            print(f"\n  apply {names[0]:22} revert {names[1]:18} {state}", end="")
        if not good:
            wrong.append((names, ends, other))
    assert wrong == []
