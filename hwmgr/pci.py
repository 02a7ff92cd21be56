"""Discovery of PFs and VFs in sysfs, and the arithmetic of PCI addresses. Read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.errors import NoSuchDevice
from hwmgr.model import PF, VF, PciAddress, is_userspace
from hwmgr.representor import is_representor
from hwmgr.sysfs import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwmgr.sysfs import Folder, Sysfs

_DEVICES = "bus/pci/devices"
_HEX = frozenset("0123456789abcdef")


def parse_address(text: str) -> PciAddress | None:
    """Return ``text`` as a PCI address, None when it is not a full one (``dddd:bb:dd.f``).

    Domains of more than four digits exist (VMD, Hyper-V), so any width from four up is taken.
    """
    domain, _, rest = text.lower().partition(":")
    bus, _, rest = rest.partition(":")
    device, _, function = rest.partition(".")
    widths = len(domain) >= 4 and len(bus) == 2 and len(device) == 2 and len(function) == 1
    if not widths or not _HEX.issuperset(domain + bus + device) or function not in "01234567":
        return None
    return PciAddress(text.lower()) if int(device, 16) < 32 else None


def full_address(text: str) -> PciAddress | None:
    """Return ``text`` as a PCI address, domain 0000 where none is given; None when it is none."""
    return parse_address(text) or parse_address(f"0000:{text}")


def device_path(address: str, attribute: str = "") -> str:
    """Return the sysfs path of a function, or of one of its attributes."""
    return f"{_DEVICES}/{address}/{attribute}" if attribute else f"{_DEVICES}/{address}"


def vf_address(pf: PciAddress, offset: int, stride: int, index: int) -> PciAddress:
    """Compute a VF's address from its routing id (SR-IOV 1.1, §2.1.2)."""
    domain, bus, rest = pf.split(":")
    device, function = rest.split(".")
    rid = (int(bus, 16) << 8) | (int(device, 16) << 3) | int(function)
    rid += offset + index * stride
    return PciAddress(f"{domain}:{rid >> 8:02x}:{(rid >> 3) & 31:02x}.{rid & 7}")


def virtfn_indices(names: list[str]) -> list[int]:
    """Return the indices of ``virtfn<N>`` names in numeric order; readdir's is arbitrary."""
    return sorted(int(n[6:]) for n in names if n.startswith("virtfn") and n[6:].isdigit())


def parse_override(text: str | None) -> str | None:
    """Read ``driver_override``: unset shows as ``(null)`` or as an empty line."""
    value = (text or "").strip()
    return None if value in ("", "(null)") else value


def netdevs_of(sysfs: Sysfs, address: str) -> tuple[str, ...]:
    """Return the names of a function's netdevs that our namespace sees, port 0 first.

    ``net/`` is namespace-tagged: it is empty when the netdev has been moved away
    (fs/sysfs, net/core/net-sysfs.c).
    """
    return _port_0_first(sysfs, sysfs.names(device_path(address, "net")))


def _port_0_first(sysfs: Sysfs, names: list[str]) -> tuple[str, ...]:
    if len(names) < 2:
        return tuple(names)
    # In switchdev mode the representors of its VFs are netdevs of the PF's function too.
    names = [n for n in names if not is_representor(sysfs, n)] or names
    return tuple(sorted(names, key=lambda n: (_port(sysfs, n), _ifindex(sysfs, n), n)))


def find_vf(sysfs: Sysfs, address: str) -> VF:
    """Read one VF; raises NoSuchDevice when there is none at the address."""
    if not sysfs.exists(device_path(address)):
        raise NoSuchDevice(address, "no such PCI function here; see 'hwmgr vf list'")
    physfn = sysfs.link_name(device_path(address, "physfn"))
    if physfn is None:
        message = "it is not a virtual function (it has no physfn link); see 'hwmgr vf list'"
        raise NoSuchDevice(address, message)
    pf = PciAddress(physfn)
    for index in virtfn_indices(sysfs.names(device_path(pf))):
        if sysfs.link_name(device_path(pf, f"virtfn{index}")) == address:
            return _read_vf(sysfs, PciAddress(address), pf, index)
    raise NoSuchDevice(address, f"its PF {pf} does not list it as one of its VFs")


def find_pf(sysfs: Sysfs, address: str) -> PF:
    """Read one PF; raises NoSuchDevice when the function is absent or cannot have VFs."""
    folder = sysfs.folder(device_path(address))
    if folder is None:
        raise NoSuchDevice(address, "no such PF")
    with folder:
        pf = _read_pf(sysfs, folder, PciAddress(address))
    if pf is None:
        raise NoSuchDevice(address, "it has no SR-IOV capability")
    return pf


