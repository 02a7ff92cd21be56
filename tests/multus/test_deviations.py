"""docs/deviations.md, the list of deviating cases and the tests they name belong together."""

from __future__ import annotations

import re
from pathlib import Path

from tests.multus.vectors import FOLDER

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/deviations.md").read_text()


def rows(heading: str) -> list[list[str]]:
    section = TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_listed_case_has_a_row_and_every_row_a_case() -> None:
    import json

    listed = json.loads((FOLDER.parent / "multus_deviations.json").read_text())
    names = {name for cases in listed.values() for name in cases.values()}
    assert names == {row[0] for row in rows("Recorded cases")}


def test_every_row_names_a_test_that_exists() -> None:
    named = [row[-1] for row in rows("Recorded cases") + rows("Beyond the recorded cases")]
    assert len(named) > 20
    sriov = [row[-1] for row in rows("`type: sriov`")]
    assert len(sriov) == 5
    for name in named + sriov:
        module, test = name.split(".")
        source = (ROOT / f"tests/multus/{module}.py").read_text()
        assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), name
