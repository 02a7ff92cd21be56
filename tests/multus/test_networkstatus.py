"""The network-status annotation, entry by entry and byte by byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from multus.networkstatus import entries, render
from multus.result import Result
from tests.multus.vectors import cases, params


@pytest.mark.parametrize("case", params("network_status"))
def test_entries_are_those_of_the_reference(case: dict[str, Any]) -> None:
    result = Result(case["result"]["cniVersion"], case["result"])
    found = entries(result, case["name"], default=case["default"], device_info=case["dev"])
    assert found == (case["expect"] or [])
    for ours, theirs in zip(found, case["expect"] or [], strict=True):
        assert list(ours) == list(theirs)


def test_the_text_is_that_of_the_reference_to_the_byte() -> None:
    texts = [
        request["raw_text"]
        for case in cases("flows_k8s")
        for step in case["steps"]
        for request in step.get("kube_requests") or []
        if isinstance(request, dict) and request.get("raw_text")
    ]
    assert len(texts) > 10
    for text in texts:
        assert render(json.loads(text)) == text


def test_text_that_go_would_escape_is_escaped() -> None:
    assert render([{"name": "<&>é\u2028"}]) == (
        '[{\n    "name": "\\u003c\\u0026\\u003eé\\u2028"\n}]'
    )


def test_a_default_route_without_gateway_names_none() -> None:
    data: dict[str, Any] = {
        "interfaces": [{"name": "net1", "sandbox": "/n"}],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    assert "gateway" not in entries(Result("1.0.0", data), "n", default=False)[0]
