"""The command lines and settings of etcd, kube-apiserver and kubelet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NODE = "node1"
STATIC_PODS = "/etc/kubernetes/manifests"
NODE_ADDRESS = "192.0.2.10"
_ETCD = "http://127.0.0.1:2379"
_ETCD_PEER = "http://127.0.0.1:2380"


def etcd(programs: Path, data: Path) -> list[str]:
    """Return the command line of an etcd that keeps nothing after a power cut."""
    return [
        str(programs / "etcd"),
        f"--data-dir={data}",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls={_ETCD_PEER}",
        f"--initial-advertise-peer-urls={_ETCD_PEER}",
        f"--initial-cluster=default={_ETCD_PEER}",
        "--unsafe-no-fsync",
    ]


def apiserver(programs: Path, keys: Path) -> list[str]:
    """Return the command line of the server.

    Without a controller manager nobody makes service accounts' tokens and nobody takes taints
    off a node: the two plugins of admission that count on that are off.
    """
    return [
        str(programs / "kube-apiserver"),
        f"--etcd-servers={_ETCD}",
        "--bind-address=127.0.0.1",
        "--secure-port=6443",
        f"--advertise-address={NODE_ADDRESS}",
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={keys}/server.crt",
        f"--tls-private-key-file={keys}/server.key",
        f"--client-ca-file={keys}/ca.crt",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={keys}/accounts.pub",
        f"--service-account-signing-key-file={keys}/accounts.key",
        "--service-cluster-ip-range=10.96.0.0/24",
        "--authorization-mode=Node,RBAC",
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
        "--allow-privileged=true",
    ]


def kubelet(
    programs: Path, kubeconfig: Path, settings: Path, socket: str, labels: str
) -> list[str]:
    """Return kubelet's command line; ``settings`` is the file with kubelet_settings()."""
    return [
        str(programs / "kubelet"),
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
        f"--node-labels={labels}",
        f"--kubeconfig={kubeconfig}",
        f"--config={settings}",
        "--root-dir=/var/lib/kubelet",
        "--cert-dir=/var/lib/kubelet/pki",
        "--container-runtime=remote",
        f"--container-runtime-endpoint=unix://{socket}",
        "--feature-gates=KubeletPodResources=true",
        "-v=2",
    ]


def kubelet_settings(cgroup: str, resolv_conf: Path) -> str:
    """Return kubelet's configuration file, for pods in a cgroup of the rig's own."""
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "address": "127.0.0.1",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "enforceNodeAllocatable": [],
        "nodeStatusUpdateFrequency": "1s",
        "staticPodPath": STATIC_PODS,
        "fileCheckFrequency": "1s",
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "maxOpenFiles": 4096,
        "clusterDNS": ["10.96.0.10"],
        "resolvConf": str(resolv_conf),
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%"},
    }
    return json.dumps(settings, indent=1)
