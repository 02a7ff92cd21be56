"""Damage to the lab's node, made on purpose: each function makes one kind and names its victim."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.lab import forked
from tests.lab.cni import Pod, pod
from tests.lab.host_state import DEVICES, PFS, driver_of, netdev_of, vfs_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

STATE = "/var/lib/cni/sriov"
OTHER = PFS[1]
# A driver that probes anew chooses a MAC, and the one of before is nowhere.
NEW_MAC = r"/address:|/vfinfo_list:"
NEW_VFS = rf"^/({OTHER[:8]}|links/enp2s0)"


@dataclass(frozen=True)
class Damage:
    """One kind of damage, and what doctor has to say of it.

    ``admin`` is what the administrator does where repair cannot; ``unlike`` is a regular expression
    of what the host does not have back, since nobody knows how it was.
    """

    make: Callable[[ExitStack], str]
    id: str
    evidence: str = ""
    admin: Callable[[ExitStack], object] | None = None
    unlike: str = ""

    @property
    def name(self) -> str:
        """Return the function's name, in words."""
        return self.make.__name__.replace("_", " ")


def run(text: str) -> None:
    """Run a command line."""
    subprocess.run(text, shell=True, check=True, stdout=subprocess.DEVNULL)


def conf(address: str, **change: Any) -> dict[str, object]:
    """Return the configuration that attaches one VF."""
    base = {"cniVersion": "1.0.0", "name": "lab", "type": "sriov", "deviceID": address}
    return {**base, **change}


def attach(stack: ExitStack, address: str, **change: Any) -> Pod:
    """Attach a VF to a pod of its own; both are gone after the stack."""
    one = stack.enter_context(pod())
    given = conf(address, **change)
    assert forked.in_child(partial(_call, "ADD", one, given)) == 0
    stack.callback(forked.in_child, partial(_call, "DEL", one, given))
    return one


def _call(verb: str, one: Pod, given: dict[str, object]) -> None:
    plugin = forked.plugin(lambda _name: None)
    call = forked.call(verb, given, one.container_id, one.path)
    if verb == "ADD":
        plugin.add(call)
    else:
        plugin.delete(call)


def victim(number: int, pf: str = PFS[0]) -> str:
    """Return a VF that no healthy attachment has."""
    return vfs_of(pf)[number]


def record_path(address: str) -> str:
    """Return where a function's record is."""
    return f"{STATE}/journal/{address}.json"


def edit_record(address: str, **change: object) -> None:
    """Change a record by hand."""
    with open(record_path(address)) as file:
        value = json.load(file)
    with open(record_path(address), "w") as file:
        json.dump({**value, **change}, file)


def forget(address: str, *, companion: Pod | None = None) -> None:
    """Remove record and claim by hand, and the companion file of a pod."""
    os.unlink(record_path(address))
    os.unlink(f"{STATE}/pci/{address}")
    if companion is not None:
        os.unlink(f"{STATE}/{companion.container_id}-net1")


def unname(one: Pod) -> None:
    """Take a namespace's name away; whatever holds it keeps it."""
    run(f"ip netns del {one.netns}")


def announce(pf: str) -> None:
    """Have the VFs of a PF tell it their MACs, as host_state.announce_vfs() does for all."""
    for address in vfs_of(pf):
        announce_one(address)
    settle()


def announce_one(address: str) -> None:
    """Have a VF tell its PF the MAC that its driver has chosen."""
    name = netdev_of(address)
    run(f"ip link set {name} up && ip link set {name} down")


def settle() -> None:
    """Wait for udevd."""
    run("udevadm settle")


def wait_home(address: str) -> None:
    """Wait until a dying namespace has given a netdev back: a kernel worker does it, late."""
    node = forked.node()
    assert node.udev.wait(lambda: os.listdir(f"{DEVICES}/{address}/net") or None, 20)
    settle()


def record_deleted(stack: ExitStack) -> str:
    attach(stack, victim(2), vlan=7)
    os.unlink(record_path(victim(2)))
    return victim(2)


def record_and_claim_and_state_file_deleted(stack: ExitStack) -> str:
    one = attach(stack, victim(2))
    forget(victim(2), companion=one)
    return victim(2)


def pod_died_without_DEL(stack: ExitStack) -> str:  # noqa: N802 the verb is so called
    one = attach(stack, victim(2), vlan=9, trust="on")
    unname(one)
    return victim(2)


