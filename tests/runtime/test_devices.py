"""Functions of a simulated card in pods of containerd, chosen by configuration or by kubelet."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from hwmgr.netns import entered
from tests.fakes.kubelet import FakeKubelet, ListedPod
from tests.fakes.tree import Nic
from tests.functional.harness import Bench, changes
from tests.runtime.cluster import define, make_pod, serving, start, status_of
from tests.runtime.cri import Pod
from tests.runtime.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.runtime
NIC = Nic(vfs=4)
RESOURCE = "example.com/vf"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "bench").mkdir()
    with closing(Bench(str(tmp_path / "bench"), NIC)) as made:
        yield made


@pytest.fixture
def rig(tmp_path: Path, bench: Bench) -> Iterator[Rig]:
    """A rig whose host has the bench's card; multus finds it there."""
    facts = {
        "VETH_BASE": bench.base,
        "VETH_WIRE": bench.wire.path,
        "KUBELET": f"{tmp_path}/kubelet",
        "DEVINFO": f"{tmp_path}/devinfo",
    }
    main = "tests/runtime/veth_main.py"
    with Rig(tmp_path, env=facts, main=main, host=bench.host) as made:
        yield made


def snapshot(bench: Bench) -> dict[str, object]:
    with entered(bench.host.fd):
        return bench.snapshot()


def sriov(rig: Rig, **more: Any) -> dict[str, Any]:
    ipam = rig.ipam_conf("10.77.0.0/24")
    return {"name": "fast", "type": "sriov", "cniVersion": "1.0.0", "ipam": ipam, **more}


def end(rig: Rig, sandbox: str) -> None:
    rig.cri.stop(sandbox)
    rig.cri.remove(sandbox)


def test_a_function_goes_in_and_comes_back(rig: Rig, bench: Bench) -> None:
    rig.network(rig.ptp(), sriov(rig, deviceID=NIC.vf(2), vlan=7, if0name="net0"))
    rig.containerd.start()
    before = snapshot(bench)
    sandbox = rig.cri.run(Pod("fast"))
    assert rig.addresses(sandbox) == {"eth0": ["10.66.0.2"], "net0": ["10.77.0.2"]}
    assert f"{NIC.ifname}v2" not in rig.host_links()
    assert bench.sim.vf_side.get(NIC.address)[2].vlan == 7
    end(rig, sandbox)
    assert changes(before, snapshot(bench)) == {}
    assert rig.left() == {}


def test_the_device_that_kubelet_chose(rig: Rig, bench: Bench) -> None:
    chosen = [NIC.vf(3), NIC.vf(1)]
    listed = ListedPod("default", "fast", {"main": [(RESOURCE, chosen)]})
    before = snapshot(bench)
    kubelet = FakeKubelet(rig.folder / "kubelet" / "kubelet.sock", listed)
    with kubelet, serving(rig) as api:
        define(api, "fast", sriov(rig), RESOURCE)
        start(rig, api, rig.ptp())
        sandbox = rig.cri.run(make_pod(api, "fast", "fast, fast"))
        assert set(rig.addresses(sandbox)) == {"eth0", "net1", "net2"}
        gone = {f"{NIC.ifname}v{number}" for number in range(4)} - rig.host_links()
        assert gone == {f"{NIC.ifname}v3", f"{NIC.ifname}v1"}
        told = {each["interface"]: each for each in status_of(api, "fast")}
        assert [told[name]["name"] for name in ("net1", "net2")] == ["default/fast"] * 2
        # kubelet forgets a pod's devices when the pod ends, which may be before its sandbox does.
        kubelet.pods.clear()
        end(rig, sandbox)
    assert changes(before, snapshot(bench)) == {}
    assert rig.left() == {}
