"""Recorded behaviour of sriov-cni and of the plugin of 2018, against the sriov delegate."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.driver import unbind
from hwmgr.model import Kind, Record, VFSettings
from hwmgr.run import Completed
from multus import sriovconf
from multus.cnitypes import CNIError
from multus.delegates import DelegateCall
from multus.hardware import plugin_on
from multus.jsonfields import Fields
from tests.fakes.machine import Machine, build
from tests.fakes.tree import Nic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from multus.sriov import SriovPlugin
    from tests.fakes.namespaces import Namespace

VECTORS = os.path.join(os.path.dirname(__file__), "..", "vectors", "sriov")
# Cases that go another way on purpose; docs/deviations.md says why. One that passes fails here.
DEVIATIONS = {
    "cni_config": {"spoof-odd", "rates-any"},
    "legacy_config": {"l2-null-result"},
    "sequences": {"spoof-odd-is-off", "apply-none"},
}


def cases(suite: str) -> list[Any]:
    with open(f"{VECTORS}/{suite}.json") as file:
        found: list[dict[str, Any]] = json.load(file)["cases"]
    return [
        pytest.param(
            case,
            id=case["id"],
            marks=pytest.mark.xfail(strict=True) if case["id"] in DEVIATIONS.get(suite, ()) else (),
        )
        for case in found
    ]


@dataclass
class Bench:
    machine: Machine
    plugin: SriovPlugin
    pod: Namespace

    def call(self, verb: str, conf: dict[str, Any], *, netns: str | None = None) -> DelegateCall:
        return DelegateCall(
            conf=conf,
            command=verb,
            container_id="c1",
            netns=self.pod.path if netns is None else netns,
            ifname="net1",
            args="",
            path=(self.machine.sim.base + "/plugins",),
            deadline=1e12,
        )

    def add(self, conf: dict[str, Any]) -> Record:
        self.plugin.add(self.call("ADD", conf))
        (record,) = self.machine.node.journal.owned_by("c1")
        return record


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path)


def bench(folder: str, *nics: Nic) -> Bench:
    machine = build(folder, *nics)
    os.makedirs(f"{folder}/plugins")
    for name in ("ipam",):
        path = f"{folder}/plugins/{name}"
        with open(path, "w") as file:
            file.write("#!/bin/sh\n")
        os.chmod(path, 0o755)
    plugin = plugin_on(machine.node, machine.runner, {}, ("/var/lib/cni", folder))
    return Bench(machine, plugin, machine.namespace())


# ---- sriov-cni: configuration --------------------------------------------------------

P1 = Nic("0000:af:00.1", "enp175s0f1", offset=47, stride=1, total=2, vfs=2)
P5 = Nic("0000:5e:00.0", "p5", offset=16, stride=1, total=4, vfs=4)
P6 = Nic("0000:5e:00.1", "p6", offset=79, stride=1, total=1, vfs=1)
HOST_NAMES = {"enp175s7": "enp175s0f1v1", "enp175s6": "enp175s0f1v0", "": None}


@pytest.fixture
def modern(folder: str) -> Iterator[Bench]:
    """The node of cni_config: kernel VFs, VFs on userspace drivers, one whose netdev is away."""
    one = bench(folder, P1, P5, P6)
    for index, driver in enumerate(("vfio-pci", "igb_uio", "uio_pci_generic")):
        unbind(one.machine.sim, P5.vf(index))
        one.machine.sim.write(f"bus/pci/devices/{P5.vf(index)}/driver_override", driver)
        one.machine.sim.write(f"bus/pci/drivers/{driver}/bind", P5.vf(index))
        one.machine.sim.write(f"bus/pci/devices/{P5.vf(index)}/driver_override", "\n")
    unbind(one.machine.sim, P5.vf(3))
    away = one.machine.namespace()
    with one.machine.netlink.links() as links:
        netdev = links.find("p6v0")
        assert netdev is not None
        links.move(netdev.index, away.fd, "eth7")
    with closing(one.machine):
        yield one


@pytest.mark.parametrize("case", cases("cni_config"))
def test_cni_config(case: dict[str, Any], modern: Bench) -> None:
    for address, claim in case.get("allocated", {}).items():
        path = "/proc/self/ns/net" if claim["netns_exists"] else "/nonexistent/netns"
        modern.machine.state.write_bytes(path.encode(), "pci", address)
    expected = case["expect"].get("ok")
    try:
        conf = case.get("config") or json.loads(case["raw"])
        conf = {key: value for key, value in conf.items() if key != "ipam"}
    except ValueError:
        assert expected is None
        return
    before = modern.machine.snapshot()
    if expected is None:
        with pytest.raises(CNIError):
            modern.plugin.add(modern.call("ADD", conf))
        assert modern.machine.snapshot() == before
        return
    record = modern.add(conf)
    assert record.pf_ifname == expected["pf"]
    assert record.index == expected["vf"]
    assert (record.kind is Kind.DPDK) == expected["dpdk"]
    names = [netdev.name for netdev in record.before.netdevs]
    assert names == [name for name in (HOST_NAMES[expected["host_ifname"]],) if name]
    wanted = record.settings
    tag = (wanted.vlan, wanted.qos, wanted.proto and str(wanted.proto))
    assert tag == (expected["vlan"], expected["vlanQoS"], expected["vlanProto"])
    modern.plugin.delete(modern.call("DEL", conf))
    assert modern.machine.snapshot() == before


# ---- 2018: which VF ------------------------------------------------------------------

LEGACY = Nic("0000:04:00.1", "enp4s0f1", total=8, vfs=0)


@pytest.mark.parametrize("case", cases("legacy_config"))
def test_legacy_config(case: dict[str, Any], folder: str) -> None:
    one = bench(folder, LEGACY)
    with closing(one.machine):
        tool = _prepare_legacy(one, case)
        before = one.machine.snapshot()
        expected = case["expect"]
        if not expected:
            with pytest.raises(CNIError):
                one.plugin.add(one.call("ADD", case["config"]))
            assert one.machine.snapshot() == before
            return
        result = one.plugin.add(one.call("ADD", case["config"]))
        (record,) = one.machine.node.journal.owned_by("c1")
        assert record.index == expected["vf"]
        assert (len(record.before.netdevs) == 2) == expected["shared"]
        assert (record.kind is Kind.DPDK) == expected.get("dpdk", False)
        if "exec" in expected:
            argv = list(one.machine.runner.calls[0].argv)
            # The tool is told the PCI address, which cannot be renamed meanwhile.
            assert argv == [tool, *expected["exec"][1:3], record.address]
        if "printed_result" in expected:
            assert result is expected["printed_result"]
        one.plugin.delete(one.call("DEL", case["config"]))
        assert one.machine.snapshot() == before


def _prepare_legacy(one: Bench, case: dict[str, Any]) -> str:
    """Give the PF the VFs of a case: none (userspace), an empty ``net`` (away), netdevs here."""
    from tests.fakes.machine import replace_node
    from tests.fakes.runner import Devbind

    tool = "/usr/bin/dpdk-devbind.py"
    state = case["pf_state"]
    sim = one.machine.sim
    numvfs = state["numvfs"]
    path = f"bus/pci/devices/{LEGACY.address}/sriov_numvfs"
    if numvfs is None or not numvfs.isdigit():
        if numvfs is None:
            sim.tree.remove(path)
        else:
            sim.tree.put(path, numvfs)
    elif int(numvfs):
        sim.write(path, numvfs)
    away = one.machine.namespace()
    for text, netdevs in state["virtfn_net"].items():
        address = LEGACY.vf(int(text))
        if netdevs is None:
            unbind(sim, address)
            sim.write(f"bus/pci/devices/{address}/driver_override", "vfio-pci")
            sim.write("bus/pci/drivers/vfio-pci/bind", address)
        elif not netdevs:
            with one.machine.netlink.links() as links:
                found = links.find(f"enp4s0f1v{text}")
                assert found is not None
                links.move(found.index, away.fd, f"pod{text}")
        elif len(netdevs) == 2:
            unbind(sim, address)
            sim._set_fact(LEGACY.address, {"ifname": "enp4s0f1", "ports": 2, "switch": None})
            sim.write("bus/pci/drivers/igbvf/bind", address)
    named = case["config"].get("dpdk", {}).get("dpdk_tool")
    if named:
        one.machine.runner.programs[tool] = Devbind(sim)
        case["config"] = {
            **case["config"],
            "dpdk": {**case["config"]["dpdk"], "dpdk_tool": tool},
        }
        if not os.path.exists(tool):
            # No such file on this machine, so nothing can vouch for it: any program of root's does.
            tool = os.path.realpath("/bin/true")
            case["config"]["dpdk"]["dpdk_tool"] = tool
            one.machine.runner.programs[tool] = Devbind(sim)
        node = replace_node(one.machine.node, dpdk_tools=(tool,))
        one.plugin = plugin_on(node, one.machine.runner, {}, (one.machine.sim.base,))
    return tool


# ---- Where we go another way ---------------------------------------------------------


def test_a_switch_is_on_or_off_and_nothing_else() -> None:
    with pytest.raises(CNIError, match="spoofchk 'yes' is neither on nor off") as refused:
        sriovconf.load({"deviceID": "0000:01:10.0", "name": "n", "spoofchk": "yes"})
    assert refused.value.code == 7


def test_a_minimum_rate_above_the_maximum_is_refused_before_the_device_is_touched() -> None:
    conf = {"deviceID": "0000:01:10.0", "name": "n", "min_tx_rate": 5, "max_tx_rate": 2}
    with pytest.raises(CNIError, match="min_tx_rate 5 is above max_tx_rate 2"):
        sriovconf.load(conf)


def test_l2_mode_answers_with_an_object(folder: str) -> None:
    one = bench(folder, Nic())
    with closing(one.machine):
        old = {"if0": "eth1", "l2enable": True, "name": "n"}
        assert one.plugin.add(one.call("ADD", old)) == {}
        one.plugin.delete(one.call("DEL", old))
        result: Any = one.plugin.add(one.call("ADD", {**old, "cniVersion": "1.0.0"}))
        assert [i["name"] for i in result["interfaces"]] == ["net1"]


def test_an_admin_mac_that_is_as_before_is_not_set_again(folder: str) -> None:
    one = bench(folder, Nic())
    with closing(one.machine):
        conf = {"deviceID": Nic().vf(0), "name": "n", "cniVersion": "1.0.0"}
        one.plugin.add(one.call("ADD", conf))
        one.machine.netlink.calls.clear()
        one.plugin.delete(one.call("DEL", conf))
        assert [c for c in one.machine.netlink.calls if c.startswith("set_vf")] == []


# ---- MAC -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("mac"))
def test_mac(case: dict[str, Any], folder: str) -> None:
    if case["op"] == "mac_precedence":
        _mac_precedence(case)
    else:
        _result_mac(case, folder)


def _mac_precedence(case: dict[str, Any]) -> None:
    conf = {"mac": case["config_mac"], "runtimeConfig": {"mac": case["runtime_mac"]}}
    if "expect_error" in case:
        with pytest.raises(CNIError):
            sriovconf.load({"deviceID": "0000:01:10.0", **conf}, case["cni_args"])
        return
    mac = sriovconf.mac_of(Fields(conf, "conf"), case["cni_args"])
    assert mac == (case["expect"] or None)


def _result_mac(case: dict[str, Any], folder: str) -> None:
    """Symbols become addresses: MAC is asked for, EFF the netdev's, ADM the PF's admin MAC."""
    nic = Nic(vfs=1)
    one = bench(folder, nic)
    admin, asked = "02:00:00:00:00:aa", "02:00:00:00:00:bb"
    with closing(one.machine):
        conf: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": "n",
            "deviceID": nic.vf(0),
            **({"dpdk": {"dpdk_driver": "vfio-pci"}} if case["dpdk"] else {}),
            **({"mac": asked} if case["requested"] else {}),
        }
        with one.machine.netlink.links() as links:
            pf, vf = links.find("eth1"), links.find("eth1v0")
            assert pf is not None
            assert vf is not None
            if case["dpdk"]:
                links.set_vf(pf.index, 0, VFSettings(mac=admin))
        result: Any = one.plugin.add(one.call("ADD", conf))
        symbols = {"MAC": asked, "EFF": vf.mac, "ADM": admin}
        assert result["interfaces"][0]["mac"] == symbols[case["expect"]]


# ---- The order of things -------------------------------------------------------------


@pytest.mark.parametrize("case", cases("sequences"))
def test_sequences(case: dict[str, Any], folder: str) -> None:
    if case["op"] == "admin_calls":
        _admin_calls(case)
    else:
        _del(case, folder)


def _admin_calls(case: dict[str, Any]) -> None:
    """What is set through the PF at ADD; at DEL whatever differs from before is set back."""
    from hwmgr import vfsettings

    conf = sriovconf.load({"deviceID": "0000:01:10.0", "name": "n", **case["config"]})
    before = VFSettings(
        mac=case["orig"]["mac"] or None,
        vlan=case["orig"]["vlan"],
        qos=case["orig"]["qos"],
        min_rate=case["orig"]["rate"][0],
        max_rate=case["orig"]["rate"][1],
        spoofchk=case["orig"]["spoofchk"],
        trust=case["orig"]["trust"],
    )
    assert [_said(change) for _, change in vfsettings.steps(conf.settings)] == case["expect_add"]
    after = _merged(before, conf.settings)
    back = vfsettings.differences(after, before)
    assert [_said(change) for _, change in vfsettings.steps(back)] == case["expect_del"]


def _merged(before: VFSettings, change: VFSettings) -> VFSettings:
    from dataclasses import fields, replace

    given = {f.name: getattr(change, f.name) for f in fields(change)}
    if change.min_rate is not None or change.max_rate is not None:
        given |= {"min_rate": change.min_rate or 0, "max_rate": change.max_rate or 0}
    return replace(before, **{key: value for key, value in given.items() if value is not None})


def _said(change: VFSettings) -> list[object]:
    if change.mac is not None:
        return ["mac", change.mac]
    if change.max_rate is not None:
        return ["rate", change.min_rate, change.max_rate]
    if change.spoofchk is not None:
        return ["spoofchk", change.spoofchk]
    raise AssertionError(change)


def _del(case: dict[str, Any], folder: str) -> None:
    """DEL in each state: its exit status by what the reference does, or by what we should."""
    state, nic = case["state"], Nic(vfs=2)
    one = bench(folder, nic)
    with closing(one.machine):
        ipam_calls: list[str] = []
        one.machine.runner.programs[f"{folder}/plugins/ipam"] = lambda call: _ipam(
            call.env["CNI_COMMAND"], ipam_calls
        )
        conf: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": "n",
            "deviceID": nic.vf(0),
            "ipam": {"type": "ipam"},
            **({"dpdk": {"dpdk_driver": "vfio-pci"}} if state.get("dpdk") else {}),
        }
        before = one.machine.snapshot()
        if state["cache"]:
            one.plugin.add(one.call("ADD", conf))
        netns = "" if state.get("netns") == "" else None
        if state.get("vf_present") is False:
            one.machine.sim.write(f"bus/pci/devices/{nic.address}/sriov_numvfs", "0")
        if state.get("release_fails"):
            one.machine.netlink.fail("move", 16, times=1)
        exits = [_exit(one, conf, netns) for _ in range(2)]
        assert "DEL" in ipam_calls
        held = one.machine.node.journal.owned_by("c1")
        # Our difference: the record outlives a DEL that failed, and the next DEL goes on from it.
        if state.get("release_fails"):
            assert exits == [1, 0]
        else:
            assert exits == [0, 0]
        assert held == []
        if state.get("vf_present") is not False:
            assert one.machine.snapshot() == before


def _exit(one: Bench, conf: dict[str, Any], netns: str | None) -> int:
    try:
        one.plugin.delete(one.call("DEL", conf, netns=netns))
    except CNIError:
        return 1
    return 0


def _ipam(verb: str, calls: list[str]) -> Completed:
    calls.append(verb)
    answer = {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}
    return Completed(0, json.dumps(answer).encode() if verb == "ADD" else b"", b"")