def nameless_namespace_held_by_a_process(stack: ExitStack) -> str:
    one = attach(stack, victim(3))
    _process_in(stack, one)
    unname(one)
    return victim(3)


def _process_in(stack: ExitStack, one: Pod) -> None:
    child = subprocess.Popen(["ip", "netns", "exec", one.netns, "sleep", "600"])
    stack.callback(child.wait)
    stack.callback(child.kill)
    inode = os.stat(one.path).st_ino
    entered = lambda: os.stat(f"/proc/{child.pid}/ns/net").st_ino == inode or None  # noqa: E731
    assert forked.node().udev.wait(entered, 20)


def nameless_namespace_held_by_a_descriptor(stack: ExitStack) -> str:
    one = attach(stack, victim(3))
    stack.callback(os.close, os.open(one.path, os.O_RDONLY))
    unname(one)
    return victim(3)


def nameless_namespace_held_by_a_mount(stack: ExitStack) -> str:
    one = attach(stack, victim(3))
    run(f"touch /run/kept && mount --bind {one.path} /run/kept")
    stack.callback(run, "umount /run/kept && rm /run/kept")
    unname(one)
    return victim(3)


def nameless_namespace_and_the_record_lost(stack: ExitStack) -> str:
    one = attach(stack, victim(3))
    _process_in(stack, one)
    forget(victim(3), companion=one)
    unname(one)
    return victim(3)


def namespace_in_no_process_descriptor_or_mount(stack: ExitStack) -> str:
    one = stack.enter_context(pod())
    run(f"ip link set {netdev_of(victim(4))} netns {one.netns}")
    left, right = (stack.enter_context(s) for s in socket.socketpair(socket.AF_UNIX))
    fd = os.open(one.path, os.O_RDONLY)
    # A descriptor in flight is in nobody's table (unix(7)).
    socket.send_fds(left, [b"x"], [fd])
    os.close(fd)
    unname(one)
    stack.callback(right.close)
    return victim(4)


def record_lost_and_the_pod_died(stack: ExitStack) -> str:
    one = attach(stack, victim(4))
    forget(victim(4), companion=one)
    unname(one)
    wait_home(victim(4))
    return victim(4)


def vf_renamed(stack: ExitStack) -> str:
    run(f"ip link set {netdev_of(victim(4))} name left0")
    return victim(4)


def temporary_name_left(stack: ExitStack) -> str:
    run(f"ip link set {netdev_of(victim(5))} name dev17")
    return victim(5)


def admin_mac_left(stack: ExitStack) -> str:
    run(f"ip link set {netdev_of(PFS[0])} vf 4 mac 02:00:00:00:99:01")
    return victim(4)


def vlan_left(stack: ExitStack) -> str:
    run(f"ip link set {netdev_of(PFS[0])} vf 4 vlan 77 qos 3")
    return victim(4)


def trust_left(stack: ExitStack) -> str:
    run(f"ip link set {netdev_of(PFS[0])} vf 5 trust on")
    return victim(5)


def spoof_check_left_off(stack: ExitStack) -> str:
    run(f"ip link set {netdev_of(PFS[0])} vf 5 spoofchk off")
    return victim(5)


def rate_left(stack: ExitStack) -> str:
    run(f"ip link set {netdev_of(PFS[0])} vf 5 max_tx_rate 50")
    return victim(5)


def driver_left_bound_to_vfio(stack: ExitStack) -> str:
    _bind(victim(5), "vfio-pci")
    return victim(5)


def _bind(address: str, driver: str | None) -> None:
    _write(f"{DEVICES}/{address}/driver_override", driver or "\n")
    if driver_of(address):
        _write(f"{DEVICES}/{address}/driver/unbind", address)
    _write("/sys/bus/pci/drivers_probe", address)
    _write(f"{DEVICES}/{address}/driver_override", "\n")
    settle()


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def override_left(stack: ExitStack) -> str:
    _write(f"{DEVICES}/{victim(5)}/driver_override", "vfio-pci")
    return victim(5)


def no_driver(stack: ExitStack) -> str:
    _write(f"{DEVICES}/{victim(5)}/driver/unbind", victim(5))
    return victim(5)


