"""The cluster of scripts/cluster as its tests see it: objects, pods, what their networks leave."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from cri_api.v1 import api_pb2 as pb
from cri_api.v1 import api_pb2_grpc as rpc
from kubernetes.client import ApiClient, CoreV1Api, CustomObjectsApi
from kubernetes.client.exceptions import ApiException
from kubernetes.config import new_client_from_config
from kubernetes.watch import Watch

from tests.functional import rawlinks
from tests.runtime.cri import Cri
from tests.runtime.rig import addresses_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Json = dict[str, Any]

NAMESPACE = "default"
IMAGE = "localhost/busybox:1"
STATUS = "k8s.v1.cni.cncf.io/network-status"
_SECONDS = 60.0
# Where kubelet's status manager misses the moment in which a pod's remains are gone, it looks at
# the pod again after syncFrequency with jitter, 60 to 90 s (pkg/kubelet/pod_workers.go).
_GONE_SECONDS = 200.0
_LOOK_SECONDS = 0.1
_STATE = ("/var/lib/cni", "/var/lib/hwmgr", "/run/hwmgr", "/run/k8s.cni.cncf.io")
_PLURALS = {"Network": "networks", "NetworkAttachmentDefinition": "network-attachment-definitions"}


class ClusterNode:
    """The one node, and the API server; ``folder`` is what scripts/cluster made."""

    def __init__(self, folder: Path) -> None:
        facts: dict[str, str] = json.loads((folder / "facts.json").read_text())
        self.folder, self.name = folder, facts["node"]
        self.conf_dir, self.bin_dir = Path(facts["conf_dir"]), Path(facts["bin_dir"])
        self.client: ApiClient = new_client_from_config(str(folder / "kubeconfig"))
        self.api, self.objects = CoreV1Api(self.client), CustomObjectsApi(self.client)
        self._socket = facts["socket"]
        self.cri = Cri(self._socket, cgroup="/unused", logs="/unused")

    def close(self) -> None:
        self.cri.close()
        self.client.close()

    # ---- the node's network

    def network(self, conf: Mapping[str, Any]) -> None:
        """Make this the node's network, and wait until containerd has read it."""
        text = json.dumps(conf)
        unfinished = self.conf_dir / "unfinished"
        unfinished.write_text(text)
        unfinished.rename(self.conf_dir / "00-multus.conf")
        self._until("its network", lambda: self._networks()[-1] == conf)

    def _networks(self) -> list[Json]:
        options = [("grpc.default_authority", "localhost")]
        with grpc.insecure_channel(f"unix://{self._socket}", options=options) as channel:
            asked = rpc.RuntimeServiceStub(channel).Status(pb.StatusRequest(verbose=True))
        known = json.loads(asked.info["cniconfig"])["Networks"] or []
        return [json.loads(each["Config"]["Plugins"][0]["Source"]) for each in known]

    # ---- objects

    def create(self, obj: Json) -> None:
        """Make an object of the networks' kinds, in place of one of that name."""
        group, version = obj["apiVersion"].split("/")
        where = (group, version, NAMESPACE, _PLURALS[obj["kind"]])
        try:
            self.objects.delete_namespaced_custom_object(*where, obj["metadata"]["name"])
        except ApiException as error:
            if error.status != 404:
                raise
        self.objects.create_namespaced_custom_object(*where, obj)

    def define(self, name: str, conf: Mapping[str, Any], **annotations: str) -> None:
        """Make a NetworkAttachmentDefinition."""
        notes = {f"k8s.v1.cni.cncf.io/{key}": value for key, value in annotations.items()}
        self.create(
            {
                "apiVersion": "k8s.cni.cncf.io/v1",
                "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": name, "annotations": notes},
                "spec": {"config": json.dumps(conf)},
            }
        )

    # ---- pods

    def name_image(self, name: str) -> None:
        """Let the pods' image have one more name: there is no registry to get another one from."""
        ctr = ["ctr", "-a", self._socket, "-n", "k8s.io", "image", "tag", "--force", IMAGE, name]
        subprocess.run(ctr, check=True, capture_output=True)
        self._until("that image", lambda: self.cri.has_image(name))

    def run(self, pod: Json) -> Any:
        """Make a pod, bind it to the node as a scheduler would, wait until it runs; return it."""
        return self.until_running(self.schedule(pod).metadata.name)

    def schedule(self, pod: Json) -> Any:
        """Make a pod and bind it to the node; return it."""
        made = self.api.create_namespaced_pod(NAMESPACE, pod)
        name = made.metadata.name
        target = {"apiVersion": "v1", "kind": "Node", "name": self.name}
        binding = {"metadata": {"name": name}, "target": target}
        # The answer is a Status, which the client's own type for it cannot hold.
        self.api.create_namespaced_binding(NAMESPACE, binding, _preload_content=False)
        return made

    def until_running(self, name: str) -> Any:
        """Watch a pod until it runs; return it as it is then."""
        found = None
        stream = Watch().stream(
            self.api.list_namespaced_pod,
            NAMESPACE,
            field_selector=f"metadata.name={name}",
            timeout_seconds=int(_SECONDS),
        )
        for event in stream:
            found = event["object"]
            if event["type"] != "DELETED" and found.status.phase == "Running":
                return found
        raise AssertionError(f"{name} does not run: {found and self.events(found)}")

    def events(self, pod: Any) -> list[tuple[str, str, str]]:
        """Return what is told of a pod: component, reason, message."""
        fields = f"involvedObject.uid={pod.metadata.uid}"
        found = self.api.list_namespaced_event(NAMESPACE, field_selector=fields).items
        return [(each.source.component, each.reason, each.message) for each in found]

    def until_event(self, pod: Any, reason: str) -> str:
        """Wait for an event about a pod; return its message."""
        found: list[str] = []

        def there() -> bool:
            found[:] = [text for _, why, text in self.events(pod) if why == reason]
            return bool(found)

        self._until(f"event {reason}", there)
        return found[0]

    def delete(self, pod: Any) -> None:
        """Delete a pod and wait until the server, and so kubelet, has let go of it."""
        self.api.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=1)
        self.until_gone(pod)

    def until_gone(self, pod: Any) -> None:
        """Wait until the server has let go of a pod."""
        name, uid = pod.metadata.name, pod.metadata.uid

        def gone() -> bool:
            try:
                found = self.api.read_namespaced_pod(name, NAMESPACE)
            except ApiException as error:
                return bool(error.status == 404)
            return bool(found.metadata.uid != uid)

        self._until(f"the end of {name}", gone, _GONE_SECONDS)

    def links_of(self, pod: Any) -> dict[str, list[str]]:
        """Return the links of a running pod, with their IPv4 addresses."""
        return self.links_of_uid(pod.metadata.uid)

    def links_of_uid(self, uid: str) -> dict[str, list[str]]:
        """Return the same of the pod that the runtime knows by this uid."""
        sandbox = next(each for each, owner in self.cri.sandboxes().items() if owner == uid)
        return addresses_in(self.cri.netns(sandbox))

    def until_allocatable(self, resource: str, count: int) -> None:
        """Wait until kubelet says that the node has so many devices to give."""

        def there() -> bool:
            found = self.api.read_node(self.name).status.allocatable
            return int(found.get(resource, "0")) == count

        self._until(f"{count} of {resource}", there)

    # ---- what is left

    def left(self) -> set[str]:
        """Return all that attachments leave until they are detached."""
        files = {
            str(path)
            for top in _STATE
            for path in Path(top).rglob("*")
            if path.is_file()
            and not path.name.endswith("lock")
            and not path.name.startswith("last_reserved_ip")
            and "/locks/" not in str(path)
        }
        return files | {link.name for link in rawlinks.links() if link.name.startswith("veth")}

    def until_left(self, wanted: set[str]) -> None:
        """Wait until no more than this is left: kubelet tells nobody when a sandbox is stopped."""
        try:
            self._until("what was there before", lambda: self.left() == wanted)
        except AssertionError as error:
            raise AssertionError(f"left: {self.left() ^ wanted}") from error

    def _until(self, what: str, there: Callable[[], bool], seconds: float = _SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not there():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")
            time.sleep(_LOOK_SECONDS)


def here() -> Path | None:
    """Return the folder of the cluster that this process runs in, None when it runs in none."""
    path = os.environ.get("HWMGR_CLUSTER")
    return Path(path) if path else None
