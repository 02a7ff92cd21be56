"""The values of the device plane: PCI functions, their settings, who holds them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

PciAddress = NewType("PciAddress", str)
"""A PCI address in sysfs form: ``dddd:bb:dd.f``, lower case, domain of four digits or more."""

USERSPACE_DRIVERS = frozenset({"vfio-pci", "igb_uio", "uio_pci_generic"})


def is_vfio(driver: str | None) -> bool:
    """Tell vfio-pci and its variants for live migration (mlx5_vfio_pci, since Linux 5.18)."""
    return driver == "vfio-pci" or "_vfio_pci" in (driver or "")


def is_userspace(driver: str | None) -> bool:
    """Tell whether a driver leaves a function to programs: no netdev can be expected of it."""
    return driver in USERSPACE_DRIVERS or is_vfio(driver)


@dataclass(frozen=True, slots=True)
class NetnsIdentity:
    """What tells two namespaces apart within one boot: device and inode of their nsfs file.

    The inode alone is recycled by the kernel and the path is often a bind mount, so records keep
    all three, and the boot id beside them.
    """

    path: str
    dev: int
    inode: int

    def same_namespace(self, other: NetnsIdentity | None) -> bool:
        """Tell whether both stand for one namespace, whatever their paths."""
        return other is not None and (self.dev, self.inode) == (other.dev, other.inode)


class VFState(StrEnum):
    """What a VF is to the administrator."""

    FREE = "free"
    ALLOCATED = "allocated"
    LEAKED = "leaked"
    DIRTY = "dirty"
    FOREIGN = "foreign"
    BROKEN = "broken"


class Kind(StrEnum):
    """What is given to a container: a VF's netdev, a VF on a userspace driver, or a whole PF."""

    VF = "vf"
    DPDK = "dpdk"
    PF = "pf"


class Stage(StrEnum):
    """How far an attachment has come; written before the step it names."""

    INTENDED = "intended"
    ATTACHED = "attached"
    DETACHING = "detaching"


class LinkState(StrEnum):
    """IFLA_VF_LINK_STATE, in the words of ip-link(8) and sriov-cni."""

    AUTO = "auto"
    ENABLE = "enable"
    DISABLE = "disable"


class VlanProto(StrEnum):
    """Tag protocol of a VF's VLAN."""

    DOT1Q = "802.1q"
    DOT1AD = "802.1ad"


@dataclass(frozen=True, slots=True)
class VFSettings:
    """What the PF's driver holds about one VF (rtnetlink IFLA_VF_*); None: unknown, or left alone.

    Rates in Mbit/s, 0 for none. ``mac`` is the admin MAC, all zeros where none is set.
    """

    mac: str | None = None
    vlan: int | None = None
    qos: int | None = None
    proto: VlanProto | None = None
    min_rate: int | None = None
    max_rate: int | None = None
    spoofchk: bool | None = None
    trust: bool | None = None
    link_state: LinkState | None = None


@dataclass(frozen=True, slots=True)
class Netdev:
    """A network interface as one namespace sees it.

    In a record made of another tool's file MAC "" and MTU 0 stand for what it did not save.
    """

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    altnames: tuple[str, ...] = ()
    alias: str | None = None
    master: int | None = None
    parent: str | None = None
    addresses: tuple[str, ...] = ()

    @property
    def in_use(self) -> bool:
        """Tell whether the host itself uses it: enslaved, or with an address of global scope."""
        return self.master is not None or bool(self.addresses)


@dataclass(frozen=True, slots=True)
class PF:
    """A PCI function that can have VFs (it has ``sriov_totalvfs``)."""

    address: PciAddress
    netdevs: tuple[str, ...]
    driver: str | None
    vendor: str
    device: str
    total_vfs: int
    num_vfs: int
    numa_node: int | None

    @property
    def ifname(self) -> str | None:
        """The name of its first netdev in our namespace, None when it has none here."""
        return self.netdevs[0] if self.netdevs else None


