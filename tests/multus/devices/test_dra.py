"""Devices by dynamic resource allocation: claims and slices as the API server has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from multus.api.clusterapi import ApiForbiddenError, ApiNotFoundError
from multus.devices import dra
from multus.devices.dra import ClaimError, has_claims
from multus.jsonfields import FieldError

if TYPE_CHECKING:
    from multus.jsonfields import Json

DEVICE_ID = "k8s.cni.cncf.io/deviceID"
RESOURCE = "k8s.cni.cncf.io/resourceName"


class FakeClaims:
    """The API server's claims and slices; see multus.devices.dra.ClaimReader."""

    def __init__(self) -> None:
        self.claims: dict[str, Json] = {}
        self.slices: list[Json] = []
        self.asked: list[str] = []

    def claim(self, name: str, results: list[Json] | None) -> None:
        allocation = None if results is None else {"devices": {"results": results}}
        self.claims[f"ns/{name}"] = {"status": {"allocation": allocation}}

    def slice(
        self, driver: str, pool: str, node: str, *devices: dict[str, Any], generation: int = 1
    ) -> None:
        typed = [
            {
                "name": device["name"],
                "attributes": {
                    name: {"string": value} for name, value in device["attributes"].items()
                },
            }
            for device in devices
        ]
        spec = {
            "driver": driver,
            "nodeName": node,
            "pool": {"name": pool, "generation": generation, "resourceSliceCount": 1},
            "devices": typed,
        }
        self.slices.append({"spec": spec})

    def resource_claim(self, namespace: str, name: str) -> Json:
        self.asked.append(f"claim {namespace}/{name}")
        try:
            return self.claims[f"{namespace}/{name}"]
        except KeyError:
            raise ApiNotFoundError(name, "no such claim", 404) from None

    def resource_slices(self, node: str, driver: str) -> list[Json]:
        self.asked.append(f"slices {node} {driver}")
        specs: list[Any] = [item["spec"] for item in self.slices]
        return [{"spec": spec} for spec in specs if spec["nodeName"] == node]


def vf(name: str, device_id: str, resource: str = "intel.com/vf") -> dict[str, Any]:
    return {"name": name, "attributes": {DEVICE_ID: device_id, RESOURCE: resource}}


def given(device: str, request: str = "r", **more: Any) -> Json:
    return {"driver": "drv", "pool": "p", "device": device, "request": request, **more}


def pod(*claims: tuple[str, str], status: object = None) -> Json:
    """Return a pod with claims of the spec: (name, fixed object name or "")."""
    items = [{"name": name, **({"resourceClaimName": obj} if obj else {})} for name, obj in claims]
    return {
        "metadata": {"namespace": "ns"},
        "spec": {"nodeName": "n1", "resourceClaims": items},
        "status": status or {},
    }


def devices_of_pod(asked: Json, claims: FakeClaims) -> list[tuple[str, str]]:
    return dra.devices_of_pod(asked, ["a", "b"], claims)


@pytest.fixture
def claims() -> FakeClaims:
    claims = FakeClaims()
    claims.slice("drv", "p", "n1", vf("vf0", "a0"), vf("vf1", "a1"), vf("vf2", "a2"))
    return claims


def test_claims_come_in_the_order_of_the_spec_and_slices_are_asked_for_once(
    claims: FakeClaims,
) -> None:
    claims.claim("made-2", [given("vf2")])
    claims.claim("fixed", [given("vf1"), given("vf0")])
    made = {"resourceClaimStatuses": [{"name": "second", "resourceClaimName": "made-2"}]}
    asked = pod(("first", "fixed"), ("second", ""), status=made)
    assert has_claims(asked)
    assert [device for _, device in devices_of_pod(asked, claims)] == ["a1", "a0", "a2"]
    assert claims.asked == ["claim ns/fixed", "slices n1 drv", "claim ns/made-2"]


def test_a_pod_without_claims_asks_nothing(claims: FakeClaims) -> None:
    not_needed = {"resourceClaimStatuses": [{"name": "c"}]}
    assert not has_claims(pod())
    assert not has_claims(pod(("c", ""), status=not_needed))
    assert devices_of_pod(pod(("c", ""), status=not_needed), claims) == []
    assert claims.asked == []


def test_what_a_pod_may_only_look_at_is_not_its_own(claims: FakeClaims) -> None:
    claims.claim("c", [given("vf0", adminAccess=True), given("vf1")])
    assert devices_of_pod(pod(("c", "c")), claims) == [("intel.com/vf", "a1")]


