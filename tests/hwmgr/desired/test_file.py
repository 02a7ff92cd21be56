"""The file of desired state: every fault in one error with its path, nothing read by chance."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hwmgr import rootfile
from hwmgr.desired.file import load, parse
from hwmgr.desired.state import MacPolicy, Selector, parse_indices, stable_mac
from hwmgr.errors import ConfigError
from hwmgr.model import LinkState, VFSettings, VlanProto

ROOT = Path(__file__).parents[3]
COMPLETE = """
pfs:
  - match: {address: 0000:01:00.0, vendor: 8086, device: 0x10C9}
    optional: true
    externallyManaged: no
    numVfs: 8
    mtu: 9000
    up: yes
    eswitchMode: legacy
    autoprobe: false
    vfs:
      - range: 0-3,5
        driver: vfio-pci
        mac: stable
      - range: "4"
        driver: default
        mtu: 1500
        mac: [10:20:30:40:50:51]
        trust: true
        spoofchk: off
        vlan: 100
        qos: 3
        vlanProto: 802.1ad
        linkState: enable
        minTxRate: 10
        maxTxRate: 100
  - match: {name: enp2s0, altname: blue}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        parse("f", rootfile.texts("f", text.encode()))
    return raised.value.problems


def test_every_key(tmp_path: Path) -> None:
    path = tmp_path / "desired.yaml"
    path.write_text(COMPLETE)
    first, second = load(str(path), roots_alone=True).pfs
    assert first.selector == Selector(address="0000:01:00.0", vendor="8086", device="10c9")  # type: ignore[arg-type]
    assert (first.optional, first.externally_managed, first.num_vfs) == (True, False, 8)
    assert (first.mtu, first.up, first.eswitch_mode, first.autoprobe) == (
        9000,
        True,
        "legacy",
        False,
    )
    five, one = first.groups
    assert (five.indices, five.driver, five.mac) == ((0, 1, 2, 3, 5), "vfio-pci", MacPolicy.STABLE)
    assert (one.indices, one.mtu, one.mac) == ((4,), 1500, ("10:20:30:40:50:51",))
    assert one.settings == VFSettings(
        vlan=100,
        qos=3,
        proto=VlanProto.DOT1AD,
        min_rate=10,
        max_rate=100,
        spoofchk=False,
        trust=True,
        link_state=LinkState.ENABLE,
    )
    assert str(second.selector) == "name enp2s0, altname blue"
    assert second.num_vfs is None


def test_addresses_and_macs_that_yaml_would_take_for_numbers() -> None:
    """0000:01:00.0 is 60.0 to YAML 1.1, and 10:20:30:40:50:51 a number of seconds."""
    assert yaml.safe_load("0000:01:00.0") == 60.0
    assert isinstance(yaml.safe_load("10:20:30:40:50:51"), int)
    assert parse("f", rootfile.texts("f", COMPLETE.encode())).pfs[0].groups[1].mac == (
        "10:20:30:40:50:51",
    )


def test_every_fault_in_one_error() -> None:
    found = problems(
        """
pfs:
  - match: {name: a/b, address: 1:2, vendor: intel, color: red}
    numVfs: -1
    up: maybe
    mtu: 12
    eswitchMode: fast
    speed: 3
    vfs:
      - {range: 3-1, driver: ../x, mac: [ff:00:00:00:00:00], vlan: 4095, linkState: down}
      - {range: "1", qos: 8, vlanProto: 802.1q, trust: 1, minTxRate: 5, maxTxRate: 2}
      - {range: "1,x", driver: vfio-pci, mtu: 1500}
  - optional: true
junk: 1
"""
    )
    expected = [
        "junk: unknown key; known are pfs",
        "pfs[0].speed: unknown key",
        "pfs[0].match.color: unknown key",
        "pfs[0].match.address: must be a PCI address",
        "pfs[0].match.vendor: must be four hexadecimal digits",
        "pfs[0].match.name: must be the name of an interface",
        "pfs[0].numVfs: must be a number from 0 to 65535",
        "pfs[0].mtu: must be a number from 68",
        "pfs[0].up: must be true or false",
        "pfs[0].eswitchMode: must be one of legacy, switchdev",
        "pfs[0].vfs[0].range: must be VF indices like 0-3,5",
        "pfs[0].vfs[0].driver: must be a driver's name, default or none",
        "pfs[0].vfs[0].mac[0]: must be a unicast MAC",
        "pfs[0].vfs[0].vlan: must be a number from 0 to 4094",
        "pfs[0].vfs[0].linkState: must be one of auto, enable, disable",
        "pfs[0].vfs[1].qos: must be a number from 0 to 7",
        "pfs[0].vfs[1].vlanProto: needs vlan",
        "pfs[0].vfs[1].trust: must be true or false",
        "pfs[0].vfs[1].minTxRate: is above maxTxRate",
        "pfs[0].vfs[2].range: must be VF indices",
        "pfs[0].vfs[2].mtu: a VF on vfio-pci has no netdev",
        "pfs[1].match: must say which PF is meant",
    ]
    for text in expected:
        assert any(problem.startswith(text) for problem in found), (text, found)


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("numVfs: 4, vfs: [{range: 2-5}]", "pfs[0].vfs[0].range: VF 4 is beyond numVfs 4"),
        ("vfs: [{range: 0-2}, {range: '2'}]", "pfs[0].vfs: VF 2 is in more than one range"),
        ("mtu: 1500, vfs: [{range: '0', mtu: 9000}]", "pfs[0].vfs[0].mtu: is larger than that of"),
        ("vfs: [{range: 0-1, mac: ['02:00:00:00:00:01']}]", "pfs[0].vfs[0].mac: must have a MAC"),
        (
            "vfs: [{range: 0-1, mac: ['02:00:00:00:00:01', '02:00:00:00:00:01']}]",
            "pfs[0].vfs: MAC 02:00:00:00:00:01 is given twice",
        ),
        ("vfs: [{range: '0', mac: random}]", "pfs[0].vfs[0].mac: must be keep, stable or a list"),
        ("vfs: [{range: '0', vlan: 0, qos: 1}]", "pfs[0].vfs[0].qos: vlan 0 is no VLAN"),
        ("eswitchMode: switchdev", "pfs[0].numVfs: must be given with eswitchMode"),
        ("vfs: []", "pfs[0].vfs: must be a list of one entry or more"),
        ("vfs: [7]", "pfs[0].vfs[0]: must have keys with values"),
    ],
)
def test_what_contradicts_itself(entry: str, fault: str) -> None:
    found = problems(f"pfs: [{{match: {{name: eth1}}, {entry}}}]")
    assert any(text.startswith(fault) for text in found), found


