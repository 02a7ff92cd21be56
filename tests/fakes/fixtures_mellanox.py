"""The written nodes with Mellanox cards: two ports on a function, RDMA, representors, SFs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.pci import device_path
from tests.fakes.netlink import FakeNetlink
from tests.fakes.tree import Nic, Shown, Tree

if TYPE_CHECKING:
    from tests.fakes.kernel_sim import KernelSim

CX5 = Nic(
    address="0000:5e:00.0",
    ifname="enp94s0f0np0",
    driver="mlx5_core",
    vf_driver=None,
    vendor="15b3",
    device="1017",
    vf_device="1018",
    total=8,
    vfs=3,
    offset=2,
    stride=1,
    numa_node=1,
    switch_id="9803130003ca1e00",
)
CX3 = Nic(
    address="0000:04:00.0",
    ifname="ens1",
    driver="mlx4_core",
    vf_driver=None,
    vendor="15b3",
    device="1003",
    vf_device="1004",
    total=8,
    vfs=2,
    offset=1,
    stride=1,
    ports=2,
)
CX6 = Nic(
    address="0000:c1:00.0",
    ifname="enp193s0f0np0",
    driver="mlx5_core",
    vf_driver=None,
    vendor="15b3",
    device="101d",
    vf_device="101e",
    total=16,
    vfs=3,
    offset=2,
    stride=1,
    numa_node=3,
    switch_id="b83fd2fffe000002",
)
CX4_IB = Nic(
    address="0000:82:00.0",
    ifname="ibp130s0",
    driver="mlx5_core",
    vf_driver=None,
    vendor="15b3",
    device="1013",
    vf_device="1014",
    total=4,
    vfs=2,
    offset=1,
    stride=1,
    numa_node=1,
)


def built(folder: str, *nics: Nic) -> KernelSim:
    """Return a machine with these cards; its netdevs are those of a fake kernel."""
    sim = FakeNetlink().machine(folder)
    for nic in nics:
        sim.add_nic(nic)
    return sim


def cx5_switchdev(folder: str) -> None:
    """Switchdev mode: each VF has a representor, a netdev of the PF's function."""
    tree = built(folder, CX5).tree
    for index in range(CX5.vfs):
        _represent(tree, CX5, f"enp94s0f0r{index}", 40 + index, f"pf0vf{index}")


def cx3_shared(folder: str) -> None:
    """Dual-port mlx4: every function, PF or VF, has two netdevs."""
    built(folder, CX3)


def cx6_rdma(folder: str) -> None:
    """Switchdev with an SF; RDMA devices under the names of udev and of the kernel; a VF away."""
    sim = built(folder, CX6)
    tree = sim.tree
    for index in range(CX6.vfs):
        _represent(tree, CX6, f"enp193s0f0npf0vf{index}", 40 + index, f"pf0vf{index}")
    _represent(tree, CX6, "enp193s0f0npf0sf88", 50, "pf0sf88")
    _rdma(tree, CX6.address, "rocep193s0f0", 0)
    for index, name in enumerate(("rocep193s0f0v0", "mlx5_2", "mlx5_3")):
        _rdma(tree, CX6.vf(index), name, 1 + index)
    home = f"devices/pci0000:00/{CX6.address}/mlx5_core.sf.2"
    tree.put(f"{home}/sfnum", 88)
    for name, value in (("ifindex", 51), ("address", "02:fb:00:00:01:58"), ("mtu", 1500)):
        tree.put(f"{home}/net/enp193s0f0s88/{name}", value)
    tree.link(f"{home}/net/enp193s0f0s88/device", home)
    tree.link("class/net/enp193s0f0s88", f"{home}/net/enp193s0f0s88")
    # VF 1's netdev is in a pod; its RDMA device is seen here all the same (shared mode).
    tree.hide_netdev(CX6.vf(1), f"{CX6.ifname}v1")


def cx4_infiniband(folder: str) -> None:
    """IPoIB: hardware addresses of 20 bytes, no Ethernet port."""
    sim = built(folder, CX4_IB)
    functions = (CX4_IB.address, *(CX4_IB.vf(index) for index in range(CX4_IB.vfs)))
    for number, address in enumerate(functions):
        (name,) = sim.names(device_path(address, "net"))
        guid = f"80:00:00:{number:02x}:fe:80:00:00:00:00:00:00:02:00:00:00:00:00:00:{number:02x}"
        sim.tree.put(f"class/net/{name}/address", guid)
        sim.tree.put(f"class/net/{name}/type", 32)
        sim.tree.put(device_path(address, "class"), "0x020700")
        shown = sim.read(device_path(address, "uevent")) or ""
        sim.tree.put(device_path(address, "uevent"), shown.replace("=20000", "=20700"))
        _rdma(sim.tree, address, f"mlx5_{number}", number, link="InfiniBand")


def _represent(tree: Tree, nic: Nic, name: str, index: int, port: str) -> None:
    mac = f"02:fb:00:00:00:{index - 40:02x}"
    shown = Shown(index=index, name=name, mac=mac, switch_id=nic.switch_id, port_name=port)
    tree.show_netdev(nic.address, shown)


def _rdma(tree: Tree, address: str, name: str, number: int, link: str = "Ethernet") -> None:
    home = f"devices/pci0000:00/{address}"
    tree.put(f"{home}/infiniband/{name}/node_guid", f"0200:00ff:fe00:{number:04x}")
    tree.put(f"{home}/infiniband/{name}/ports/1/link_layer", link)
    tree.link(f"{home}/infiniband/{name}/device", home)
    tree.put(f"{home}/infiniband_verbs/uverbs{number}/ibdev", name)
    tree.link(f"{home}/infiniband_verbs/uverbs{number}/device", home)
    for kind, leaf in (("infiniband", name), ("infiniband_verbs", f"uverbs{number}")):
        tree.put(f"class/{kind}/.keep", "")
        tree.remove(f"class/{kind}/.keep")
        tree.link(f"class/{kind}/{leaf}", f"{home}/{kind}/{leaf}")


MELLANOX = {
    "cx5-switchdev": cx5_switchdev,
    "cx3-shared": cx3_shared,
    "cx6-rdma": cx6_rdma,
    "cx4-infiniband": cx4_infiniband,
}