def test_slices_of_an_older_generation_of_another_pool_or_driver_do_not_count(
    claims: FakeClaims,
) -> None:
    claims.slice("drv", "p", "n1", vf("vf0", "new"), generation=2)
    claims.slice("drv", "q", "n1", vf("vf0", "other-pool"), generation=3)
    claims.slice("else", "p", "n1", vf("vf0", "other-driver"), generation=4)
    claims.slice("drv", "p", "n2", vf("vf0", "other-node"), generation=5)
    claims.claim("c", [given("vf0"), given("vf1")])
    assert devices_of_pod(pod(("c", "c")), claims) == [("intel.com/vf", "new")]


def test_the_first_beta_has_attributes_one_level_down(claims: FakeClaims) -> None:
    spec: Any = claims.slices[0]["spec"]
    spec["devices"] = [
        {"name": item["name"], "basic": {"attributes": item["attributes"]}}
        for item in spec["devices"]
    ]
    claims.claim("c", [given("vf0")])
    assert devices_of_pod(pod(("c", "c")), claims) == [("intel.com/vf", "a0")]


def extended(*mappings: tuple[str, ...]) -> Json:
    items = [
        {"resourceName": resource, "requestName": request, "containerName": "".join(container)}
        for resource, request, *container in mappings
    ]
    status = {"resourceClaimName": "x", "requestMappings": items}
    return pod(status={"extendedResourceClaimStatus": status})


def test_extended_resources_that_a_driver_serves(claims: FakeClaims) -> None:
    claims.slice("drv", "gpus", "n1", {"name": "gpu", "attributes": {}})
    claims.claim(
        "x", [given("vf1", "r0"), given("vf0", "r1"), {**given("gpu", "r2"), "pool": "gpus"}]
    )
    asked = extended(("intel.com/vf", "r1"), ("intel.com/vf", "r0"), ("gpu.com/gpu", "r2"))
    assert has_claims(asked)
    assert [device for _, device in devices_of_pod(asked, claims)] == ["a0", "a1"]


def test_extended_resources_go_by_the_order_of_the_containers(claims: FakeClaims) -> None:
    claims.claim("x", [given("vf0", "r0"), given("vf1", "r1"), given("vf2", "r2")])
    resource = "intel.com/vf"
    asked = extended((resource, "r0", "?"), (resource, "r1", "b"), (resource, "r2", "a"))
    assert [device for _, device in devices_of_pod(asked, claims)] == ["a2", "a1", "a0"]


def test_extended_resources_that_contradict_the_device_fail(claims: FakeClaims) -> None:
    claims.claim("x", [given("vf0", "r0")])
    with pytest.raises(ClaimError, match=r"allocated as other/x and calls itself intel.com/vf"):
        devices_of_pod(extended(("other/x", "r0")), claims)
    with pytest.raises(ClaimError, match=r"nothing is allocated for intel.com/vf"):
        devices_of_pod(extended(("intel.com/vf", "r9")), claims)


def test_a_claim_without_an_allocation_and_one_that_is_gone_fail(claims: FakeClaims) -> None:
    claims.claims["ns/c"] = {"status": {}}
    with pytest.raises(ClaimError, match="ResourceClaim ns/c: nothing is allocated") as error:
        devices_of_pod(pod(("c", "c")), claims)
    assert error.value.claim == "ns/c"
    with pytest.raises(ApiNotFoundError):
        devices_of_pod(pod(("c", "gone")), claims)


def test_a_refusal_is_passed_on(claims: FakeClaims) -> None:
    class Refusing(FakeClaims):
        def resource_claim(self, namespace: str, name: str) -> Json:
            raise ApiForbiddenError("/apis/resource.k8s.io", "no", 403)

    with pytest.raises(ApiForbiddenError):
        devices_of_pod(pod(("c", "c")), Refusing())


@pytest.mark.parametrize(
    "broken",
    [
        {"status": {"allocation": []}},
        {"status": {"allocation": {"devices": {"results": [1]}}}},
        {"status": {"allocation": {"devices": {"results": [{"driver": 1}]}}}},
    ],
)
def test_objects_of_another_shape_are_errors(claims: FakeClaims, broken: Json) -> None:
    claims.claims["ns/c"] = broken
    with pytest.raises(FieldError):
        devices_of_pod(pod(("c", "c")), claims)
