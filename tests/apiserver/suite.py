"""What clients may expect of an API server, the stand-in and kube-apiserver 1.20 alike.

Every check takes a client of the official library, makes what it needs in the namespace "default"
and removes it. ``define`` makes the kinds of networks first.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from kubernetes.client import (
    ApiClient,
    ApiextensionsV1Api,
    CoreV1Api,
    CustomObjectsApi,
    VersionApi,
)
from kubernetes.client.exceptions import ApiException
from kubernetes.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Json = dict[str, Any]
    Check = Callable[[ApiClient], None]

NAMESPACE = "default"
MERGE = "application/merge-patch+json"
NAD = ("k8s.cni.cncf.io", "v1", NAMESPACE, "network-attachment-definitions")
FIRST = ("kubernetes.com", "v1", NAMESPACE, "networks")
SECOND = ("kubernetes.cni.cncf.io", "v1", NAMESPACE, "networks")
STATUS = "k8s.v1.cni.cncf.io/network-status"
_SERVED_SECONDS = 20.0


def define(client: ApiClient, definitions: list[Json]) -> None:
    """Make the kinds of the definitions, unless they are there, and wait until they are served."""
    api = ApiextensionsV1Api(client)
    for definition in definitions:
        try:
            api.create_custom_resource_definition(definition)
        except ApiException as error:
            if error.status != 409:
                raise
    for definition in definitions:
        spec = definition["spec"]
        _served(client, spec["group"], spec["versions"][0]["name"], spec["names"]["plural"])


def _served(client: ApiClient, group: str, version: str, plural: str) -> None:
    # Nothing tells when the server's own handler has seen a definition: it answers 404 till then.
    end = time.monotonic() + _SERVED_SECONDS
    while True:
        try:
            CustomObjectsApi(client).list_cluster_custom_object(group, version, plural)
        except ApiException as error:
            if error.status != 404 or time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def pod_named(name: str, node: str = "suite-node", **meta: Any) -> Json:
    """Return a pod that any server takes."""
    containers = [{"name": "c", "image": "c:1"}, {"name": "d", "image": "d:1"}]
    spec = {"nodeName": node, "containers": containers, "restartPolicy": "Never"}
    metadata = {"name": name, "namespace": NAMESPACE, **meta}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@contextmanager
def a_pod(client: ApiClient, name: str, **meta: Any) -> Iterator[Any]:
    """Have a pod for a while."""
    api = CoreV1Api(client)
    remove_pod(api, name)
    try:
        yield api.create_namespaced_pod(NAMESPACE, pod_named(name, **meta))
    finally:
        remove_pod(api, name)


def remove_pod(api: CoreV1Api, name: str) -> None:
    """Remove a pod at once, if it is there."""
    try:
        api.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
    except ApiException as error:
        if error.status != 404:
            raise


@contextmanager
def an_object(client: ApiClient, where: tuple[str, str, str, str], obj: Json) -> Iterator[Json]:
    """Have a custom object for a while."""
    api, name = CustomObjectsApi(client), obj["metadata"]["name"]
    try:
        yield api.create_namespaced_custom_object(*where, obj)
    finally:
        api.delete_namespaced_custom_object(*where, name)


def refused(
    status: int | tuple[int, ...], call: Callable[..., Any], *args: Any, **more: Any
) -> Any:
    """Return the Status of a call that must be refused."""
    wanted = (status,) if isinstance(status, int) else status
    try:
        found = call(*args, **more)
    except ApiException as error:
        if error.status not in wanted:
            raise
        return error.body
    raise AssertionError(f"not refused, as {wanted}: {found}")


def nad(name: str, config: str = "{}") -> Json:
    """Return a NetworkAttachmentDefinition."""
    kind = {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition"}
    return {**kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"config": config}}


def has_a_version(client: ApiClient) -> None:
    assert VersionApi(client).get_code().git_version.startswith("v1.")


def names_its_resources(client: ApiClient) -> None:
    names = {each.name for each in CoreV1Api(client).get_api_resources().resources}
    assert {"pods", "pods/status", "events", "nodes"} <= names


def gives_identity_to_a_pod(client: ApiClient) -> None:
    with a_pod(client, "suite-new") as pod:
        assert pod.metadata.uid
        assert pod.metadata.resource_version
        assert pod.metadata.creation_timestamp
        assert pod.status.phase == "Pending"


def refuses_a_second_pod_of_the_name(client: ApiClient) -> None:
    with a_pod(client, "suite-twice"):
        api = CoreV1Api(client)
        body = refused(409, api.create_namespaced_pod, NAMESPACE, pod_named("suite-twice"))
        assert "AlreadyExists" in body


def does_not_know_a_missing_pod(client: ApiClient) -> None:
    body = refused(404, CoreV1Api(client).read_namespaced_pod, "suite-nobody", NAMESPACE)
    assert '"NotFound"' in body
    assert '"Status"' in body


def lists_by_labels_and_fields(client: ApiClient) -> None:
    api = CoreV1Api(client)

    def names(**query: str) -> set[str]:
        return {pod.metadata.name for pod in api.list_namespaced_pod(NAMESPACE, **query).items}

    with (
        a_pod(client, "suite-a", labels={"suite": "a"}),
        a_pod(client, "suite-b", labels={"suite": "b"}),
    ):
        assert {"suite-a", "suite-b"} <= names()
        assert names(label_selector="suite=a") == {"suite-a"}
        assert names(label_selector="suite in (a,b),suite!=a") == {"suite-b"}
        assert names(label_selector="suite") == {"suite-a", "suite-b"}
        assert names(field_selector="metadata.name=suite-b") == {"suite-b"}
        assert {"suite-a", "suite-b"} <= names(field_selector="spec.nodeName=suite-node")
        assert names(field_selector="spec.nodeName=suite-other") == set()
        found = api.list_namespaced_pod(NAMESPACE)
        assert (found.kind, found.api_version) == ("PodList", "v1")
        assert int(found.metadata.resource_version) > 0


def patches_annotations(client: ApiClient) -> None:
    api = CoreV1Api(client)
    with a_pod(client, "suite-patch", annotations={"a": "1", "b": "2"}):
        body = {"metadata": {"annotations": {"b": None, "c": "3"}}}
        pod = api.patch_namespaced_pod("suite-patch", NAMESPACE, body)
        assert pod.metadata.annotations == {"a": "1", "c": "3"}
        body = {"metadata": {"annotations": {"a": None}}}
        pod = api.patch_namespaced_pod("suite-patch", NAMESPACE, body, _content_type=MERGE)
        assert pod.metadata.annotations == {"c": "3"}


def merges_containers_by_name(client: ApiClient) -> None:
    api = CoreV1Api(client)
    with a_pod(client, "suite-merge"):
        body = {"spec": {"containers": [{"name": "d", "image": "d:2"}]}}
        pod = api.patch_namespaced_pod("suite-merge", NAMESPACE, body)
        found = sorted((each.name, each.image) for each in pod.spec.containers)
        assert found == [("c", "c:1"), ("d", "d:2")]


def takes_a_json_patch(client: ApiClient) -> None:
    api = CoreV1Api(client)
    with a_pod(client, "suite-json", labels={"a": "1"}):
        body = [{"op": "add", "path": "/metadata/labels/x~1y", "value": "2"}]
        pod = api.patch_namespaced_pod("suite-json", NAMESPACE, body)
        assert pod.metadata.labels == {"a": "1", "x/y": "2"}


def keeps_status_apart(client: ApiClient) -> None:
    api = CoreV1Api(client)
    with a_pod(client, "suite-status"):
        running = {"status": {"phase": "Running", "podIP": "10.0.0.2"}}
        api.patch_namespaced_pod_status("suite-status", NAMESPACE, running)
        api.patch_namespaced_pod("suite-status", NAMESPACE, {"status": {"phase": "Failed"}})
        pod = api.read_namespaced_pod("suite-status", NAMESPACE)
        assert (pod.status.phase, pod.status.pod_ip) == ("Running", "10.0.0.2")


def takes_annotations_with_the_status(client: ApiClient) -> None:
    api = CoreV1Api(client)
    with a_pod(client, "suite-note", annotations={"a": "1"}) as pod:
        body = {"metadata": {"uid": pod.metadata.uid, "annotations": {STATUS: "[]"}}}
        api.patch_namespaced_pod_status("suite-note", NAMESPACE, body, _content_type=MERGE)
        found = api.read_namespaced_pod("suite-note", NAMESPACE).metadata.annotations
        assert found == {"a": "1", STATUS: "[]"}


def refuses_a_patch_for_another_uid(client: ApiClient) -> None:
    api = CoreV1Api(client)
    with a_pod(client, "suite-uid"):
        body = {"metadata": {"uid": "not-this", "annotations": {STATUS: "[]"}}}
        patch = api.patch_namespaced_pod_status
        refused((409, 422), patch, "suite-uid", NAMESPACE, body, _content_type=MERGE)
        assert not api.read_namespaced_pod("suite-uid", NAMESPACE).metadata.annotations


def refuses_what_was_made_of_an_old_version(client: ApiClient) -> None:
    api = CoreV1Api(client)
    with a_pod(client, "suite-old") as pod:
        old = pod.metadata.resource_version
        api.patch_namespaced_pod("suite-old", NAMESPACE, {"metadata": {"labels": {"a": "1"}}})
        body = refused(409, api.replace_namespaced_pod, "suite-old", NAMESPACE, pod)
        assert '"Conflict"' in body
        late = {"metadata": {"resourceVersion": old, "labels": {"b": "1"}}}
        refused(409, api.patch_namespaced_pod, "suite-old", NAMESPACE, late)
        fresh = api.read_namespaced_pod("suite-old", NAMESPACE)
        fresh.metadata.labels["c"] = "1"
        fresh = api.replace_namespaced_pod("suite-old", NAMESPACE, fresh)
        assert fresh.metadata.labels == {"a": "1", "c": "1"}


def deletes_only_the_uid_meant(client: ApiClient) -> None:
    api = CoreV1Api(client)
    with a_pod(client, "suite-delete") as pod:
        for uid, wanted in (("not-this", 409), (pod.metadata.uid, 200)):
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
            if wanted == 409:
                refused(409, api.delete_namespaced_pod, "suite-delete", NAMESPACE, body=options)
            else:
                api.delete_namespaced_pod("suite-delete", NAMESPACE, body=options)
        refused(404, api.read_namespaced_pod, "suite-delete", NAMESPACE)


def keeps_events(client: ApiClient) -> None:
    api = CoreV1Api(client)
    with a_pod(client, "suite-event") as pod:
        about = {"kind": "Pod", "namespace": NAMESPACE, "name": "suite-event"}
        body = {
            "metadata": {"generateName": "suite-event.", "namespace": NAMESPACE},
            "involvedObject": {**about, "uid": pod.metadata.uid},
            "type": "Normal",
            "reason": "AddedInterface",
            "message": "Add net1 [10.0.0.2/24] from default/n1",
            "source": {"component": "multus"},
        }
        name = api.create_namespaced_event(NAMESPACE, body).metadata.name
        assert name.startswith("suite-event.")
        assert name != "suite-event."
        fields = f"involvedObject.uid={pod.metadata.uid}"
        found = api.list_namespaced_event(NAMESPACE, field_selector=fields).items
        assert [(each.reason, each.source.component) for each in found] == [
            ("AddedInterface", "multus")
        ]
        api.delete_namespaced_event(name, NAMESPACE)


def keeps_network_attachment_definitions(client: ApiClient) -> None:
    api = CustomObjectsApi(client)
    with an_object(client, NAD, nad("suite-n1", '{"type": "bridge"}')):
        found = api.get_namespaced_custom_object(*NAD, "suite-n1")
        assert found["spec"] == {"config": '{"type": "bridge"}'}
        body = {"metadata": {"annotations": {"k8s.v1.cni.cncf.io/resourceName": "intel.com/vf"}}}
        found = api.patch_namespaced_custom_object(*NAD, "suite-n1", body)
        assert found["metadata"]["annotations"] == body["metadata"]["annotations"]
        names = [
            each["metadata"]["name"]
            for group, version, _, plural in [NAD]
            for each in api.list_cluster_custom_object(group, version, plural)["items"]
        ]
        assert "suite-n1" in names
    refused(404, api.get_namespaced_custom_object, *NAD, "suite-n1")


def keeps_networks_of_2018(client: ApiClient) -> None:
    body = {
        "apiVersion": "kubernetes.com/v1",
        "kind": "Network",
        "metadata": {"name": "suite-flannel", "namespace": NAMESPACE},
        "plugin": "flannel",
        "args": '[ { "delegate": { "isDefaultGateway": true } } ]',
    }
    with an_object(client, FIRST, body):
        found = CustomObjectsApi(client).get_namespaced_custom_object(*FIRST, "suite-flannel")
        assert (found["plugin"], found["args"]) == (body["plugin"], body["args"])


def keeps_networks_of_multus_2(client: ApiClient) -> None:
    for name, spec in (("suite-conf", {"config": "{}"}), ("suite-plugin", {"plugin": "flannel"})):
        meta = {"name": name, "namespace": NAMESPACE}
        body = {"apiVersion": "kubernetes.cni.cncf.io/v1", "kind": "Network", "metadata": meta}
        with an_object(client, SECOND, {**body, "spec": spec}):
            found = CustomObjectsApi(client).get_namespaced_custom_object(*SECOND, name)
            assert found["spec"] == spec


def does_not_know_a_kind_that_nobody_defined(client: ApiClient) -> None:
    api = CustomObjectsApi(client)
    refused(404, api.list_namespaced_custom_object, "suite.invalid", "v1", NAMESPACE, "things")


def shows_changes_to_watches(client: ApiClient) -> None:
    api = CoreV1Api(client)
    with a_pod(client, "suite-watch"):
        version = api.list_namespaced_pod(NAMESPACE).metadata.resource_version

        def change() -> None:
            body = {"metadata": {"annotations": {"w": "1"}}}
            api.patch_namespaced_pod("suite-watch", NAMESPACE, body)
            remove_pod(api, "suite-watch")

        watch, found = Watch(), []
        thread = threading.Thread(target=change)
        thread.start()
        for event in watch.stream(
            api.list_namespaced_pod,
            NAMESPACE,
            field_selector="metadata.name=suite-watch",
            resource_version=version,
            timeout_seconds=10,
            _request_timeout=20,
        ):
            found.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                watch.stop()
        thread.join()
        assert found[0] == ("MODIFIED", "suite-watch")
        assert found[-1] == ("DELETED", "suite-watch")


def begins_a_watch_with_what_is_there(client: ApiClient) -> None:
    with an_object(client, NAD, nad("suite-seen")):
        watch, found = Watch(), []
        stream = CustomObjectsApi(client).list_namespaced_custom_object
        for event in watch.stream(stream, *NAD, timeout_seconds=1, _request_timeout=20):
            found.append((event["type"], event["object"]["metadata"]["name"]))
        assert ("ADDED", "suite-seen") in found


def ends_a_watch_when_asked(client: ApiClient) -> None:
    began = time.monotonic()
    stream = CoreV1Api(client).list_namespaced_pod
    for _ in Watch().stream(stream, NAMESPACE, timeout_seconds=1, _request_timeout=20):
        pass
    assert 0.5 < time.monotonic() - began < 10


def watched(client: ApiClient, path: str, timeout: float, **query: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a watch as the server sends them, bookmarks and errors too."""
    url = f"{client.configuration.host}{path}?{urlencode({'watch': 'true', **query})}"
    headers: dict[str, str] = {"Accept": "application/json"}
    client.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
    response = client.rest_client.pool_manager.request(
        "GET", url, headers=headers, preload_content=False, retries=False, timeout=timeout
    )
    try:
        assert response.status == 200, response.read()
        rest = b""
        for part in response.stream(1 << 16):
            *lines, rest = (rest + part).split(b"\n")
            yield from (json.loads(line) for line in lines)
        assert rest == b""
    finally:
        response.close()


