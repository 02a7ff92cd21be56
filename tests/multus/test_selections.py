"""What a pod's annotations and the objects of each era say, against the recorded cases."""

from __future__ import annotations

from typing import Any

import pytest

from multus import seednetworks
from multus.annotation import parse_selections
from multus.jsonfields import FieldError
from tests.multus.vectors import params

GENERATION_1 = "legacy_v1_v2"


@pytest.mark.parametrize("case", params("annotation_parse"))
def test_an_annotation_is_read_as_the_reference_reads_it(case: dict[str, Any]) -> None:
    try:
        elements = parse_selections(case["annotation"], case["namespace"])
    except FieldError:
        assert not case["ok"]
        return
    assert case["ok"]
    wanted = case["elements"]
    assert elements == wanted


@pytest.mark.parametrize("case", params(GENERATION_1, "v1_plugin_args"))
def test_the_args_of_a_network_object_are_json(case: dict[str, Any]) -> None:
    try:
        confs = seednetworks.delegates_of({"plugin": case["plugin"], "args": case["args"]})
    except FieldError:
        assert not case["ok"]
        return
    assert case["ok"]
    assert confs == [case["delegate"]]


@pytest.mark.parametrize("case", params(GENERATION_1, "v1_annotation"))
def test_the_first_annotation_lists_names(case: dict[str, Any]) -> None:
    try:
        names = seednetworks.parse_names(case["annotation"])
    except FieldError:
        assert not case["ok"]
        return
    assert case["ok"]
    assert names == case["names"]


@pytest.mark.parametrize("case", params(GENERATION_1, "v2_0_spec_to_delegate"))
def test_the_spec_of_the_second_generation(case: dict[str, Any]) -> None:
    try:
        conf = seednetworks.conf_of_second({"spec": case["spec"]}, "n")
    except FieldError:
        assert not case["ok"]
        return
    assert case["ok"]
    assert conf == case["delegate"]


def test_a_list_of_objects_in_args_becomes_several_attachments() -> None:
    args = '[\n {"if0": "enp4s0f1"},\n {"if0": "enp4s0f1", "dpdk": {}}\n]\n'
    confs = seednetworks.delegates_of({"plugin": "sriov", "args": args})
    assert [conf["type"] for conf in confs] == ["sriov", "sriov"]
    assert "dpdk" not in confs[0]
    assert "dpdk" in confs[1]


@pytest.mark.parametrize("args", ["", "[]", "7", "[1]", '[{"type": "other"}]', "[{}] x", "null"])
def test_args_that_cannot_be_understood_are_an_error(args: str) -> None:
    with pytest.raises(FieldError):
        seednetworks.delegates_of({"plugin": "p", "args": args})
