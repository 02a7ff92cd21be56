"""Default routes in words: filters, results, and the whole pod's truth."""

from __future__ import annotations

from typing import Any

import pytest

from multus.gateways import GatewayError, after, filters, with_defaults, without_defaults
from tests.multus.vectors import params


@pytest.mark.parametrize("case", params("gateway_check"))
def test_filters_are_those_of_the_reference(case: dict[str, Any]) -> None:
    try:
        found = filters(case["delegates"])
    except GatewayError:
        assert not case["ok"]
        return
    assert case["ok"]
    assert [{"filterV4": f.v4, "filterV6": f.v6} for f in found] == case["expect"]


@pytest.mark.parametrize("case", params("gateway_cache_edit"))
def test_a_saved_result_is_edited_as_the_reference_does(case: dict[str, Any]) -> None:
    before = case["cache"].get("result")
    if not isinstance(before, dict):
        pytest.fail("a record without a result has no routes to edit") if case["ok"] else None
        return
    if case["gw"] is not None:
        changed = with_defaults(before, case["gw"])
    else:
        changed = without_defaults(before, v4=bool(case["v4"]), v6=bool(case["v6"]))
    wanted = case["expect"]["result"] if case["ok"] else before
    assert changed == wanted


@pytest.mark.parametrize("spelling", ["::/0", "::0/0", "0::/0", "0:0:0:0:0:0:0:0/0"])
def test_every_spelling_of_the_ipv6_default_is_one(spelling: str) -> None:
    result: dict[str, Any] = {"cniVersion": "1.0.0", "routes": [{"dst": spelling, "gw": "fe80::1"}]}
    assert without_defaults(result, v4=True, v6=False) == result
    assert without_defaults(result, v4=False, v6=True)["routes"] == []


def test_results_tell_the_truth_about_the_whole_pod() -> None:
    first: dict[str, Any] = {
        "cniVersion": "1.0.0",
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}, {"dst": "::/0", "gw": "fd00::1"}],
    }
    second: dict[str, Any] = {"cniVersion": "1.0.0", "routes": [{"dst": "10.9.0.0/16"}]}
    told = after([first, second], [None, ["10.1.0.1"]])
    assert told[0]["routes"] == [{"dst": "::/0", "gw": "fd00::1"}]
    assert told[1]["routes"] == [{"dst": "10.9.0.0/16"}, {"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]


def test_an_empty_request_changes_nothing() -> None:
    result: dict[str, Any] = {"cniVersion": "1.0.0", "routes": [{"dst": "::/0", "gw": "fd00::1"}]}
    assert after([result, result], [None, []]) == [result, result]
