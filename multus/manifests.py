"""What a cluster has to hold for multus: definitions of network objects, rights to read them.

Kept here as values, so that they are in every installation and ``multusctl manifests`` prints them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multus.jsonfields import Json

_GROUP = "rbac.authorization.k8s.io"


def crds() -> list[Json]:
    """Return the definitions of all generations, as apiextensions v1."""
    spec = {
        "type": "object",
        "properties": {"config": {"type": "string"}, "plugin": {"type": "string"}},
        "x-kubernetes-preserve-unknown-fields": True,
    }
    # The objects of 2018 have plugin and args at the top level, where a structural schema would
    # drop them (apiextensions v1, "field pruning").
    top_level: Json = {"plugin": {"type": "string"}, "args": {"type": "string"}}
    return [
        _crd(
            "k8s.cni.cncf.io",
            "NetworkAttachmentDefinition",
            "network-attachment-definitions",
            "network-attachment-definition",
            "net-attach-def",
            {"spec": spec},
        ),
        _crd("kubernetes.com", "Network", "networks", "network", "net", top_level),
        _crd("kubernetes.cni.cncf.io", "Network", "networks", "network", "", {"spec": spec}),
    ]


def rbac(
    namespace: str = "kube-system", service_account: str = "multus", user: str = ""
) -> list[Json]:
    """Return the least rights that work, for a service account, or for a user by certificate."""
    name = "multus"
    # The daemon keeps these by watches; without list and watch it reads each of them when needed.
    watched = ["get", "list", "watch"]
    rules = [
        _rule("", ["pods"], watched),
        _rule("", ["pods/status"], ["patch"]),
        _rule("", ["events"], ["create"]),
        _rule("k8s.cni.cncf.io", ["network-attachment-definitions"], watched),
        _rule("kubernetes.com", ["networks"], ["get"]),
        _rule("kubernetes.cni.cncf.io", ["networks"], ["get"]),
        _rule("resource.k8s.io", ["resourceclaims"], ["get"]),
        _rule("resource.k8s.io", ["resourceslices"], ["list"]),
    ]
    account: Json = {"kind": "ServiceAccount", "name": service_account, "namespace": namespace}
    subject: Json = {"kind": "User", "name": user, "apiGroup": _GROUP} if user else account
    made: list[Json] = [
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": rules,
        },
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": name},
            "subjects": [subject],
        },
    ]
    if user:
        return made
    meta: Json = {"name": service_account, "namespace": namespace}
    return [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}, *made]


def _crd(group: str, kind: str, plural: str, singular: str, short: str, properties: Json) -> Json:
    names: Json = {"kind": kind, "plural": plural, "singular": singular}
    if short:
        names["shortNames"] = [short]
    schema: Json = {
        "type": "object",
        "properties": properties,
        "x-kubernetes-preserve-unknown-fields": True,
    }
    version: Json = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _rule(group: str, resources: list[str], verbs: list[str]) -> Json:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}
