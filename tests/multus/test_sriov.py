"""The sriov delegate: results in every version, failures and what they leave, verbs beyond ADD."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.driver import unbind
from hwmgr.model import Kind, VFSettings
from hwmgr.run import Completed
from multus.cnitypes import CNIError
from multus.result import parse_result
from tests.fakes.tree import Nic
from tests.multus.test_sriov_vectors import Bench, bench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.runner import Call

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NIC = Nic()
IPAM = {"type": "ipam"}


class Ipam:
    """An IPAM plugin: what it was asked, and how it fails."""

    def __init__(self) -> None:
        self.verbs: list[str] = []
        self.failing: dict[str, int] = {}

    def __call__(self, call: Call) -> Completed:
        verb = call.env["CNI_COMMAND"]
        self.verbs.append(verb)
        if verb in self.failing:
            answer: dict[str, Any] = {"code": self.failing[verb], "msg": f"{verb} refused"}
            return Completed(1, json.dumps(answer).encode(), b"")
        conf = json.loads(call.stdin)
        version = conf.get("cniVersion") or "0.1.0"
        if version < "0.3":
            answer = {"cniVersion": version, "ip4": {"ip": "10.9.0.2/24", "gateway": "10.9.0.1"}}
        else:
            ip = {"address": "10.9.0.2/24", "gateway": "10.9.0.1"}
            family = {"version": "4"} if version < "1" else {}
            answer = {
                "cniVersion": version,
                "ips": [{**ip, **family}],
                "routes": [{"dst": "0.0.0.0/0"}],
            }
        return Completed(0, json.dumps(answer).encode() if verb == "ADD" else b"", b"")


@pytest.fixture
def ipam() -> Ipam:
    return Ipam()


@pytest.fixture
def one(tmp_path: Path, ipam: Ipam) -> Iterator[Bench]:
    made = bench(str(tmp_path), NIC)
    made.machine.runner.programs[f"{tmp_path}/plugins/ipam"] = ipam
    with closing(made.machine):
        yield made


def conf(**keys: object) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "n", "type": "sriov", "deviceID": NIC.vf(2), **keys}


KINDS: dict[str, dict[str, object]] = {
    "kernel": {},
    "dpdk": {"dpdk": {"dpdk_driver": "vfio-pci"}},
    "pf": {"deviceID": None, "if0": "eth1", "pfOnly": True},
    "l2": {"l2enable": True, "deviceID": None, "if0": "eth1"},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("addresses", [False, True])
def test_the_result_is_of_the_version_asked_for(
    one: Bench, kind: str, version: str, addresses: bool
) -> None:
    given = conf(cniVersion=version, **KINDS[kind], **({"ipam": IPAM} if addresses else {}))
    before = one.machine.snapshot()
    result: Any = one.plugin.add(one.call("ADD", given))
    told = addresses and kind != "l2"
    if version < "0.3" and not told:
        assert result == {}
    else:
        parsed = parse_result(result, version).data
        assert ("ips" in parsed or "ip4" in parsed) == told
        if version >= "0.3":
            assert [i["name"] for i in result["interfaces"]] == ["net1"]
            assert result["interfaces"][0]["sandbox"] == one.pod.path
        if version >= "1":
            (record,) = one.machine.node.journal.owned_by("c1")
            assert result["interfaces"][0]["pciID"] == record.address
    one.plugin.check(one.call("CHECK", given))
    one.plugin.delete(one.call("DEL", given))
    assert one.machine.snapshot() == before


@pytest.mark.parametrize("kind", ["kernel", "dpdk", "pf"])
def test_ipam_failing_undoes_the_attachment_and_keeps_its_code(
    one: Bench, ipam: Ipam, kind: str
) -> None:
    before = one.machine.snapshot()
    ipam.failing = {"ADD": 11}
    with pytest.raises(CNIError) as failed:
        one.plugin.add(one.call("ADD", conf(ipam=IPAM, **KINDS[kind])))
    assert failed.value.code == 11
    assert ipam.verbs == ["ADD", "DEL"]
    assert one.machine.snapshot() == before
    assert one.machine.node.journal.addresses() == []


def test_ipam_failing_to_delete_does_not_keep_the_vf(one: Bench, ipam: Ipam) -> None:
    before = one.machine.snapshot()
    one.plugin.add(one.call("ADD", conf(ipam=IPAM)))
    ipam.failing = {"DEL": 11}
    with pytest.raises(CNIError) as failed:
        one.plugin.delete(one.call("DEL", conf(ipam=IPAM)))
    assert failed.value.code == 11
    assert one.machine.snapshot() == before


def test_a_vf_that_cannot_be_returned_does_not_keep_the_addresses(one: Bench, ipam: Ipam) -> None:
    one.plugin.add(one.call("ADD", conf(ipam=IPAM)))
    one.machine.netlink.fail("move", 16)
    with pytest.raises(CNIError):
        one.plugin.delete(one.call("DEL", conf(ipam=IPAM)))
    assert ipam.verbs == ["ADD", "DEL"]
    one.plugin.delete(one.call("DEL", conf(ipam=IPAM)))
    assert one.machine.node.journal.addresses() == []


def test_an_ipam_plugin_that_is_not_there_is_found_out_before_the_device_is_touched(
    one: Bench,
) -> None:
    with pytest.raises(CNIError, match="nowhere"):
        one.plugin.add(one.call("ADD", conf(ipam={"type": "nowhere"})))
    assert one.machine.checkpoints == []


def test_a_device_on_a_userspace_driver_is_taken_as_it_is(one: Bench) -> None:
    address = NIC.vf(2)
    unbind(one.machine.sim, address)
    path = f"bus/pci/devices/{address}/driver_override"
    one.machine.sim.write(path, "vfio-pci")
    one.machine.sim.write("bus/pci/drivers/vfio-pci/bind", address)
    before = one.machine.snapshot()
    one.plugin.add(one.call("ADD", conf(vlan=9)))
    (record,) = one.machine.node.journal.owned_by("c1")
    assert record.kind is Kind.DPDK
    assert one.machine.sim.link_name(f"bus/pci/devices/{address}/driver") == "vfio-pci"
    one.plugin.delete(one.call("DEL", conf(vlan=9)))
    assert one.machine.snapshot() == before


def test_keys_count_in_any_letter_case(one: Bench) -> None:
    given = {"CNIVERSION": "1.0.0", "Name": "n", "DEVICEID": NIC.vf(1), "VLAN": 7, "If0Name": "a"}
    one.plugin.add(one.call("ADD", given))
    (record,) = one.machine.node.journal.owned_by("c1", "a")
    assert record.settings.vlan == 7


def test_the_runtimes_mac_wins(one: Bench) -> None:
    given = conf(mac="02:00:00:00:00:01", runtimeConfig={"mac": "02:00:00:00:00:02"})
    result: Any = one.plugin.add(one.call("ADD", given))
    assert result["interfaces"][0]["mac"] == "02:00:00:00:00:02"


def test_check_sees_a_changed_vlan(one: Bench) -> None:
    given = conf(vlan=7)
    one.plugin.add(one.call("ADD", given))
    one.plugin.check(one.call("CHECK", given))
    with one.machine.netlink.links() as links:
        pf = links.find("eth1")
        assert pf is not None
        links.set_vf(pf.index, 2, VFSettings(vlan=8))
    with pytest.raises(CNIError, match="vlan"):
        one.plugin.check(one.call("CHECK", given))


def test_gc_takes_back_what_nobody_has_any_more(one: Bench) -> None:
    before = one.machine.snapshot()
    one.plugin.add(one.call("ADD", conf()))
    none_known = one.call("GC", conf())
    one.plugin.gc(none_known)
    assert one.machine.node.journal.addresses() == [NIC.vf(2)]
    valid = [{"containerID": "c1", "ifname": "net1"}]
    one.plugin.gc(one.call("GC", {**conf(), "cni.dev/valid-attachments": valid}))
    assert one.machine.node.journal.addresses() == [NIC.vf(2)]
    other = {**conf(name="other"), "cni.dev/valid-attachments": []}
    one.plugin.gc(one.call("GC", other))
    assert one.machine.node.journal.addresses() == [NIC.vf(2)]
    one.plugin.gc(one.call("GC", {**conf(), "cni.dev/valid-attachments": []}))
    assert one.machine.node.journal.addresses() == []
    assert one.machine.snapshot() == before


def test_status_asks_for_the_pf(one: Bench) -> None:
    one.plugin.status(one.call("STATUS", conf()))
    with pytest.raises(CNIError) as missing:
        one.plugin.status(one.call("STATUS", conf(if0="eth9")))
    assert missing.value.code == 50


def test_a_configuration_that_add_refused_can_be_deleted(one: Bench) -> None:
    bad = conf(deviceID="nonsense", vlan="x", spoofchk="yes")
    with pytest.raises(CNIError):
        one.plugin.add(one.call("ADD", bad))
    one.plugin.delete(one.call("DEL", bad))
