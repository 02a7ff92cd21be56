"""The seam: ``type: sriov`` in this process, CNI verbs on one side, hwmgr on the other."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from hwmgr import addressing
from hwmgr.errors import HwmgrError
from hwmgr.manager import Manager
from hwmgr.model import USERSPACE_DRIVERS, AttachRequest, DpdkRequest, Kind
from hwmgr.pci import find_vf, list_pfs
from multus import cnitypes, sriovconf
from multus.clock import stamp
from multus.cniargs import parse_args_leniently
from multus.cnitypes import CNIError, PluginFailedError
from multus.ipam import Addresses, Ipam
from multus.sriovanswer import cni_error, result_of
from multus.translate import to_cni

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hwmgr.model import Attached, Record
    from hwmgr.node import Node
    from multus.delegates import DelegateCall, PluginRunner
    from multus.sriovconf import SriovConf

# sriov-cni logs from "info" on by default; an unknown level counts as info there.
_INFO_LEVELS = ("info", "debug")
# In the note of a device's record.
_CALL_ID = "callId"
_VALID_KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")


class SriovPlugin:
    """Attaches VFs, DPDK devices and PFs of one node; IPAM plugins are run by ``plugins``.

    ``may_save_in`` says whether the node allows the folder that a configuration's ``cniDir`` names.
    ``call_id`` goes into the record of what is attached, "" where nobody will ask.
    """

    def __init__(
        self,
        node: Node,
        plugins: PluginRunner,
        may_save_in: Callable[[str], bool],
        call_id: str = "",
    ) -> None:
        self._node = node
        self._plugins = plugins
        self._may_save_in = may_save_in
        self._call_id = call_id
        self._manager = Manager(node)

    def add(self, call: DelegateCall) -> Mapping[str, object]:
        """See PluginRunner.add. The device first, then its addresses; undone in reverse."""
        conf = _loaded(call)
        ifname = conf.ifname(call.ifname)
        if conf.ipam_type and not conf.l2enable:
            Ipam(self._plugins, conf.ipam_type).locate(call)
        not_undone: list[CNIError] = []
        try:
            with ExitStack() as undo:
                attached, addresses = self._attach(conf, call, ifname, undo, not_undone)
                result = result_of(conf, call, ifname, attached, addresses)
                undo.pop_all()
        except (CNIError, ValueError) as error:
            raise _reported(to_cni(error).also(not_undone, "not undone")) from error
        self._node.checkpoint("sriov.done")
        files = f", {' '.join(attached.device_files)}" if attached.device_files else ""
        what = f"{attached.address} ({attached.kind})"
        self._say(conf, f"{what} is {ifname} of {call.container_id}{files}")
        return result

    def _attach(
        self,
        conf: SriovConf,
        call: DelegateCall,
        ifname: str,
        undo: ExitStack,
        not_undone: list[CNIError],
    ) -> tuple[Attached, Addresses | None]:
        try:
            attached = self._manager.attach(self._request(conf, call, ifname))
            undo.callback(self._take_back, call, ifname, not_undone)
            if not conf.ipam_type or conf.l2enable:
                return attached, None
            ipam = Ipam(self._plugins, conf.ipam_type)
            undo.callback(self._free, ipam, call, not_undone)
            self._node.checkpoint("sriov.ipam")
            addresses = ipam.add(call)
            self._node.checkpoint("sriov.addresses")
            if attached.ifnames:
                self._configure(call, ifname, addresses)
        except HwmgrError as error:
            raise cni_error(error) from error
        return attached, addresses

    def check(self, call: DelegateCall) -> None:
        """See PluginRunner.check."""
        conf = sriovconf.load(call.conf, call.args, for_delete=True)
        try:
            self._manager.check(call.container_id, conf.ifname(call.ifname))
        except HwmgrError as error:
            raise cni_error(error) from error
        if conf.ipam_type and not conf.l2enable:
            Ipam(self._plugins, conf.ipam_type).check(call)

    def delete(self, call: DelegateCall) -> None:
        """See PluginRunner.delete. Hardware and addresses are independent: both are always tried.

        The reference frees addresses first and stops when that fails, which loses the VF.
        """
        conf = sriovconf.load(call.conf, call.args, for_delete=True)
        errors: list[CNIError] = []
        try:
            allowed = conf.cni_dir and self._may_save_in(conf.cni_dir)
            self._manager.detach(
                call.container_id,
                conf.ifname(call.ifname),
                call.netns or None,
                conf.cni_dir if allowed else None,
            )
        except HwmgrError as error:
            errors.append(cni_error(error))
        if conf.ipam_type and not conf.l2enable:
            try:
                Ipam(self._plugins, conf.ipam_type).delete(call)
            except CNIError as error:
                errors.append(error)
        if errors:
            raise errors[0].also(errors[1:], "also")
        self._say(conf, f"{conf.ifname(call.ifname)} of {call.container_id} is given back")

    def take_back(self, call: DelegateCall) -> None:
        """Undo the ADD of this very call, unless somebody has deleted since what it attached.

        The caller holds the container's lock. Addresses go by container and interface, so they
        are whoever's the device is.
        """
        mine = [r for r in self._held(call) if r.note.get(_CALL_ID) == self._call_id]
        if mine and self._call_id:
            self.delete(call)
        else:
            self._node.log(f"what ADD attached to {call.container_id} is gone already")

    def has_record(self, call: DelegateCall) -> bool:
        """Tell whether a record of ours says what DEL gives back, and which namespace it is in."""
        return bool(self._held(call))

    def _held(self, call: DelegateCall) -> list[Record]:
        conf = sriovconf.load(call.conf, call.args, for_delete=True)
        return self._manager.held(call.container_id, conf.ifname(call.ifname))

    def gc(self, call: DelegateCall) -> None:
        """See PluginRunner.gc. Without a list of valid attachments nothing is known to be stale."""
        valid = next((call.conf[key] for key in _VALID_KEYS if key in call.conf), None)
        if not isinstance(valid, list):
            return
        containers = {
            str(v["containerID"]) for v in valid if isinstance(v, dict) and "containerID" in v
        }
        conf = sriovconf.load(call.conf, call.args, for_delete=True)
        problems = self._manager.collect(containers, conf.name)
        if conf.ipam_type:
            Ipam(self._plugins, conf.ipam_type).gc(call)
        _refuse(problems)

    def status(self, call: DelegateCall) -> None:
        """See PluginRunner.status: records can be written and the device that is named is there."""
        conf = sriovconf.load(call.conf, call.args, for_delete=True)
        try:
            self._node.state.writable()
        except HwmgrError as error:
            raise CNIError(cnitypes.NOT_AVAILABLE, f"sriov: {error}") from error
        pfs = list_pfs(self._node.sysfs)
        named = [p for p in pfs if conf.if0 in (p.address, *p.netdevs)] if conf.if0 else pfs
        if not named:
            what = f"PF {conf.if0}" if conf.if0 else "PF"
            raise CNIError(cnitypes.NOT_AVAILABLE, f"sriov: this node has no {what}")

    def release_container(self, container_id: str) -> None:
        """Take back all that a container still holds; raises CNIError when something stays held."""
        _refuse(self._manager.detach_container(container_id))

    def _say(self, conf: SriovConf, text: str) -> None:
        """Log one line, also into sriov-cni's ``logFile`` where the node allows that path."""
        self._node.log(text)
        if conf.log_file and conf.log_level in _INFO_LEVELS and self._may_save_in(conf.log_file):
            from multus.config import LogConfig
            from multus.logfile import append

            fault = append(
                LogConfig(file=conf.log_file),
                f"{stamp(self._node.clock())} [{conf.log_level}] {text}",
            )
            if fault:
                self._node.log(fault)

    def _request(self, conf: SriovConf, call: DelegateCall, ifname: str) -> AttachRequest:
        pod = parse_args_leniently(call.args)
        kind = Kind.DPDK if conf.dpdk else Kind.PF if conf.pf_only else Kind.VF
        dpdk = None
        if conf.dpdk:
            driver, tool = conf.dpdk.dpdk_driver, conf.dpdk.dpdk_tool or None
            dpdk = DpdkRequest(driver, tool, conf.dpdk.kernel_driver or None)
        elif kind is Kind.VF and conf.device and self._on_userspace_driver(conf.device):
            kind = Kind.DPDK
        saved_dir = conf.cni_dir
        if saved_dir and not self._may_save_in(saved_dir):
            self._node.log(f"cniDir {saved_dir} is not allowed on this node; the default is used")
            saved_dir = None
        return AttachRequest(
            container_id=call.container_id,
            ifname=ifname,
            netns_path=call.netns,
            kind=kind,
            device=conf.device,
            pf_name=conf.if0,
            settings=conf.settings,
            mtu=conf.mtu,
            whole_pf=conf.pf_only,
            l2=conf.l2enable,
            dpdk=dpdk,
            network=conf.name or None,
            pod_namespace=pod.pod_namespace or None,
            pod_name=pod.pod_name or None,
            pod_uid=pod.pod_uid or None,
            seed_style=conf.seed_style,
            saved_dir=saved_dir,
            saved_conf=conf.raw,
            note={_CALL_ID: self._call_id} if self._call_id else {},
        )

    def _on_userspace_driver(self, device: str) -> bool:
        return find_vf(self._node.sysfs, device).driver in USERSPACE_DRIVERS

    def _configure(self, call: DelegateCall, ifname: str, addresses: Addresses) -> None:
        kept = addressing.configure(
            self._node, call.netns, ifname, addresses.cidrs(), addresses.kernel_routes()
        )
        for dst in kept:
            self._node.log(f"{ifname}: the pod has a route to {dst} already, which is kept")

    def _take_back(self, call: DelegateCall, ifname: str, not_undone: list[CNIError]) -> None:
        try:
            self._manager.detach(call.container_id, ifname, call.netns)
        except HwmgrError as error:
            not_undone.append(cni_error(error))

    def _free(self, ipam: Ipam, call: DelegateCall, not_undone: list[CNIError]) -> None:
        try:
            ipam.delete(call)
        except CNIError as error:
            not_undone.append(error)


def _loaded(call: DelegateCall) -> SriovConf:
    try:
        return sriovconf.load(call.conf, call.args)
    except CNIError as error:
        raise _reported(error) from error


def _reported(error: CNIError) -> PluginFailedError:
    """Mark an ADD's error as its own report: what it undid by itself needs no DEL to succeed."""
    return PluginFailedError(error.code, error.msg, error.details)


def _refuse(problems: list[str]) -> None:
    if problems:
        raise CNIError(cnitypes.INTERNAL, "sriov: " + problems[0], "; ".join(problems[1:]))
