"""Devices that a pod has by dynamic resource allocation: its ResourceClaims, looked up in slices.

A driver tells network devices by two attributes (NPWG device information specification).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from multus.jsonfields import Fields, Json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DEVICE_ID = "k8s.cni.cncf.io/deviceID"
_RESOURCE_NAME = "k8s.cni.cncf.io/resourceName"


class ClaimError(Exception):
    """A claim of the pod is not what a running pod's claim must be."""

    def __init__(self, claim: str, reason: str) -> None:
        super().__init__(f"ResourceClaim {claim}: {reason}")
        self.claim = claim
        self.reason = reason


class ClaimReader(Protocol):
    """The part of an API server that knows claims; both methods raise ApiError."""

    def resource_claim(self, namespace: str, name: str) -> Json:
        """Return a ResourceClaim."""

    def resource_slices(self, node: str, driver: str) -> list[Json]:
        """Return the ResourceSlices of one driver on one node."""


def has_claims(pod: Json) -> bool:
    """Tell whether a pod has devices that kubelet does not list; raises FieldError."""
    return bool(_claim_names(pod)) or _status(pod).present("extendedResourceClaimStatus")


def devices_of_pod(
    pod: Json, containers: Sequence[str], reader: ClaimReader
) -> list[tuple[str, str]]:
    """Return (resource, device id) in the order of the pod's claims.

    Those that stand behind extended resources come last, in the order of ``containers``. Devices
    without the two attributes are none for a network and left out. Raises ClaimError, ApiError and
    FieldError.
    """
    lookup = _Lookup(pod, reader)
    found = []
    for name in _claim_names(pod):
        for result in lookup.results(name):
            device_id, resource = lookup.attributes(result)
            if device_id and resource:
                found.append((resource, device_id))
    return found + list(_extended(pod, containers, lookup))


def _claim_names(pod: Json) -> list[str]:
    """Return the claims' object names in the order of the pod's spec.

    The status lists only claims that were made from templates, those of a fixed name stand in the
    spec alone. A template's claim without a name was not needed (core/v1, PodResourceClaimStatus).
    """
    made = {}
    for item in _status(pod).objects("resourceClaimStatuses") or []:
        status = Fields(item, "resourceClaimStatuses")
        made[status.text("name")] = status.text("resourceClaimName")
    names = []
    spec = Fields(Fields(pod, "the pod").mapping("spec") or {}, "the pod's spec")
    for item in spec.objects("resourceClaims") or []:
        claim = Fields(item, "resourceClaims")
        names.append(made.pop(claim.text("name"), "") or claim.text("resourceClaimName"))
    return [name for name in dict.fromkeys([*names, *made.values()]) if name]


def _extended(pod: Json, containers: Sequence[str], lookup: _Lookup) -> Iterator[tuple[str, str]]:
    """Yield devices that the containers asked for as extended resources.

    Here the pod's status says which resource a device was given for.
    """
    value = _status(pod).mapping("extendedResourceClaimStatus")
    if value is None:
        return
    status = Fields(value, "extendedResourceClaimStatus")
    claim = status.text("resourceClaimName")
    results = lookup.results(claim)
    items = status.objects("requestMappings") or []
    place = {name: index for index, name in enumerate(containers)}
    mappings = [Fields(item, "requestMappings") for item in items]
    mappings.sort(key=lambda mapping: place.get(mapping.text("containerName"), len(place)))
    for mapping in mappings:
        request, resource = mapping.text("requestName"), mapping.text("resourceName")
        given = [result for result in results if result.text("request") == request]
        if not given:
            raise ClaimError(claim, f"nothing is allocated for {resource} (request {request!r})")
        for result in given:
            device_id, stated = lookup.attributes(result)
            if not device_id:
                continue
            if stated and stated != resource:
                raise ClaimError(
                    claim,
                    f"device {result.text('device')} was allocated as {resource} and calls itself "
                    f"{stated}",
                )
            yield resource, device_id


class _Lookup:
    """Claims and slices of one pod; the slices of a driver are asked for once."""

    def __init__(self, pod: Json, reader: ClaimReader) -> None:
        fields = Fields(pod, "the pod")
        self._reader = reader
        self._namespace = Fields(fields.mapping("metadata") or {}, "metadata").text("namespace")
        self._node = Fields(fields.mapping("spec") or {}, "the pod's spec").text("nodeName")
        self._slices: dict[str, list[Fields]] = {}

    def results(self, name: str) -> list[Fields]:
        """Return what was allocated to a claim, without what it may only look at."""
        where = f"{self._namespace}/{name}"
        claim = Fields(self._reader.resource_claim(self._namespace, name), f"claim {where}")
        status = Fields(claim.mapping("status") or {}, f"the status of claim {where}")
        allocation = status.mapping("allocation")
        if allocation is None:
            raise ClaimError(where, "nothing is allocated to it, though its pod is being started")
        devices = Fields(allocation, f"allocation of {where}").mapping("devices") or {}
        results = Fields(devices, f"devices of {where}").objects("results") or []
        items = [Fields(result, f"results of {where}") for result in results]
        return [item for item in items if not item.flag("adminAccess")]

    def attributes(self, result: Fields) -> tuple[str, str]:
        """Return device id and resource name of an allocated device, "" for what it lacks."""
        driver, pool = result.text("driver"), result.text("pool")
        if driver not in self._slices:
            items = self._reader.resource_slices(self._node, driver)
            self._slices[driver] = [_spec(item) for item in items]
        specs = [spec for spec in self._slices[driver] if spec.text("driver") == driver]
        for device in _devices(specs, pool):
            if device.text("name") == result.text("device"):
                # Version v1beta1 has them one level down.
                basic = Fields(device.mapping("basic") or {}, "basic")
                found = device.mapping("attributes") or basic.mapping("attributes") or {}
                return _string(found, _DEVICE_ID), _string(found, _RESOURCE_NAME)
        return "", ""


def _devices(specs: list[Fields], pool: str) -> Iterator[Fields]:
    """Yield the devices of a pool; slices of an older generation do not count any more."""
    slices = []
    for spec in specs:
        of = Fields(spec.mapping("pool") or {}, "pool")
        if of.text("name") == pool:
            slices.append((of.number("generation") or 0, spec))
    newest = max((generation for generation, _ in slices), default=0)
    for generation, spec in slices:
        if generation == newest:
            for device in spec.objects("devices") or []:
                yield Fields(device, "a device")


def _spec(item: Json) -> Fields:
    return Fields(Fields(item, "a ResourceSlice").mapping("spec") or {}, "a ResourceSlice")


def _string(attributes: Json, name: str) -> str:
    value = attributes.get(name)
    return Fields(value, name).text("string") if isinstance(value, dict) else ""


def _status(pod: Json) -> Fields:
    return Fields(Fields(pod, "the pod").mapping("status") or {}, "the pod's status")