def vfs_removed_under_us(stack: ExitStack) -> str:
    address = victim(3, OTHER)
    attach(stack, address)
    stack.callback(settle)
    stack.callback(_write, f"{DEVICES}/{OTHER}/sriov_numvfs", "7")
    _write(f"{DEVICES}/{OTHER}/sriov_numvfs", "0")
    return address


def vfs_made_anew_under_us(stack: ExitStack) -> str:
    address = victim(3, OTHER)
    attach(stack, address)
    for number in ("0", "7"):
        _write(f"{DEVICES}/{OTHER}/sriov_numvfs", number)
    settle()
    return address


def driver_of_a_device_in_use_changed(stack: ExitStack) -> str:
    address = victim(6)
    attach(stack, address, dpdk={"dpdk_driver": "vfio-pci"})
    _bind(address, "igbvf")
    return address


def pf_renamed(stack: ExitStack) -> str:
    address = victim(3, OTHER)
    attach(stack, address)
    name = netdev_of(OTHER)
    run(f"ip link set {name} down && ip link set {name} name wan9 && ip link set wan9 up")
    settle()
    stack.callback(settle)
    stack.callback(_pf_as_before, name)
    return address


def _pf_as_before(name: str) -> None:
    # udevd has made an altname of the old name.
    run(f"ip link set wan9 down; ip link property del dev wan9 altname {name} || true")
    run(f"ip link set wan9 name {name} && ip link set {name} up")


def pf_down(stack: ExitStack) -> str:
    attach(stack, victim(3, OTHER))
    run(f"ip link set {netdev_of(OTHER)} down")
    return OTHER


def rebooted_with_the_records_kept(stack: ExitStack) -> str:
    one = attach(stack, victim(4))
    unname(one)
    wait_home(victim(4))
    edit_record(victim(4), boot_id="00000000-0000-4000-8000-000000000000")
    return victim(4)


def _clear_torn() -> None:
    """Remove what repair has set aside for the administrator to read; it must be there."""
    (name,) = os.listdir(f"{STATE}/journal-torn")
    os.unlink(f"{STATE}/journal-torn/{name}")


def two_records_for_one_vf(stack: ExitStack) -> str:
    stack.callback(_clear_torn)
    attach(stack, victim(4))
    run(f"cp {record_path(victim(4))} {record_path(victim(5))}")
    return victim(4)


def torn_record_of_a_living_pod(stack: ExitStack) -> str:
    stack.callback(_clear_torn)
    attach(stack, victim(4), vlan=11)
    with open(record_path(victim(4)), "r+") as file:
        file.truncate(300)
    return victim(4)


def attachment_never_finished(stack: ExitStack) -> str:
    attach(stack, victim(4))
    edit_record(victim(4), stage="intended")
    return victim(4)


def record_of_a_later_version(stack: ExitStack) -> str:
    attach(stack, victim(4))
    edit_record(victim(4), schema=99)
    return victim(4)


def claim_of_a_living_pod_lost(stack: ExitStack) -> str:
    attach(stack, victim(4))
    os.unlink(f"{STATE}/pci/{victim(4)}")
    return victim(4)


def stale_claim(stack: ExitStack) -> str:
    _write(f"{STATE}/pci/{victim(4)}", "/run/netns/long-gone")
    return victim(4)


def claim_of_a_living_foreign_owner(stack: ExitStack) -> str:
    one = stack.enter_context(pod())
    _write(f"{STATE}/pci/{victim(4)}", one.path)
    return victim(4)


def vf_in_a_living_foreign_namespace(stack: ExitStack) -> str:
    run(f"ip netns add foreign && ip link set {netdev_of(victim(4))} netns foreign")
    return victim(4)


def temporary_file_of_a_killed_write(stack: ExitStack) -> str:
    child = subprocess.Popen(["true"])
    child.wait()
    path = f"{STATE}/journal/.{victim(4)}.json.{child.pid}.12345"
    _write(path, "{")
    os.utime(path, (0, 0))
    return path


def netdev_left_up(stack: ExitStack) -> str:
    run(f"ip link set {netdev_of(victim(4))} up")
    return victim(4)


def state_file_without_anybody(stack: ExitStack) -> str:
    """What sriov-cni leaves of a pod whose namespace went first."""
    netdev = netdev_of(victim(5))
    saved = {"HostIFName": netdev, "AdminMAC": "", "EffectiveMAC": "", "Vlan": 0}
    value = {"deviceID": victim(5), "Master": netdev_of(PFS[0]), "vlan": 88, "OrigVfState": saved}
    _write(f"{STATE}/{'ab' * 32}-net1", json.dumps(value))
    run(f"ip link set {netdev_of(PFS[0])} vf 5 vlan 88")
    return victim(5)