def pf_named(sysfs: Sysfs, name: str) -> PF:
    """Find a PF by the name of its netdev or by its PCI address; raises NoSuchDevice."""
    address = parse_address(name)
    if address is None:
        if "/" in name or name in ("", ".", ".."):
            raise NoSuchDevice(repr(name), "this cannot name an interface")
        address_text = sysfs.link_name(f"class/net/{name}/device")
        if address_text is None:
            raise NoSuchDevice(name, "no PF of that name here; see 'hwmgr pf list'")
        address = PciAddress(address_text)
    return find_pf(sysfs, address)


def list_pfs(sysfs: Sysfs) -> list[PF]:
    """Return every PF of the node, by address."""
    return [pf for pf, _vfs in survey(sysfs, with_vfs=False)]


def survey(sysfs: Sysfs, *, with_vfs: bool = True) -> Iterator[tuple[PF, list[VF]]]:
    """Read every PF of the node, by address, each with its VFs in the order of their index.

    Every folder is opened once. Without ``with_vfs`` the lists are empty. A disk or an accelerator
    that could have VFs and has none is no business of ours.
    """
    seen: set[str] = set()
    for address in sorted(sysfs.names(_DEVICES), key=address_key):
        if address in seen:
            continue
        folder = sysfs.folder(device_path(address))
        if folder is None:
            continue
        with folder:
            pf = _read_pf(sysfs, folder, PciAddress(address))
            if pf is not None and not pf.num_vfs and not pf.netdevs and not _is_network(folder):
                pf = None
            vfs = [] if pf is None else _vf_links(folder)
        if pf is None:
            continue
        seen.update(vf for _index, vf in vfs)
        yield pf, _read_vfs(sysfs, pf.address, vfs) if with_vfs else []


def list_vfs(sysfs: Sysfs, pf: PciAddress) -> list[VF]:
    """Return the VFs of a PF in the order of their index."""
    folder = sysfs.folder(device_path(pf))
    if folder is None:
        return []
    with folder:
        vfs = _vf_links(folder)
    return _read_vfs(sysfs, pf, vfs)


def address_key(address: str) -> tuple[int, str]:
    """Sort key that keeps wide domains behind narrow ones."""
    return len(address), address


def _vf_links(pf: Folder) -> list[tuple[int, PciAddress]]:
    found = []
    for index in virtfn_indices(pf.names()):
        address = pf.link_name(f"virtfn{index}")
        if address is not None:
            found.append((index, PciAddress(address)))
    return found


def _read_vfs(sysfs: Sysfs, pf: PciAddress, vfs: list[tuple[int, PciAddress]]) -> list[VF]:
    return [_read_vf(sysfs, address, pf, index) for index, address in vfs]


def _read_pf(sysfs: Sysfs, folder: Folder, address: PciAddress) -> PF | None:
    total = number(folder.read("sriov_totalvfs"))
    if total is None:
        return None
    return PF(
        address=address,
        netdevs=_port_0_first(sysfs, folder.names("net")),
        driver=folder.link_name("driver"),
        vendor=_id(folder.read("vendor")),
        device=_id(folder.read("device")),
        total_vfs=total,
        num_vfs=number(folder.read("sriov_numvfs")) or 0,
        numa_node=_numa_node(folder.read("numa_node")),
    )


def _read_vf(sysfs: Sysfs, address: PciAddress, pf: PciAddress, index: int) -> VF:
    folder = sysfs.folder(device_path(address))
    if folder is None:
        # Removed since its PF's folder was listed.
        return VF(address, pf, index, None, None, (), "", "", None, None)
    with folder:
        driver = folder.link_name("driver")
        netdevs = _port_0_first(sysfs, folder.names("net"))
        # Asked where it makes a difference only: it is one more file of each VF.
        network = bool(netdevs) or driver is None or is_userspace(driver) or _is_network(folder)
        return VF(
            address=address,
            pf_address=pf,
            index=index,
            driver=driver,
            driver_override=parse_override(folder.read("driver_override")),
            netdevs=netdevs,
            vendor=_id(folder.read("vendor")),
            device=_id(folder.read("device")),
            numa_node=_numa_node(folder.read("numa_node")),
            iommu_group=folder.link_name("iommu_group"),
            network=network,
        )


def _is_network(folder: Folder) -> bool:
    """Tell a NIC by its class code (PCI Code and ID Assignment Specification, 1.2: 02h)."""
    return (folder.read("class") or "0x02").startswith("0x02")


def _id(text: str | None) -> str:
    return (text or "").removeprefix("0x")


def _numa_node(text: str | None) -> int | None:
    node = number(text)
    return None if node is None or node < 0 else node


def _port(sysfs: Sysfs, ifname: str) -> int:
    return sysfs.read_int(f"class/net/{ifname}/dev_port") or 0


def _ifindex(sysfs: Sysfs, ifname: str) -> int:
    return sysfs.read_int(f"class/net/{ifname}/ifindex") or 0