def tells_how_far_a_watch_is(client: ApiClient) -> None:
    """By a bookmark, before the stream ends, once that is further than its last event."""
    api, path = CoreV1Api(client), f"/api/v1/namespaces/{NAMESPACE}/pods"
    for marks, seconds in (("true", "5"), ("false", "3")):
        found: list[Any] = []
        other: Any = None
        with a_pod(client, "suite-mark"), a_pod(client, "suite-other"):
            version = api.list_namespaced_pod(NAMESPACE).metadata.resource_version
            note: Json = {"metadata": {"annotations": {"w": "1"}}}
            api.patch_namespaced_pod("suite-mark", NAMESPACE, note)
            for event in watched(
                client,
                path,
                20,
                fieldSelector="metadata.name=suite-mark",
                resourceVersion=version,
                timeoutSeconds=seconds,
                allowWatchBookmarks=marks,
            ):
                if not found:
                    other = api.patch_namespaced_pod("suite-other", NAMESPACE, note)
                found.append(event)
        kinds = [event["type"] for event in found]
        if marks == "false":
            assert kinds == ["MODIFIED"], kinds
        else:
            assert kinds[0] == "MODIFIED", kinds
            assert set(kinds[1:]) == {"BOOKMARK"}, kinds
            mark = found[-1]["object"]
            assert mark["kind"] == "Pod"
            assert mark["metadata"]["resourceVersion"] == other.metadata.resource_version
            assert not mark["metadata"].get("name")