def state_of_2018_of_a_dead_dpdk_pod(stack: ExitStack) -> str:
    one = attach(stack, victim(5), dpdk={"dpdk_driver": "vfio-pci", "kernel_driver": "igbvf"},
                 if0=netdev_of(PFS[0]))  # fmt: skip
    os.unlink(record_path(victim(5)))
    unname(one)
    os.unlink(f"{STATE}/pci/{victim(5)}")
    return victim(5)


def one_mac_on_two_vfs(stack: ExitStack) -> str:
    with open(f"/sys/class/net/{netdev_of(victim(5))}/address") as file:
        mac = file.read().strip()
    run(f"ip link set {netdev_of(PFS[0])} vf 6 mac {mac}")
    return victim(6)


def record_that_names_a_file_of_others(stack: ExitStack) -> str:
    """Giving it back would remove that file."""
    stack.callback(_clear_torn)
    attach(stack, victim(4))
    edit_record(victim(4), saved_files=["/etc/hostname"])
    return victim(4)


def fifo_among_the_records(stack: ExitStack) -> str:
    stack.callback(_clear_torn)
    os.mkfifo(f"{STATE}/journal/x.json")
    return f"{STATE}/journal/x.json"


def folder_where_a_claim_should_be(stack: ExitStack) -> str:
    stack.callback(run, f"rmdir {STATE}/journal-torn/*")
    os.mkdir(f"{STATE}/pci/{victim(4)}")
    return victim(4)


def call_half_written_into_the_spool(stack: ExitStack) -> str:
    child = subprocess.Popen(["true"])
    child.wait()
    os.makedirs(f"{STATE}/spool", exist_ok=True)
    path = f"{STATE}/spool/.{'ab' * 32}.net1.1700000000123456789.{child.pid}"
    _write(path, "half")
    os.utime(path, (0, 0))
    return path


def virtual_machine_with_a_dev_of_its_own(stack: ExitStack) -> str:
    """A container's /dev is a file system of its own: the path of its files says nothing here."""
    address, own = victim(5), "/run/own-dev"
    _bind(address, "vfio-pci")
    group = os.path.basename(os.readlink(f"{DEVICES}/{address}/iommu_group"))
    node = os.stat(f"/dev/vfio/{group}").st_rdev
    number = f"{os.major(node)} {os.minor(node)}"
    os.makedirs(own, exist_ok=True)
    stack.callback(os.rmdir, own)
    script = f"mount -t tmpfs none {own} && mkdir {own}/vfio && cd {own}/vfio && "
    script += f"mknod {group} c {number} && exec 3<>{group} && echo open && exec cat"
    child = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    stack.callback(child.communicate)
    assert child.stdout is not None
    assert child.stdout.readline() == b"open\n"
    return address


def _machine_ends(stack: ExitStack) -> None:
    stack.close()


def huge_pages_gone(stack: ExitStack) -> str:
    run("sysctl -q vm.nr_hugepages=0")
    stack.callback(run, "sysctl -q vm.nr_hugepages=2")
    return victim(1)


def _pages_again(_stack: ExitStack) -> None:
    run("sysctl -q vm.nr_hugepages=2")


def module_removed(stack: ExitStack) -> str:
    address = victim(6)
    attach(stack, address, dpdk={"dpdk_driver": "igb_uio"})
    _bind(address, "igbvf")
    stack.callback(run, "modprobe igb_uio")
    run("rmmod igb_uio")
    return address


def kubelet_without_sockets(stack: ExitStack) -> str:
    os.makedirs("/var/lib/kubelet/device-plugins")
    stack.callback(run, "rm -rf /var/lib/kubelet")
    return "/var/lib/kubelet/device-plugins/kubelet.sock"


def _kubelet_starts(_stack: ExitStack) -> None:
    run("mkdir -p /var/lib/kubelet/pod-resources")
    for name in ("device-plugins", "pod-resources"):
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/var/lib/kubelet/{name}/kubelet.sock")


def kubelets_checkpoint_damaged(stack: ExitStack) -> str:
    kubelet_without_sockets(stack)
    _kubelet_starts(stack)
    path = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"
    _write(path, "{")
    return path


