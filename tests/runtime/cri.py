"""A client of the Container Runtime Interface: what kubelet asks of a runtime, call by call."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from cri_api.v1 import api_pb2 as pb
from cri_api.v1 import api_pb2_grpc as rpc

from tests.runtime.image import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class CriError(Exception):
    """The runtime's answer is an error, or there is none."""


def uid() -> str:
    """Return a new pod's uid."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Pod:
    """What a pod's sandbox is asked to be; ``ports`` are (host port, container port), TCP."""

    name: str
    namespace: str = "default"
    uid: str = field(default_factory=uid)
    annotations: Mapping[str, str] = field(default_factory=dict)
    ports: Sequence[tuple[int, int]] = ()


class Cri:
    """Calls one runtime by its socket; every call ends within ``seconds``, or raises CriError."""

    def __init__(self, socket: str, *, cgroup: str, logs: str, seconds: float = 60) -> None:
        # Without an authority containerd gets the path for a host name, and refuses it.
        options = [
            ("grpc.default_authority", "localhost"),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        self._channel = grpc.insecure_channel(f"unix://{socket}", options=options)
        self._runtime = rpc.RuntimeServiceStub(self._channel)
        self._images = rpc.ImageServiceStub(self._channel)
        self._cgroup, self._logs, self._seconds = cgroup, logs, seconds

    def close(self) -> None:
        self._channel.close()

    def conditions(self) -> dict[str, tuple[bool, str]]:
        """Return what the runtime says of itself: RuntimeReady and NetworkReady, and why not."""
        status = self._call("Status", pb.StatusRequest()).status
        return {each.type: (each.status, each.message) for each in status.conditions}

    def has_image(self, name: str) -> bool:
        request = pb.ImageStatusRequest(image=pb.ImageSpec(image=name))
        return bool(self._call("ImageStatus", request, self._images).HasField("image"))

    def run(self, pod: Pod) -> str:
        """Start a pod's sandbox: its namespace and networks. Return its id."""
        request = pb.RunPodSandboxRequest(config=self._config(pod))
        return str(self._call("RunPodSandbox", request).pod_sandbox_id)

    def begin(self, pod: Pod) -> Callable[[], None]:
        """Ask for a sandbox and do not wait; the answer cancels it, as kubelet does in the end."""
        request = pb.RunPodSandboxRequest(config=self._config(pod))
        call = self._runtime.RunPodSandbox.future(request, timeout=self._seconds)

        def cancel() -> None:
            call.cancel()

        return cancel

    def stop(self, sandbox: str) -> None:
        self._call("StopPodSandbox", pb.StopPodSandboxRequest(pod_sandbox_id=sandbox))

    def remove(self, sandbox: str) -> None:
        self._call("RemovePodSandbox", pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox))

    def sandboxes(self) -> dict[str, str]:
        """Return the uids of the pods by sandbox id, ready or not."""
        found = self._call("ListPodSandbox", pb.ListPodSandboxRequest()).items
        return {item.id: item.metadata.uid for item in found}

    def addresses(self, sandbox: str) -> list[str]:
        """Return the addresses that the runtime takes for the pod's, the first one first."""
        request = pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox)
        network = self._call("PodSandboxStatus", request).status.network
        return [ip for ip in (network.ip, *(each.ip for each in network.additional_ips)) if ip]

    def info(self, sandbox: str) -> dict[str, Any]:
        """Return what the runtime tells of a sandbox to people who look for errors."""
        request = pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox, verbose=True)
        found: dict[str, Any] = json.loads(self._call("PodSandboxStatus", request).info["info"])
        return found

    def netns(self, sandbox: str) -> str:
        """Return the path of a sandbox's network namespace."""
        namespaces = self.info(sandbox)["runtimeSpec"]["linux"]["namespaces"]
        return next(str(each["path"]) for each in namespaces if each["type"] == "network")

    def start(self, sandbox: str, pod: Pod, command: Sequence[str], image: str = TOOLS) -> str:
        """Start a container in a sandbox; return its id."""
        config = pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name="main"),
            image=pb.ImageSpec(image=image),
            command=command,
            log_path="main.log",
        )
        request = pb.CreateContainerRequest(
            pod_sandbox_id=sandbox, config=config, sandbox_config=self._config(pod)
        )
        container = str(self._call("CreateContainer", request).container_id)
        self._call("StartContainer", pb.StartContainerRequest(container_id=container))
        return container

    def execute(self, container: str, *command: str) -> str:
        """Run a command in a container and return its stdout; AssertionError when it fails."""
        request = pb.ExecSyncRequest(
            container_id=container, cmd=command, timeout=int(self._seconds)
        )
        done = self._call("ExecSync", request)
        if done.exit_code:
            raise AssertionError(f"{command} ended with {done.exit_code}: {done.stderr.decode()}")
        return str(done.stdout.decode())

    def _config(self, pod: Pod) -> Any:
        meta = pb.PodSandboxMetadata(name=pod.name, namespace=pod.namespace, uid=pod.uid)
        config = pb.PodSandboxConfig(
            metadata=meta,
            hostname=pod.name,
            log_directory=f"{self._logs}/{pod.name}",
            annotations=dict(pod.annotations),
            linux=pb.LinuxPodSandboxConfig(cgroup_parent=self._cgroup),
        )
        options = config.linux.security_context.namespace_options
        options.pid = pb.CONTAINER
        for host, inside in pod.ports:
            config.port_mappings.add(protocol=pb.TCP, host_port=host, container_port=inside)
        return config

    def _call(self, method: str, request: Any, service: Any = None) -> Any:
        try:
            return getattr(service or self._runtime, method)(request, timeout=self._seconds)
        except grpc.RpcError as error:
            raise CriError(f"{method}: {error.code().name}: {error.details()}") from None