def tells_a_watch_that_its_version_is_forgotten(client: ApiClient) -> None:
    """By an event in a good answer; nothing follows it."""
    with an_object(client, NAD, nad("suite-forgotten")):
        path = f"/apis/{NAD[0]}/{NAD[1]}/{NAD[3]}"
        found = list(watched(client, path, 20, resourceVersion="1", timeoutSeconds="5"))
        assert [event["type"] for event in found] == ["ERROR"]
        assert found[0]["object"]["code"] == 410


def watches_the_pods_of_a_node(client: ApiClient) -> None:
    """Others are not told of."""
    api = CoreV1Api(client)
    version = api.list_pod_for_all_namespaces().metadata.resource_version
    with a_pod(client, "suite-here"), a_pod(client, "suite-there", node="suite-other"):
        found = [
            (event["type"], event["object"]["metadata"]["name"])
            for event in watched(
                client,
                "/api/v1/pods",
                20,
                fieldSelector="spec.nodeName=suite-node",
                resourceVersion=version,
                timeoutSeconds="1",
            )
        ]
        assert found == [("ADDED", "suite-here")]


def lists_what_it_has_at_hand(client: ApiClient) -> None:
    """Version 0 means any; a list says of which it is."""
    api = CoreV1Api(client)
    with a_pod(client, "suite-hand"):
        found = api.list_pod_for_all_namespaces(
            resource_version="0", field_selector="spec.nodeName=suite-node"
        )
        assert int(found.metadata.resource_version) > 0


CHECKS: list[Check] = [
    has_a_version,
    names_its_resources,
    gives_identity_to_a_pod,
    refuses_a_second_pod_of_the_name,
    does_not_know_a_missing_pod,
    lists_by_labels_and_fields,
    patches_annotations,
    merges_containers_by_name,
    takes_a_json_patch,
    keeps_status_apart,
    takes_annotations_with_the_status,
    refuses_a_patch_for_another_uid,
    refuses_what_was_made_of_an_old_version,
    deletes_only_the_uid_meant,
    keeps_events,
    keeps_network_attachment_definitions,
    keeps_networks_of_2018,
    keeps_networks_of_multus_2,
    does_not_know_a_kind_that_nobody_defined,
    shows_changes_to_watches,
    begins_a_watch_with_what_is_there,
    ends_a_watch_when_asked,
    tells_how_far_a_watch_is,
    tells_a_watch_that_its_version_is_forgotten,
    watches_the_pods_of_a_node,
    lists_what_it_has_at_hand,
]
