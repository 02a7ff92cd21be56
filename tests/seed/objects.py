"""The seed's objects, filled in for this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
OBJECTS = ("flannel.yaml", "sriov-dpdk-network-enp4s0f1.yaml")
POD = "xftony-test-pod.yaml"


def load(name: str, words: dict[str, str]) -> dict[str, Any]:
    """Return one object of the seed."""
    found: dict[str, Any] = yaml.safe_load(_filled(name, words))
    return found


def configuration(kubeconfig: str) -> dict[str, Any]:
    """Return the node's configuration of multus."""
    found: dict[str, Any] = json.loads(
        _filled("01-crd-multus-cni.conf", {"@KUBECONFIG@": kubeconfig})
    )
    return found


def words_of(pf: str, kernel_driver: str, dpdk_driver: str, tool: str) -> dict[str, str]:
    """Return what the placeholders stand for."""
    return {
        "@PF@": pf,
        "@KERNEL_DRIVER@": kernel_driver,
        "@DPDK_DRIVER@": dpdk_driver,
        "@DPDK_TOOL@": tool,
    }


def _filled(name: str, words: dict[str, str]) -> str:
    text = (FOLDER / name).read_text()
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text
