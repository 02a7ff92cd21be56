"""Which device of the pod each network gets.

Kubelet says which devices a container has, not which network they are for. The rule: containers
in the order of the pod's spec, then its init containers, whose devices kubelet may have handed on
to a container; inside a container by device id; then claims in the order of the spec. Each network
takes the first one left of its resource, so the same pod always gets the same assignment.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from multus.devices import checkpoint, dra, podresources
from multus.jsonfields import FieldError, Fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from multus.api.cluster import Cluster
    from multus.clock import Clock
    from multus.jsonfields import Json

KUBELET_SECONDS = 10.0

# A pod from a file has a uid of kubelet's own, which its mirror on the API server names here
# (kubernetes, pkg/kubelet/types/pod_update.go, ConfigMirrorAnnotationKey).
_KUBELETS_UID = "kubernetes.io/config.mirror"


class DeviceError(Exception):
    """A network of the pod needs a device that it cannot be given."""


class DeviceSourceError(DeviceError):
    """Nobody can say which devices the pod has; ``source`` was asked. It may well pass."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"the devices of the pod are not known: {source}: {reason}")
        self.source = source
        self.reason = reason


class NoDeviceError(DeviceError):
    """The pod has no device of the resource, or none that is ``left``; ``held`` is how many."""

    def __init__(self, resource: str, network: str, held: int) -> None:
        has = f"all {held} that its containers request are taken" if held else "it has none"
        super().__init__(
            f"network {network} needs a device of {resource} and the pod has none for it: {has}; "
            f"one must be requested in the resources of a container for each such network"
        )
        self.resource = resource
        self.network = network
        self.held = held


class ForeignDeviceError(DeviceError):
    """The pod names a ``device_id`` of a resource, but kubelet did not give it that one."""

    def __init__(self, resource: str, network: str, device_id: str) -> None:
        super().__init__(
            f"network {network} names the device {device_id}, which is none of {resource} that "
            f"the pod was given and no other network has; name one of those, or none"
        )
        self.resource = resource
        self.network = network
        self.device_id = device_id


class KubeletDevices:
    """Kubelet by its socket, else by its checkpoint file; and the API server for claims."""

    def __init__(
        self,
        clock: Clock,
        socket: str = podresources.SOCKET,
        checkpoint_file: str = checkpoint.FILE,
        seconds: float = KUBELET_SECONDS,
    ) -> None:
        self._clock = clock
        self._socket = socket
        self._checkpoint_file = checkpoint_file
        self._seconds = seconds

    def of_pod(
        self, pod: Json, cluster: Cluster | None, deadline: float
    ) -> Mapping[str, Sequence[str]]:
        """Return resource → device ids in the order of assignment.

        ``deadline`` is on the monotonic clock, in seconds. Raises DeviceError and ApiError.
        """
        try:
            containers = _container_names(pod)
            ids = _in_order(containers, self._given(pod, deadline))
            if dra.has_claims(pod):
                if cluster is None:
                    raise DeviceSourceError(
                        "ResourceClaims", "the pod has some and no kubeconfig is configured"
                    )
                _append(ids, dra.devices_of_pod(pod, containers, cluster))
        except dra.ClaimError as error:
            raise DeviceSourceError(f"ResourceClaim {error.claim}", error.reason) from error
        except FieldError as error:
            raise DeviceSourceError("API server", str(error)) from error
        return ids

    def _given(self, pod: Json, deadline: float) -> dict[str, dict[str, list[str]]]:
        meta = Fields(Fields(pod, "the pod").mapping("metadata") or {}, "its metadata")
        if not os.path.exists(self._socket):
            return self._saved(meta, f"{self._socket} does not exist")
        timeout = min(self._seconds, deadline - self._clock.monotonic())
        try:
            return podresources.devices_of_pod(
                self._socket, meta.text("namespace"), meta.text("name"), timeout
            )
        except (podresources.NotServedError, podresources.AmbiguousPodError) as error:
            return self._saved(meta, str(error))
        except podresources.PodResourcesError as error:
            raise DeviceSourceError(error.socket, error.reason) from error

    def _saved(self, meta: Fields, why: str) -> dict[str, dict[str, list[str]]]:
        annotations = Fields(meta.mapping("annotations") or {}, "its annotations")
        uid = annotations.text(_KUBELETS_UID) or meta.text("uid")
        try:
            return checkpoint.devices_of_pod(self._checkpoint_file, uid)
        except checkpoint.CheckpointError as error:
            raise DeviceSourceError(error.path, f"{error.reason}; before it: {why}") from error


class Devices:
    """The devices of one pod during one call; asked for only when a network wants one.

    Not strict is how multus-cni does it: a network whose resource has none left gets none and is
    attached all the same, to whatever its plugin then chooses.
    """

    def __init__(self, ids: Callable[[], Mapping[str, Sequence[str]]], *, strict: bool) -> None:
        self._ask = ids
        self._strict = strict
        self._ids: Mapping[str, Sequence[str]] | None = None
        self._reserved: set[str] = set()
        self._taken: set[tuple[str, str]] = set()

    def reserve(self, device_id: str) -> None:
        """Keep a device for the network that names it; call it before the first ``take``."""
        self._reserved.add(device_id)

    def check(self, resource: str, network: str, device_id: str) -> None:
        """Make sure that a device that the pod names is its own; raises DeviceError, ApiError.

        Whoever may create a pod could otherwise name the device of another.
        """
        taken = (resource, device_id) in self._taken
        if self._strict and (taken or device_id not in self._given().get(resource, ())):
            raise ForeignDeviceError(resource, network, device_id)
        self._taken.add((resource, device_id))

    def take(self, resource: str, network: str) -> str | None:
        """Return the next device of a resource; raises DeviceError and ApiError.

        ``network`` is for the message. Ids are counted for each resource, since only for PCI
        devices they are unique beyond it.
        """
        held = self._given().get(resource, ())
        for device_id in held:
            if device_id not in self._reserved and (resource, device_id) not in self._taken:
                self._taken.add((resource, device_id))
                return device_id
        if self._strict:
            raise NoDeviceError(resource, network, len(held))
        return None

    def _given(self) -> Mapping[str, Sequence[str]]:
        if self._ids is None:
            self._ids = self._ask()
        return self._ids


def _container_names(pod: Json) -> list[str]:
    spec = Fields(Fields(pod, "the pod").mapping("spec") or {}, "the pod's spec")
    return [
        Fields(item, kind).text("name")
        for kind in ("containers", "initContainers")
        for item in spec.objects(kind) or []
    ]


def _in_order(
    names: list[str], containers: Mapping[str, Mapping[str, list[str]]]
) -> dict[str, list[str]]:
    """Return resource → ids; a container that the spec does not name comes last."""
    ids: dict[str, list[str]] = {}
    for name in dict.fromkeys([*names, *sorted(containers)]):
        for resource, given in containers.get(name, {}).items():
            _append(ids, ((resource, device_id) for device_id in sorted(given)))
    return ids


def _append(ids: dict[str, list[str]], devices: Iterable[tuple[str, str]]) -> None:
    for resource, device_id in devices:
        known = ids.setdefault(resource, [])
        # An init container's device is listed again for the container that has it now.
        if device_id not in known:
            known.append(device_id)
