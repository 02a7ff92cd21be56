"""Configuration beyond the recorded cases, the plan made of it, and small pure parts."""

from __future__ import annotations

import json

import pytest

from multus.clock import Deadlines, Limits
from multus.config import DEFAULT_BIN_DIR, DEFAULT_CNI_DIR, DEFAULT_CONF_DIR, load_conf
from multus.conflist import negotiate
from multus.jsonfields import FieldError
from multus.result import ResultError, parse_result
from multus.session import plugin_folders

BASE = {"name": "n", "delegates": [{"type": "t"}]}


def load(**members: object) -> object:
    return load_conf(json.dumps({**BASE, **members}).encode())


def test_an_empty_folder_is_the_default() -> None:
    conf = load_conf(json.dumps({**BASE, "cniDir": "", "confDir": "", "binDir": ""}).encode())
    assert (conf.cni_dir, conf.conf_dir, conf.bin_dir) == (
        DEFAULT_CNI_DIR,
        DEFAULT_CONF_DIR,
        DEFAULT_BIN_DIR,
    )


def test_an_empty_item_of_the_path_is_left_out() -> None:
    assert plugin_folders("/b", "/x::/y:/b") == ("/b", "/x", "/y")
    assert plugin_folders("/b", "") == ("/b",)


def test_the_later_of_two_spellings_wins() -> None:
    conf = load_conf(b'{"name": "n", "CNIDIR": "/a", "cnidir": "/b", "delegates": [{"type": "t"}]}')
    assert conf.cni_dir == "/b"


@pytest.mark.parametrize(
    "members",
    [
        {"cniDir": 1},
        {"logToStderr": "true"},
        {"logOptions": []},
        {"logOptions": {"maxSize": "1"}},
        {"capabilities": {"a": 1}},
        {"runtimeConfig": []},
        {"runtimeConfig": {"mac": 1}},
        {"runtimeConfig": {"portMappings": [{"hostPort": "80"}]}},
        {"runtimeConfig": {"bandwidth": {"ingressRate": 1.5}}},
        {"runtimeConfig": {"ips": "10.0.0.1"}},
        {"defaultNetworks": [1]},
        {"delegates": [{"type": 1}]},
        {"delegates": [{"type": "t", "name": 1}]},
        {"prevResult": {"cniVersion": "1.0.0"}},
    ],
    ids=str,
)
def test_wrong_types_are_refused(members: dict[str, object]) -> None:
    with pytest.raises(FieldError):
        load(**members)


def test_null_is_the_same_as_absent() -> None:
    conf = load_conf(json.dumps({**BASE, "cniDir": None, "logOptions": None}).encode())
    assert conf.cni_dir == DEFAULT_CNI_DIR


@pytest.mark.parametrize(
    ("version", "offered", "chosen"),
    [
        ("0.4.0", [], "0.4.0"),
        ("0.4.0", ["1.0.0", "2.0.0"], "1.0.0"),
        ("1.1.0", ["0.4.0"], "1.1.0"),
        ("", ["0.4.0", "1.0.0"], "1.0.0"),
        ("0.3.1", ["9.0.0"], "0.3.1"),
        ("", ["9.0.0"], ""),
    ],
)
def test_version_negotiation(version: str, offered: list[str], chosen: str) -> None:
    assert negotiate(version, offered) == chosen


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"cniVersion": 1},
        {"cniVersion": "1.0.0", "interfaces": {}},
        {"cniVersion": "1.0.0", "interfaces": [None]},
        {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1/33"}]},
        {"cniVersion": "1.0.0", "ips": [{"address": "010.0.0.1/8"}]},
        {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1/8", "gateway": "x"}]},
        {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1/8", "interface": True}]},
        {"cniVersion": "1.0.0", "routes": [{"dst": "default"}]},
        {"cniVersion": "1.0.0", "dns": {"nameservers": "1.1.1.1"}},
    ],
    ids=str,
)
def test_malformed_results_are_refused(value: object) -> None:
    with pytest.raises(ResultError):
        parse_result(value, "1.0.0")


def test_addresses_get_the_spelling_of_go() -> None:
    ips = [{"address": "FC00:0::0001/64"}, {"address": "::ffff:10.0.0.1/104"}]
    result = parse_result({"cniVersion": "1.0.0", "ips": ips}, "1.0.0")
    assert result.data["ips"] == [{"address": "fc00::1/64"}, {"address": "10.0.0.1/8"}]


def test_every_conversion_there_and_back_keeps_addresses() -> None:
    modern = parse_result(
        {
            "cniVersion": "1.1.0",
            "ips": [{"address": "10.0.0.2/24", "gateway": "10.0.0.1"}, {"address": "fc00::2/64"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fc00::1"}],
        },
        "1.1.0",
    )
    for version in ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"):
        assert modern.convert(version).convert("1.1.0") == modern


def test_undo_steps_share_the_time_that_is_left() -> None:
    deadlines = Deadlines.starting(100.0, Limits(whole=80.0, delegate=50.0))
    assert deadlines.forward == 160.0
    assert deadlines.for_attach(100.0) == 150.0
    assert deadlines.for_attach(140.0) == 160.0
    assert deadlines.for_undo(160.0, 4) == 165.0
    assert deadlines.for_undo(100.0, 1) == 150.0
    assert deadlines.for_undo(200.0, 3) == 201.0  # late as it is, each is given a moment
