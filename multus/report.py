"""What is made known about a pod's networks: the network-status annotation, and events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multus import networkstatus
from multus.jsonfields import FieldError, Fields

if TYPE_CHECKING:
    from multus.chain import Attachment
    from multus.devices.deviceinfo import DeviceInfo
    from multus.logs import Log
    from multus.pods import Pod
    from multus.result import Result

STATUS_ANNOTATION = "k8s.v1.cni.cncf.io/network-status"


def write_status(
    pod: Pod,
    items: list[Attachment],
    results: list[Result],
    device_info: DeviceInfo,
    log: Log,
) -> None:
    """Write the annotation with one entry for each interface; raises ApiError."""
    entries = []
    for index, (item, result) in enumerate(zip(items, results, strict=True)):
        try:
            info = device_info.read(info_path(item)) if info_path(item) else None
        except (OSError, ValueError) as error:
            log.problem(f"{item.where()}: device information cannot be read: {error}")
            info = None
        entries += networkstatus.entries(
            result, item.delegate.name, default=index == 0, device_info=info
        )
    text = networkstatus.render(entries)
    if not pod.cluster.annotate(pod.namespace(), pod.name(), pod.uid(), STATUS_ANNOTATION, text):
        log.problem(f"pod {pod.namespace()}/{pod.name()} is gone; its network-status is not kept")


def tell_attached(pod: Pod, items: list[Attachment], results: list[Result]) -> None:
    """Post an event for every network that was attached; best effort."""
    for item, result in zip(items, results, strict=True):
        addresses = _addresses(result)
        if addresses or result.data.get("interfaces"):
            text = f"Add {item.ifname} [{' '.join(addresses)}] from {item.delegate.name}"
            pod.cluster.event(pod.raw, "Normal", "AddedInterface", text)


def info_path(item: Attachment) -> str:
    """Return where the device information of an attachment is, "" when it has none."""
    return str(item.capability_args.get("CNIDeviceInfoFile") or "")


def _addresses(result: Result) -> list[str]:
    try:
        ips = Fields(result.convert("1.0.0").data, "the result").objects("ips") or []
    except (FieldError, ValueError):
        return []
    return [str(ip.get("address", "")) for ip in ips]
