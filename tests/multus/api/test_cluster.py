"""What is asked of an API server, how often and for how long; no time passes here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from multus.api.cluster import ApiLimits, Cluster
from multus.api.clusterapi import (
    ApiConflictError,
    ApiError,
    ApiForbiddenError,
    ApiNameError,
    ApiNotFoundError,
    ApiNotServedError,
    ApiUnreachableError,
)
from tests.multus.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multus.jsonfields import Json

POD = "/api/v1/namespaces/ns1/pods/pod1"
UNREACHABLE = ApiUnreachableError(POD, "Connection refused")
CONFLICT = ApiConflictError(POD, "modified", 409)
GONE = ApiNotFoundError(POD, "not found", 404)


class ScriptedApi:
    """Gives its answers in turn, the last one for ever; an exception is raised.

    An answer takes ``seconds`` of the clock, but no longer than the request's timeout.
    """

    def __init__(self, clock: FakeClock, *answers: Any, seconds: float = 0.0) -> None:
        self._clock, self._answers, self._seconds = clock, list(answers), seconds
        self.asked: list[str] = []
        self.bodies: list[Any] = []
        self.timeouts: list[float] = []
        self.queries: list[Mapping[str, str] | None] = []

    def get(self, path: str, *, timeout: float, query: Mapping[str, str] | None = None) -> Json:
        self.queries.append(query)
        return self._answer(f"GET {path}", timeout)

    def patch(self, path: str, body: object, *, timeout: float, kind: str = "merge") -> Json:
        self.bodies.append(body)
        assert kind == "merge"
        return self._answer(f"PATCH {path}", timeout)

    def create(self, path: str, body: object, *, timeout: float) -> Json:
        self.bodies.append(body)
        return self._answer(f"POST {path}", timeout)

    def _answer(self, asked: str, timeout: float) -> Json:
        self.asked.append(asked)
        self.timeouts.append(timeout)
        self._clock.time += min(self._seconds, timeout)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        found: Json = answer
        return found


def cluster_of(*answers: Any, seconds: float = 0.0, **limits: float) -> tuple[Cluster, ScriptedApi]:
    clock = FakeClock()
    api = ScriptedApi(clock, *answers, seconds=seconds)
    return Cluster(api, clock, ApiLimits(**limits)), api


def pod(uid: str = "uid1") -> Json:
    meta = {"namespace": "ns1", "name": "pod1", "uid": uid, "resourceVersion": "7"}
    return {"metadata": meta}


def failing(status: int) -> ApiError:
    return ApiError(POD, "it failed", status)


def test_paths() -> None:
    cluster, api = cluster_of({"kind": "x"})
    cluster.pod("ns1", "pod1")
    cluster.network_attachment("ns1", "net.1")
    cluster.network("ns1", "n1")
    cluster.network("ns1", "n1", "kubernetes.cni.cncf.io")
    cluster.ready()
    assert api.asked == [
        f"GET {POD}",
        "GET /apis/k8s.cni.cncf.io/v1/namespaces/ns1/network-attachment-definitions/net.1",
        "GET /apis/kubernetes.com/v1/namespaces/ns1/networks/n1",
        "GET /apis/kubernetes.cni.cncf.io/v1/namespaces/ns1/networks/n1",
        "GET /version",
    ]


@pytest.mark.parametrize("passing", [UNREACHABLE, failing(500), failing(503), failing(429)])
def test_what_passes_is_waited_for(passing: ApiError) -> None:
    cluster, api = cluster_of(passing, passing, pod())
    assert cluster.pod("ns1", "pod1") == pod()
    assert api.asked == [f"GET {POD}"] * 3


def test_a_404_that_is_not_of_an_api_server_is_no_pod_that_is_gone() -> None:
    """Somebody else on the way says 404 of everything."""
    cluster, _ = cluster_of(ApiNotServedError(POD, "nothing", 404))
    with pytest.raises(ApiUnreachableError, match="not an API server"):
        cluster.pod("ns1", "pod1")
    with pytest.raises(ApiNotServedError):
        cluster.annotate("ns1", "pod1", "uid1", "k", "v")
    with pytest.raises(ApiNotFoundError):
        cluster.network("ns1", "n1")


def test_waiting_ends() -> None:
    cluster, api = cluster_of(UNREACHABLE)
    with pytest.raises(ApiUnreachableError):
        cluster.pod("ns1", "pod1")
    assert len(api.asked) == 10  # every 250 ms for 2.5 s


def test_waiting_for_a_server_that_hangs_ends_too() -> None:
    cluster, api = cluster_of(UNREACHABLE, seconds=60.0, request=1.0, whole=2.5, poll=0.25)
    with pytest.raises(ApiUnreachableError):
        cluster.pod("ns1", "pod1")
    assert api.timeouts == [1.0, 1.0]


@pytest.mark.parametrize(
    "final",
    [ApiForbiddenError(POD, "no", 401), ApiForbiddenError(POD, "no", 403), GONE, failing(400)],
)
def test_a_refusal_is_final(final: ApiError) -> None:
    cluster, api = cluster_of(final)
    with pytest.raises(type(final)):
        cluster.pod("ns1", "pod1")
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a..b", "A", "a_b", "-a", "a-", "a?x=1", "a%2fb", "é", "a" * 254]
)
def test_no_name_leaves_its_place_in_a_path(name: str) -> None:
    cluster, api = cluster_of({})
    for ask in (cluster.pod, cluster.network_attachment, cluster.network, cluster.resource_claim):
        with pytest.raises(ApiNameError):
            ask(name, "x")
    for ask in (cluster.pod, cluster.network_attachment, cluster.network):
        with pytest.raises(ApiNameError):
            ask("ns1", name)
    with pytest.raises(ApiNameError):
        cluster.annotate("ns1", name, "uid1", "k", "v")
    with pytest.raises(ApiNameError):
        cluster.resource_slices(name, "d.example")
    with pytest.raises(ApiNameError):
        cluster.resource_slices("node1", name)
    assert all(asked == "GET /apis/resource.k8s.io" for asked in api.asked)


def test_an_annotation_is_for_one_pod_only() -> None:
    cluster, api = cluster_of(pod())
    assert cluster.annotate("ns1", "pod1", "uid1", "k", "v")
    assert api.asked == [f"PATCH {POD}/status"]
    assert api.bodies == [{"metadata": {"uid": "uid1", "annotations": {"k": "v"}}}]


def test_a_conflict_is_tried_again() -> None:
    cluster, api = cluster_of(CONFLICT, pod(), CONFLICT, pod(), pod())
    assert cluster.annotate("ns1", "pod1", "uid1", "k", "v")
    assert [asked.split()[0] for asked in api.asked] == ["PATCH", "GET", "PATCH", "GET", "PATCH"]


def test_a_conflict_without_end() -> None:
    answers = [CONFLICT, pod()] * 6
    cluster, api = cluster_of(*answers)
    with pytest.raises(ApiConflictError):
        cluster.annotate("ns1", "pod1", "uid1", "k", "v")
    assert api.asked.count(f"PATCH {POD}/status") == 5


@pytest.mark.parametrize("refusal", [CONFLICT, failing(422)])
@pytest.mark.parametrize("now", [pod("another"), GONE])
def test_another_pod_of_the_name_gets_nothing(refusal: ApiError, now: Any) -> None:
    cluster, api = cluster_of(refusal, now)
    assert not cluster.annotate("ns1", "pod1", "uid1", "k", "v")
    assert api.asked == [f"PATCH {POD}/status", f"GET {POD}"]


def test_a_pod_that_is_gone_gets_nothing() -> None:
    cluster, _ = cluster_of(GONE)
    assert not cluster.annotate("ns1", "pod1", "uid1", "k", "v")


@pytest.mark.parametrize("error", [failing(422), ApiForbiddenError(POD, "no", 403)])
def test_an_annotation_that_the_server_will_not_have(error: ApiError) -> None:
    cluster, _ = cluster_of(error, pod())
    with pytest.raises(type(error)):
        cluster.annotate("ns1", "pod1", "uid1", "k", "v")


def test_an_annotation_waits_for_the_server() -> None:
    cluster, api = cluster_of(UNREACHABLE, failing(503), pod())
    assert cluster.annotate("ns1", "pod1", "uid1", "k", "v")
    assert len(api.asked) == 3


def test_an_event() -> None:
    cluster, api = cluster_of({})
    cluster.event(pod(), "Normal", "AddedInterface", "m" * 2000)
    (body,) = api.bodies
    assert api.asked == ["POST /api/v1/namespaces/ns1/events"]
    assert body["metadata"] == {"generateName": "pod1.", "namespace": "ns1"}
    assert body["source"] == {"component": "multus"}
    assert body["involvedObject"]["uid"] == "uid1"
    assert (body["type"], body["reason"]) == ("Normal", "AddedInterface")
    assert len(body["message"]) == 1024


@pytest.mark.parametrize("error", [UNREACHABLE, failing(500), ApiForbiddenError(POD, "no", 403)])
def test_an_event_is_only_a_courtesy(error: ApiError) -> None:
    cluster, api = cluster_of(error)
    cluster.event(pod(), "Normal", "AddedInterface", "m")
    assert len(api.asked) == 1
    cluster.event({"metadata": "?"}, "Normal", "AddedInterface", "m")
    cluster.event({}, "Normal", "AddedInterface", "m")
    assert len(api.asked) == 1


def test_devices_in_the_version_that_the_server_prefers() -> None:
    group = {"preferredVersion": {"groupVersion": "resource.k8s.io/v1beta1", "version": "v1beta1"}}
    cluster, api = cluster_of(group, {"kind": "ResourceClaim"}, group, {"items": [{"a": 1}]})
    assert cluster.resource_claim("ns1", "c1") == {"kind": "ResourceClaim"}
    assert cluster.resource_slices("node1", "d.example") == [{"a": 1}]
    claim = "GET /apis/resource.k8s.io/v1beta1/namespaces/ns1/resourceclaims/c1"
    assert api.asked[1] == claim
    assert api.asked[3] == "GET /apis/resource.k8s.io/v1beta1/resourceslices"
    assert api.queries[3] == {"fieldSelector": "spec.nodeName=node1,spec.driver=d.example"}


def test_answers_that_make_no_sense() -> None:
    scripts: list[list[Any]] = [[{}], [{"preferredVersion": {"version": "v1"}}, {"items": "?"}]]
    for answers in scripts:
        cluster, _ = cluster_of(*answers)
        with pytest.raises(ApiError):
            cluster.resource_slices("node1", "d.example")