@dataclass(frozen=True, slots=True)
class VF:
    """A virtual function: ``virtfn<index>`` of its PF.

    ``network`` is False for that of an accelerator or a disk, which has no netdev on any driver.
    """

    address: PciAddress
    pf_address: PciAddress
    index: int
    driver: str | None
    driver_override: str | None
    netdevs: tuple[str, ...]
    vendor: str
    device: str
    numa_node: int | None
    iommu_group: str | None
    network: bool = True

    @property
    def ifname(self) -> str | None:
        """The name of its first netdev in our namespace, None when it has none here."""
        return self.netdevs[0] if self.netdevs else None


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a device: one attachment, named as the container runtime names it.

    ``since`` is seconds since the epoch.
    """

    container_id: str
    ifname: str
    netns: NetnsIdentity
    since: float
    network: str | None = None
    pod_namespace: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """A function as it was before we touched it: what detach gives back."""

    driver: str | None = None
    driver_override: str | None = None
    settings: VFSettings | None = None
    netdevs: tuple[Netdev, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the journal: who holds which function, and how to give it back.

    ``saved_files`` are the companion files (paths) that other tools read and that go with it;
    ``note`` is the caller's own (the CNI plane keeps its configuration there).
    """

    address: PciAddress
    kind: Kind
    stage: Stage
    boot_id: str
    owner: Owner
    pf_address: PciAddress
    pf_ifname: str | None
    index: int | None
    before: Before
    settings: VFSettings = VFSettings()
    driver: str | None = None
    saved_files: tuple[str, ...] = ()
    note: dict[str, object] = field(default_factory=dict)

    def owned_by(self, container_id: str, ifname: str) -> bool:
        """Tell whether this attachment holds the function."""
        return (self.owner.container_id, self.owner.ifname) == (container_id, ifname)


def describe(record: Record) -> str:
    """Name an owner for people: pod if known, container and interface."""
    owner = record.owner
    pod = f"pod {owner.pod_namespace}/{owner.pod_name}, " if owner.pod_name else ""
    return f"{pod}container {owner.container_id[:13]} as {owner.ifname}"


@dataclass(frozen=True, slots=True)
class DpdkRequest:
    """Which userspace driver a VF is to have, and by which program it is bound.

    ``driver`` None leaves the driver as it is (the device plugin bound it). ``tool`` is the path of
    dpdk-devbind.py, None binds natively. ``kernel_driver`` serves only where none was recorded.
    """

    driver: str | None = None
    tool: str | None = None
    kernel_driver: str | None = None


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """What one attachment wants; either ``device`` or ``pf_name`` says of which hardware.

    ``mtu`` in bytes; ``whole_pf`` takes the PF itself (always so for Kind.PF). ``seed_style`` saves
    a companion file in the form of 2018 instead of sriov-cni's, in ``saved_dir`` if given;
    ``saved_conf`` is the configuration that goes into it and into the record's note, ``note`` what
    goes into that beside it.
    """

    container_id: str
    ifname: str
    netns_path: str
    kind: Kind
    device: PciAddress | None = None
    pf_name: str | None = None
    settings: VFSettings = VFSettings()
    mtu: int | None = None
    whole_pf: bool = False
    up: bool = True
    l2: bool = False
    dpdk: DpdkRequest | None = None
    network: str | None = None
    pod_namespace: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None
    seed_style: bool = False
    saved_dir: str | None = None
    saved_conf: dict[str, object] = field(default_factory=dict)
    note: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attached:
    """What an attachment got. ``ifnames`` are inside the namespace, none for a DPDK device."""

    address: PciAddress
    kind: Kind
    pf_address: PciAddress
    index: int | None
    ifnames: tuple[str, ...]
    mac: str | None
    mtu: int | None
    driver: str | None
    device_files: tuple[str, ...] = ()