def _kubelet_writes(_stack: ExitStack) -> None:
    checkpoint: dict[str, Any] = {"Data": {"RegisteredDevices": {}}}
    path = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"
    _write(path, json.dumps(checkpoint))


def _apply(stack: ExitStack) -> str:
    """Have VFs 5 and 6 of the other PF set up by a file, until the stack ends."""
    text = f"""pfs:
  - match: {{address: "{OTHER}"}}
    vfs:
      - {{range: "5", vlan: 55, spoofchk: false}}
      - {{range: "6", driver: vfio-pci}}
"""
    _write(_DESIRED, text)
    os.chmod(_DESIRED, 0o600)
    stack.callback(settle)
    stack.callback(run, "hwmgr apply --revert")
    _apply_again(stack)
    return OTHER


_DESIRED = "/run/desired.yaml"
_APPLIED = f"{STATE}/applied/{OTHER}.json"


def _apply_again(_stack: ExitStack) -> None:
    run(f"hwmgr apply {_DESIRED}")
    settle()


def vfs_made_anew_after_apply(stack: ExitStack) -> str:
    _apply(stack)
    for number in ("0", "7"):
        _write(f"{DEVICES}/{OTHER}/sriov_numvfs", number)
    settle()
    return OTHER


def vlan_changed_after_apply(stack: ExitStack) -> str:
    """Repair gives it the VLAN that apply gave it, not none."""
    _apply(stack)
    run(f"ip link set {netdev_of(OTHER)} vf 5 vlan 66")
    return OTHER


def apply_that_was_killed(stack: ExitStack) -> str:
    _apply(stack)
    with open(_APPLIED) as file:
        value = json.load(file)
    _write(_APPLIED, json.dumps({**value, "stage": "applying"}))
    return OTHER


def rebooted_and_not_applied_since(stack: ExitStack) -> str:
    _apply(stack)
    run("hwmgr apply --revert")
    settle()
    other = {"boot_id": "00000000-0000-4000-8000-000000000000", "stage": "applied"}
    value: dict[str, Any] = {
        "address": OTHER, "source": _DESIRED, "since": 0, "before": {}, "vfs": None,
        "given": None, "unprobed": False, "steps": [], "schema": 1, **other,
    }  # fmt: skip
    _write(_APPLIED, json.dumps(value))
    return OTHER


def record_of_apply_torn(stack: ExitStack) -> str:
    _apply(stack)
    run(f"cp {_APPLIED} /run/applied.json")
    _write(_APPLIED, "{")
    return OTHER


def _record_of_apply_back(_stack: ExitStack) -> None:
    run(f"mv /run/applied.json {_APPLIED}")


def record_of_apply_for_a_pf_that_is_gone(stack: ExitStack) -> str:
    gone = "0000:fe:00.0"
    os.makedirs(f"{STATE}/applied", exist_ok=True)
    value = {
        "address": gone, "boot_id": "x", "stage": "applied", "source": _DESIRED, "since": 0,
        "before": {}, "vfs": None, "given": None, "unprobed": False, "steps": [], "schema": 1,
    }  # fmt: skip
    _write(f"{STATE}/applied/{gone}.json", json.dumps(value))
    return gone


def _pod_ends(stack: ExitStack) -> None:
    stack.close()


def _foreign_ends(_stack: ExitStack) -> None:
    run("ip netns del foreign")
    wait_home(victim(4))


def _schema_again(_stack: ExitStack) -> None:
    edit_record(victim(4), schema=1)


