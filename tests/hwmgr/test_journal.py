"""The journal: what is written is what is read, and damage is named, not guessed at."""

from __future__ import annotations

import contextlib
import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwmgr.errors import RecordTorn
from hwmgr.journal import Journal, decode, encode
from hwmgr.model import (
    Before,
    Kind,
    LinkState,
    Netdev,
    NetnsIdentity,
    Owner,
    PciAddress,
    Record,
    Stage,
    VFSettings,
    VlanProto,
)
from hwmgr.store import StateDir

if TYPE_CHECKING:
    from pathlib import Path

maybe = st.none
names = st.text(min_size=1, max_size=15)
numbers = st.integers(0, 2**32)
vf_settings = st.builds(
    VFSettings,
    mac=maybe() | names,
    vlan=maybe() | st.integers(0, 4094),
    qos=maybe() | st.integers(0, 7),
    proto=maybe() | st.sampled_from(VlanProto),
    min_rate=maybe() | numbers,
    max_rate=maybe() | numbers,
    spoofchk=maybe() | st.booleans(),
    trust=maybe() | st.booleans(),
    link_state=maybe() | st.sampled_from(LinkState),
)
texts = st.lists(names, max_size=3).map(tuple)
plain = names.filter(lambda text: text not in (".", "..") and not {"/", "\0"} & set(text))
netdevs = st.builds(
    Netdev,
    index=numbers,
    name=plain,
    mac=names,
    mtu=numbers,
    up=st.booleans(),
    altnames=texts,
    alias=maybe() | names,
    master=maybe() | numbers,
    parent=maybe() | names,
    addresses=texts,
)
owners = st.builds(
    Owner,
    container_id=st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,63}", fullmatch=True),
    ifname=names,
    netns=st.builds(NetnsIdentity, path=names, dev=numbers, inode=numbers),
    since=st.floats(0, 2e9),
    network=maybe() | names,
    pod_namespace=maybe() | names,
    pod_name=maybe() | names,
    pod_uid=maybe() | names,
)
addresses = st.integers(0, 255).map(lambda n: PciAddress(f"0000:{n:02x}:00.0"))
records = st.builds(
    Record,
    address=addresses,
    kind=st.sampled_from(Kind),
    stage=st.sampled_from(Stage),
    boot_id=names,
    owner=owners,
    pf_address=addresses,
    pf_ifname=maybe() | names,
    index=maybe() | st.integers(0, 255),
    before=st.builds(
        Before,
        driver=maybe() | plain,
        driver_override=maybe() | plain,
        settings=maybe() | vf_settings,
        netdevs=st.lists(netdevs, max_size=2).map(tuple),
    ),
    settings=vf_settings,
    driver=maybe() | plain,
    note=st.dictionaries(names, st.none() | st.booleans() | names, max_size=3),
).flatmap(
    lambda record: st.lists(plain, max_size=2).map(
        lambda ends: replace(
            record, saved_files=tuple(f"/s/{record.owner.container_id}-{end}" for end in ends)
        )
    )
)
fixed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@fixed
@given(records)
def test_round_trip(tmp_path: Path, record: Record) -> None:
    journal = Journal(StateDir(str(tmp_path)))
    journal.write(record)
    assert journal.read(record.address) == record
    assert record.address in journal.addresses()
    assert record in journal.owned_by(record.owner.container_id)
    assert record in journal.owned_by(record.owner.container_id, record.owner.ifname)
    journal.remove(record.address)
    assert journal.read(record.address) is None


@fixed
@given(record=records, data=st.data())
def test_a_damaged_record_is_torn_and_nothing_worse(record: Record, data: st.DataObject) -> None:
    value = json.loads(json.dumps(encode(record)))
    key = data.draw(st.sampled_from(sorted(value)))
    if data.draw(st.booleans()):
        del value[key]
    else:
        value[key] = data.draw(st.none() | st.integers() | st.text() | st.lists(st.integers()))
    with contextlib.suppress(RecordTorn):
        decode(value, "p")


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, {"schema": 2}, {"schema": 1}])
def test_what_is_no_record(value: object) -> None:
    with pytest.raises(RecordTorn):
        decode(value, "p")


def _record(address: str, container_id: str) -> Record:
    owner = Owner(container_id, "net1", NetnsIdentity("/n", 1, 2), 0.0)
    made = PciAddress(address)
    return Record(made, Kind.VF, Stage.ATTACHED, "b", owner, made, "eth1", 0, Before())


def test_torn_records_hide_no_others(tmp_path: Path) -> None:
    state = StateDir(str(tmp_path))
    journal = Journal(state)
    good = _record("0000:01:10.0", "c1")
    journal.write(good)
    state.write_bytes(b'{"schema": 1, "owner": "c1"', "journal", "0000:01:10.2.json")
    state.write_bytes(b"", "journal", "notes.txt")
    assert journal.addresses() == ["0000:01:10.0", "0000:01:10.2"]
    assert journal.records() == [good]
    assert journal.owned_by("c1") == [good]
    journal.set_aside("0000:01:10.2")
    assert journal.addresses() == ["0000:01:10.0"]
    assert state.list("journal-torn") == ["0000:01:10.2.json"]


def test_a_container_id_inside_another_is_not_mistaken(tmp_path: Path) -> None:
    journal = Journal(StateDir(str(tmp_path)))
    journal.write(_record("0000:01:10.0", "abc"))
    journal.write(_record("0000:01:10.2", "abcdef"))
    assert [r.address for r in journal.owned_by("abc")] == ["0000:01:10.0"]
    assert journal.owned_by("b") == []
    assert journal.owned_by("abc", "net2") == []


def test_every_field_of_a_record_is_drawn_above() -> None:
    """A field that is added to the model must be added to the strategies, or goes untested."""
    assert {f.name for f in fields(Record)} == {
        "address", "kind", "stage", "boot_id", "owner", "pf_address", "pf_ifname", "index",
        "before", "settings", "driver", "saved_files", "note",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("owner.container_id", 5),
        ("owner.container_id", None),
        ("owner.netns.path", 5),
        ("owner.netns.inode", "x"),
        ("boot_id", None),
        ("index", "x"),
        ("address", "../x"),
        ("pf_address", "../../etc"),
        ("before.driver", "../x"),
        ("driver", "a/b"),
        ("before.netdevs.0.name", 7),
        ("before.netdevs.0.name", "../x"),
        ("before.netdevs.0.altnames", [1]),
        ("settings.vlan", "x"),
        ("saved_files", [1]),
        ("saved_files", "abc"),
        ("saved_files", ["/etc/passwd"]),
        ("saved_files", ["/s/../c1-net1"]),
        ("note", "x"),
    ],
)
def test_what_would_become_a_path_or_break_its_reader_is_damage(where: str, value: object) -> None:
    netdev = Netdev(3, "eth1v0", "02:00:00:00:00:01", 1500, up=False)
    good = replace(_record("0000:01:10.0", "c1"), before=Before("igbvf", netdevs=(netdev,)))
    data = json.loads(json.dumps(encode(replace(good, saved_files=("/s/c1-net1",)))))
    decode(data, "p")
    *way, last = where.split(".")
    at = data
    for key in way:
        at = at[int(key) if key.isdigit() else key]
    at[last] = value
    with pytest.raises(RecordTorn):
        decode(data, "p")
