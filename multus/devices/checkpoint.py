"""Read kubelet's own record of the devices that it gave to pods, where its API cannot be asked.

The format is that of kubernetes' pkg/kubelet/cm/devicemanager/checkpoint. Its checksum is over a
dump of Go structures and cannot be checked from outside; kubelet replaces the file by a rename.
"""

from __future__ import annotations

from multus.jsonfields import FieldError, Fields, decode

FILE = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"


class CheckpointError(Exception):
    """The file cannot be read, or is not what kubelet writes; ``reason`` is one line."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def devices_of_pod(path: str, uid: str) -> dict[str, dict[str, list[str]]]:
    """Return container → resource → device ids; {} for a pod without devices.

    Raises CheckpointError.
    """
    if not uid:
        raise CheckpointError(path, "pods are told apart by their uid here, and this one has none")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise CheckpointError(path, error.strerror or str(error)) from error
    try:
        return _of_pod(data, uid)
    except FieldError as error:
        raise CheckpointError(path, str(error)) from error


def _of_pod(data: bytes, uid: str) -> dict[str, dict[str, list[str]]]:
    whole = Fields(decode(data, "kubelet's checkpoint"), "kubelet's checkpoint")
    entries = Fields(whole.value("Data"), "its Data").objects("PodDeviceEntries")
    containers: dict[str, dict[str, list[str]]] = {}
    for item in entries or []:
        entry = Fields(item, "an entry of PodDeviceEntries")
        if entry.text("PodUID") == uid:
            resources = containers.setdefault(entry.text("ContainerName"), {})
            resources.setdefault(entry.text("ResourceName"), []).extend(_ids(entry))
    return containers


def _ids(entry: Fields) -> list[str]:
    """Return the ids of an entry: by NUMA node since kubelet 1.20, a plain list before."""
    if isinstance(entry.value("DeviceIDs"), list):
        return entry.texts("DeviceIDs") or []
    nodes = entry.mapping("DeviceIDs") or {}
    by_node = Fields(nodes, "DeviceIDs")
    return [device_id for node in nodes for device_id in by_node.texts(node) or []]