DAMAGES = (
    Damage(record_deleted, "record-missing", "hwmgr:"),
    Damage(record_and_claim_and_state_file_deleted, "record-missing", "hwmgr:"),
    Damage(pod_died_without_DEL, "vf-leaked", "does not lead to namespace"),
    Damage(nameless_namespace_held_by_a_process, "netns-nameless", "(sleep)"),
    Damage(nameless_namespace_held_by_a_descriptor, "netns-nameless", "descriptor "),
    Damage(nameless_namespace_held_by_a_mount, "netns-nameless", "mount /run/kept"),
    Damage(nameless_namespace_and_the_record_lost, "vf-lost-nameless", "(sleep)"),
    Damage(namespace_in_no_process_descriptor_or_mount, "vf-nowhere", "looked through every",
           unlike=NEW_MAC),
    Damage(record_lost_and_the_pod_died, "alias-left", "hwmgr:"),
    Damage(vf_renamed, "vf-name", "enp1s0v<index>"),
    Damage(temporary_name_left, "vf-name", "enp1s0v<index>"),
    Damage(admin_mac_left, "mac-left", "02:00:00:00:99:01"),
    Damage(vlan_left, "vf-settings", "VLAN 77"),
    Damage(trust_left, "vf-settings", "trust on"),
    Damage(spoof_check_left_off, "vf-settings", "spoof check off, on for all other"),
    Damage(rate_left, "vf-settings", "rate 0-50"),
    Damage(driver_left_bound_to_vfio, "vf-driver-left", "driver vfio-pci", unlike=NEW_MAC),
    Damage(override_left, "override-left", "vfio-pci"),
    Damage(no_driver, "vf-unbound", "no driver", unlike=NEW_MAC),
    Damage(vfs_removed_under_us, "record-no-device", "no such device", unlike=NEW_VFS),
    Damage(vfs_made_anew_under_us, "vf-lost", "driver igbvf", unlike=NEW_VFS),
    Damage(driver_of_a_device_in_use_changed, "vf-lost", "driver igbvf"),
    Damage(pf_renamed, "pf-renamed", "wan9"),
    Damage(pf_down, "pf-down", "1 records of its VFs"),
    Damage(rebooted_with_the_records_kept, "record-other-boot", "written in boot 00000000"),
    Damage(two_records_for_one_vf, "record-two", "record of it too"),
    Damage(torn_record_of_a_living_pod, "record-torn", ""),
    Damage(attachment_never_finished, "record-unfinished", "stage intended"),
    Damage(record_of_a_later_version, "record-schema", "schema 99", _schema_again),
    Damage(claim_of_a_living_pod_lost, "claim-missing", "absent"),
    Damage(stale_claim, "claim-stale", "/run/netns/long-gone"),
    Damage(claim_of_a_living_foreign_owner, "vf-foreign", "names /run/netns/pod-", _pod_ends),
    Damage(vf_in_a_living_foreign_namespace, "vf-foreign", "mount /run/netns/foreign",
           _foreign_ends),
    Damage(temporary_file_of_a_killed_write, "temp-file", "has ended"),
    Damage(netdev_left_up, "vf-up", "idle VFs are down"),
    Damage(state_file_without_anybody, "companion-orphaned", "no record, no living claim"),
    Damage(state_of_2018_of_a_dead_dpdk_pod, "companion-orphaned", "no record, no living claim",
           unlike=NEW_MAC),
    Damage(one_mac_on_two_vfs, "mac-duplicate", "ip link show", unlike=NEW_MAC),
    Damage(record_that_names_a_file_of_others, "record-torn", "no state file of container"),
    Damage(fifo_among_the_records, "record-torn", "no plain file"),
    Damage(folder_where_a_claim_should_be, "claim-torn", "no plain file"),
    Damage(call_half_written_into_the_spool, "temp-file", "nobody has written to it"),
    Damage(virtual_machine_with_a_dev_of_its_own, "vf-foreign", "(cat) has its device file open",
           _machine_ends, unlike=NEW_MAC),
    Damage(huge_pages_gone, "hugepages", "0 of 0 of 2048 kB", _pages_again),
    Damage(module_removed, "driver-missing", "no such driver"),
    Damage(kubelet_without_sockets, "kubelet-socket", "no socket", _kubelet_starts),
    Damage(kubelets_checkpoint_damaged, "kubelet-checkpoint", "JSONDecodeError", _kubelet_writes),
    Damage(vfs_made_anew_after_apply, "applied-drift", "it is to be on vfio-pci", _apply_again,
           unlike=NEW_VFS),
    Damage(vlan_changed_after_apply, "applied-drift", "VF 5 has vlan 66, it is to have 55",
           unlike=NEW_VFS),
    Damage(apply_that_was_killed, "applied-unfinished", "stage applying", _apply_again,
           unlike=NEW_VFS),
    Damage(rebooted_and_not_applied_since, "applied-other-boot", "written in boot 00000000",
           _apply_again, unlike=NEW_VFS),
    Damage(record_of_apply_torn, "applied-torn", "Expecting property name", _record_of_apply_back,
           unlike=NEW_VFS),
    Damage(record_of_apply_for_a_pf_that_is_gone, "applied-no-device", "no such device"),
)  # fmt: skip
