"""From delegates to attachments: names, versions, arguments, checked before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multus import cnitypes
from multus import version as versions
from multus.chain import Attachment
from multus.cniargs import K8sArgs, delegate_args
from multus.cnitypes import CNIError
from multus.jsonfields import Fields

if TYPE_CHECKING:
    from multus.cnitypes import CmdArgs
    from multus.config import NetConf
    from multus.delegates import Delegate
    from multus.jsonfields import Json

_OURSELVES = ("multus", "multus-shim")
# libcni's records are files <network>-<container>-<interface>; a file name has 255 bytes, and a
# temporary one beside it is longer by some.
_LONGEST_NAMES = 210
# NPWG device information specification 1.1.0, section 4.
_DEVICE_INFO_FOLDER = "/var/run/k8s.cni.cncf.io/devinfo/cni"


def plan_attachments(
    conf: NetConf, delegates: list[Delegate], args: CmdArgs, pod: K8sArgs
) -> list[Attachment]:
    """Return what to attach, in order; raises CNIError 1 or 7 and FieldError."""
    attachments = plan_configured(conf, delegates, args, pod)
    for item in attachments:
        _check(item)
    names = [item.ifname for item in attachments]
    for name in names:
        if names.count(name) > 1:
            raise CNIError(
                cnitypes.INVALID_CONFIG, f"two networks of the pod want the interface name {name}"
            )
    return attachments


def plan_configured(
    conf: NetConf, delegates: list[Delegate], args: CmdArgs, pod: K8sArgs
) -> list[Attachment]:
    """Return the attachments of configured delegates, unchecked."""
    return [
        _attachment(conf, delegate, index, args, pod) for index, delegate in enumerate(delegates)
    ]


def plan_saved(
    conf: NetConf, delegates: list[Delegate], args: CmdArgs, pod: K8sArgs
) -> list[Attachment]:
    """Return the attachments of delegates that multus-cni saved, without judging them: they exist.

    It gives the version of multus to lists that have none, and leaves single plugins without.
    """
    return [
        _attachment(conf, delegate, index, args, pod, fill_single=False)
        for index, delegate in enumerate(delegates)
    ]


def _attachment(
    conf: NetConf,
    delegate: Delegate,
    index: int,
    args: CmdArgs,
    pod: K8sArgs,
    *,
    fill_single: bool = True,
) -> Attachment:
    version = conf.cni_version or versions.FALLBACK
    complete = delegate.completed(conf.name, version if delegate.is_list or fill_single else "")
    ifname = delegate.request.ifname or (args.ifname if delegate.master else f"net{index}")
    return Attachment(
        delegate=complete,
        container_id=args.container_id,
        netns=args.netns,
        ifname=ifname,
        cni_args=tuple(delegate_args(pod, args.args)),
        capability_args=capability_args(
            complete, conf.runtime_config, container_id=args.container_id, ifname=ifname
        ),
    )


def _check(item: Attachment) -> None:
    plugins = item.delegate.plugin_list()
    if not cnitypes.valid_name(plugins.name):
        raise CNIError(
            cnitypes.INVALID_CONFIG,
            f"network name {plugins.name!r} may hold only letters, digits, '_', '.' and '-'",
        )
    if len(plugins.name) + len(item.container_id) > _LONGEST_NAMES:
        raise CNIError(
            cnitypes.INVALID_CONFIG,
            f"network name {plugins.name[:20]!r}… of {len(plugins.name)} characters is too long: "
            "with the container's id it names a file",
        )
    if plugins.cni_version not in versions.SUPPORTED:
        raise CNIError(
            cnitypes.INCOMPATIBLE_VERSION,
            f"network {plugins.name!r} has cniVersion {plugins.cni_version!r}, which is not one of "
            f"{', '.join(versions.SUPPORTED)}",
        )
    fault = cnitypes.ifname_fault(item.ifname)
    if fault:
        raise CNIError(cnitypes.INVALID_CONFIG, f"network {plugins.name!r}: {fault}")
    for plugin in plugins.plugins:
        kind = Fields(plugin, "a plugin").text("type")
        if kind in _OURSELVES:
            raise CNIError(
                cnitypes.INVALID_CONFIG, f"network {plugins.name!r} delegates to {kind} itself"
            )


def capability_args(
    delegate: Delegate, runtime_config: Json, *, container_id: str, ifname: str
) -> Json:
    """Merge what the runtime gives with what the pod asks for of this delegate.

    The master gets the runtime's alone; for others the request of the pod wins.
    """
    args = dict(runtime_config)
    if not delegate.master:
        wanted: Json = {
            "portMappings": list(delegate.request.port_mappings),
            "bandwidth": delegate.request.bandwidth,
            "ips": list(delegate.request.ips),
            "mac": delegate.request.mac,
            "infinibandGUID": delegate.request.guid,
            "deviceID": delegate.device_id,
        }
        args.update({name: member for name, member in wanted.items() if member})
    if args.get("deviceID") and not args.get("CNIDeviceInfoFile"):
        file = f"{delegate.name}-{container_id}_{ifname}".replace("/", "-")
        args["CNIDeviceInfoFile"] = f"{_DEVICE_INFO_FOLDER}/{file}"
    return args
