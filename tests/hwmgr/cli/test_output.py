"""Tables: they fit, they keep what matters, and nothing in a file reaches the terminal raw."""

from __future__ import annotations

import json

import pytest
import yaml

from hwmgr.cli.output import Column, Output, Screen, details, render, table, text_of, to_json_line
from hwmgr.cli.text import cut_owner

COLUMNS = (
    Column("ADDRESS", "address"),
    Column("STATE", "state"),
    Column("OWNER", "owner", shrink=True),
    Column("MAC", "mac", rank=2),
    Column("VLAN", "vlan", rank=1),
    Column("NOTE", "note", wide=True, rank=3),
)
ROWS: list[dict[str, object]] = [
    {
        "address": "0000:01:10.0",
        "state": "free",
        "owner": "default/a-pod-with-a-rather-long-name-of-its-own net1",
        "mac": "02:00:00:00:00:01",
        "vlan": 100,
        "note": "n" * 30,
    },
    {"address": "0000:01:10.2", "state": "leaked", "owner": None},
]


@pytest.mark.parametrize("width", range(44, 170, 7))
@pytest.mark.parametrize("output", [Output.TABLE, Output.WIDE])
def test_tables_fit(width: int, output: Output) -> None:
    text = render(ROWS, COLUMNS, output, Screen(width))
    assert max(map(len, text.splitlines())) <= width
    assert "0000:01:10.2" in text
    assert "leaked" in text


def test_everything_is_shown_where_there_is_room() -> None:
    titles = render(ROWS, COLUMNS, Output.WIDE, Screen(160)).splitlines()[0].split()
    assert titles == [c.title for c in COLUMNS]


def test_no_limit_without_a_terminal() -> None:
    text = table(ROWS, COLUMNS, Screen())
    assert str(ROWS[0]["owner"]) in text
    assert "\x1b" not in text


def test_columns_go_in_the_order_of_their_rank() -> None:
    titles = table(ROWS, COLUMNS[:5], Screen(60)).splitlines()[0].split()
    assert titles == ["ADDRESS", "STATE", "OWNER", "VLAN"]


def test_texts_that_are_cut_share_the_room() -> None:
    columns = (
        Column("STATE", "state"),
        Column("OWNER", "owner", shrink=True),
        Column("WHY", "why", shrink=True),
    )
    row = {"state": "free", "owner": "o" * 40, "why": "w" * 90}
    assert table([row], columns, Screen(60)).splitlines()[1] == (
        "free   " + "o" * 24 + "…  " + "w" * 25 + "…"
    )


def test_ascii_where_the_terminal_has_no_more() -> None:
    plain = Screen(50, unicode=False)
    text = table(ROWS, COLUMNS[:3], plain)
    assert text.isascii()
    assert text.splitlines()[1].endswith("...")
    assert max(map(len, text.splitlines())) <= 50
    assert render([], [], Output.JSON, plain, {"a": "ü"}).isascii()


def test_colour_does_not_shift_columns() -> None:
    plain = table(ROWS, COLUMNS, Screen(120))
    coloured = table(ROWS, COLUMNS, Screen(120, colour=True))
    assert "\x1b[31m" in coloured
    for code in ("\x1b[31m", "\x1b[32m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), ("", "-"), ([], "-"), (0, "0"), (True, "on"), (False, "off"),
        (["a", None], "a,-"), ("a\x1b[31m\nb", "a?[31m?b"), ("ü", "ü"),
    ],
)  # fmt: skip
def test_values_as_text(value: object, text: str) -> None:
    assert text_of(value) == text


def test_json_and_yaml_say_the_same() -> None:
    data = [{"a": None, "b": {"c": [1, "x\ny"]}}]
    as_json = render([], [], Output.JSON, Screen(10), data)
    as_yaml = render([], [], Output.YAML, Screen(10), data)
    assert json.loads(as_json) == yaml.safe_load(as_yaml) == data


@pytest.mark.parametrize("form", [Output.JSON, Output.YAML])
def test_a_terminal_obeys_nothing_that_a_file_or_a_pod_says(form: Output) -> None:
    data = {"a": "\x1b[2J\x7f\x9b31m\u202e"}
    text = render([], [], form, Screen(10), data)
    assert not {"\x1b", "\x7f", "\x9b"} & set(text)
    assert yaml.safe_load(text) == data
    assert json.loads(to_json_line(data)) == data
    assert "\x9b" not in to_json_line(data)


WIDE_ROWS: list[dict[str, object]] = [
    {"address": "0000:01:10.0", "state": "free", "owner": "部署/数据面板-7d9c5b net1", "mac": "a"},
    {"address": "0000:01:10.2", "state": "leaked", "owner": "e\u0301te\u0301/pod net1", "mac": "b"},
    {"address": "0000:01:10.4", "state": "free", "owner": None, "mac": "c"},
]


@pytest.mark.parametrize("width", [None, 60, 53, 49])
def test_wide_characters_and_accents_keep_the_columns(width: int | None) -> None:
    """Columns as a terminal counts them, which has two for each of 部署."""
    rows = table(WIDE_ROWS, COLUMNS[:4], Screen(width)).splitlines()
    assert {columns(row.rpartition("  ")[0]) for row in rows[1:3]} <= {columns(rows[0]) - 5}
    assert width is None or max(map(columns, rows)) <= width


def columns(text: str) -> int:
    """How many columns a terminal uses, for the characters of these rows."""
    return sum(0 if c == "\u0301" else 2 if c > "\u2fff" else 1 for c in text)


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (70, "telco-user-plane/upf-worker-7d9c5b6f4d-x2x4z net1"),
        (49, "telco-user-plane/upf-worker-7d9c5b6f4d-x2x4z net1"),
        (48, "telco-user-pla…/upf-worker-7d9c5b6f4d-x2x4z net1"),
        (34, "…/upf-worker-7d9c5b6f4d-x2x4z net1"),
        (33, "upf-worker-7d9c5b6f4d-x2x4z"),
        (27, "upf-worker-7d9c5b6f4d-x2x4z"),
        (26, "upf-worker-7d…5b6f4d-x2x4z"),
        (10, "upf-w…2x4z"),
        (2, "u…"),
    ],
)
def test_an_owner_keeps_the_name_of_the_pod(width: int, text: str) -> None:
    owner = "telco-user-plane/upf-worker-7d9c5b6f4d-x2x4z net1"
    assert cut_owner(owner, width, "…") == text


def test_an_owner_without_a_pod_loses_its_end() -> None:
    assert cut_owner("feedbeeffeedb net1", 10, "...") == "feedbee..."
    assert cut_owner("ns/数据面板数据面板 net1", 9, "…") == "数据…面板"


def test_details_nest() -> None:
    text = details({"a": 1, "bcd": {"e": None}, "l": [{"x": 1}, {"x": 2}], "m": ["p", "q"]})
    assert text.splitlines() == [
        "a:   1",
        "bcd:",
        "  e: -",
        "l:",
        "  x: 1",
        "l:",
        "  x: 2",
        "m:   p,q",
    ]


def test_details_of_what_is_all_unknown_are_one_line() -> None:
    assert details({"a": {"b": None, "c": None}, "longer": {}}) == "a:      -\nlonger: -"