def test_a_key_that_stands_twice() -> None:
    assert problems("pfs:\n- match: {name: a}\n  mtu: 1500\n  mtu: 9000\n") == [
        "line 4: 'mtu' stands here twice"
    ]


@pytest.mark.parametrize("text", ["pfs:\n- ? [a, b]\n  : 1\n", "? {a: 1}\n: 2\n"])
def test_a_key_that_is_no_word(text: str) -> None:
    assert [p.partition(": ")[2] for p in problems(text)] == ["a key must be a word"]


@pytest.mark.parametrize("key", ["vendor", "device", "name", "altname", "address"])
def test_a_text_that_grows_without_end_is_not_unfolded(key: str) -> None:
    """Each level has ten times what the one above has: a thousand million words at the last."""
    lines = [
        "l0: &l0 [x]",
        *(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 30)),
    ]
    found = problems("\n".join([*lines, f"pfs: [{{match: {{{key}: *l29}}}}]"]))
    assert any(p.startswith(f"pfs[0].match.{key}: must be") for p in found)


@pytest.mark.parametrize("text", ["", "pfs:", "pfs: []", "- 1", "a: [", "pfs: {a: 1}", "x"])
def test_what_is_no_desired_state(text: str) -> None:
    assert problems(text)


def test_whose_file_it_is(tmp_path: Path) -> None:
    path = tmp_path / "desired.yaml"
    path.write_text("pfs: [{match: {name: eth1}}]")
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="not root's alone; run: chown root"):
        load(str(path), roots_alone=True)
    assert load(str(path), roots_alone=False).pfs
    with pytest.raises(ConfigError, match="no such file"):
        load(str(tmp_path / "absent"), roots_alone=False)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="not a file"):
        load(str(tmp_path / "fifo"), roots_alone=False)


@given(st.recursive(
    st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["pfs", "match", "vfs", "range", "name", "mac"]), inner),
    max_leaves=12,
))  # fmt: skip
def test_no_content_breaks_the_parser(value: Any) -> None:
    wrapped = value if isinstance(value, dict) else {"pfs": value}
    with suppress(ConfigError):
        parse("f", wrapped)


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("0", (0,)),
        ("0-3,5", (0, 1, 2, 3, 5)),
        ("5,0-1, 1", (0, 1, 5)),
        ("3-1", None),
        ("", None),
        ("-1", None),
        ("1-", None),
        ("a-b", None),
        ("²", None),
        ("99999999", None),
    ],
)
def test_ranges(text: str, indices: tuple[int, ...] | None) -> None:
    assert parse_indices(text) == indices


def test_stable_macs_are_stable_local_unicast_and_distinct() -> None:
    macs = [stable_mac("a0:36:9f:00:00:01", index) for index in range(256)]
    assert macs == [stable_mac("A0:36:9F:00:00:01", index) for index in range(256)]
    assert len({*macs, *(stable_mac("a0:36:9f:00:00:02", i) for i in range(256))}) == 512
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs)


def test_the_examples_of_the_manual_are_valid() -> None:
    text = (ROOT / "docs/desired-state.md").read_text()
    blocks = [b.split("```")[0] for b in text.split("```yaml\n")[1:]]
    assert blocks
    for block in blocks:
        assert parse("docs", rootfile.texts("docs", block.encode())).pfs
