"""CNI_ARGS: what Kubernetes says about the pod, and the list that delegates get."""

from __future__ import annotations

from dataclasses import dataclass

from multus.addresses import parse_ip

_FIELDS = {
    "K8S_POD_NAMESPACE": "pod_namespace",
    "K8S_POD_NAME": "pod_name",
    "K8S_POD_INFRA_CONTAINER_ID": "infra_container_id",
    "K8S_POD_UID": "pod_uid",
}
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}

Pairs = list[tuple[str, str]]


class ArgsError(ValueError):
    """CNI_ARGS cannot be understood."""


@dataclass(frozen=True, slots=True)
class K8sArgs:
    """The pod that the runtime works for; every member may be empty outside Kubernetes."""

    pod_namespace: str = ""
    pod_name: str = ""
    infra_container_id: str = ""
    pod_uid: str = ""
    ip: str = ""


def parse_args(text: str) -> K8sArgs:
    """Read CNI_ARGS strictly: ``K=V`` items with one ``=``, unknown keys only with IgnoreUnknown.

    Raises ArgsError.
    """
    values: dict[str, str] = {}
    unknown: list[str] = []
    ignore = False
    for item in text.split(";") if text else []:
        parts = item.split("=")
        if len(parts) != 2:
            raise ArgsError(f"CNI_ARGS item {item!r} is not KEY=VALUE")
        key, value = parts
        if key == "IgnoreUnknown":
            if value.lower() not in _BOOLEANS:
                raise ArgsError(f"IgnoreUnknown={value} in CNI_ARGS is neither true nor false")
            ignore = _BOOLEANS[value.lower()]
        elif key == "IP":
            if value and parse_ip(value) is None:
                raise ArgsError(f"IP={value} in CNI_ARGS is not an address")
            values["ip"] = value
        elif key in _FIELDS:
            values[_FIELDS[key]] = value
        else:
            unknown.append(key)
    if unknown and not ignore:
        raise ArgsError(f"CNI_ARGS has unknown keys {', '.join(unknown)} and no IgnoreUnknown=true")
    return K8sArgs(**values)


def parse_args_leniently(text: str) -> K8sArgs:
    """Read what can be read: DEL must not fail over what the runtime said about the pod."""
    known = [item.split("=", 1) for item in text.split(";") if "=" in item]
    return K8sArgs(**{_FIELDS[key]: value for key, value in known if key in _FIELDS})


def delegate_args(k8s: K8sArgs, text: str) -> Pairs:
    """Return the pairs for delegates: the pod's five, then every pair of the runtime again.

    The duplicates are what multus-cni passes and records; an empty one of the five is filled in
    place instead.
    """
    pairs = [
        ("IgnoreUnknown", "true"),
        ("K8S_POD_NAMESPACE", k8s.pod_namespace),
        ("K8S_POD_NAME", k8s.pod_name),
        ("K8S_POD_INFRA_CONTAINER_ID", k8s.infra_container_id),
        ("K8S_POD_UID", k8s.pod_uid),
    ]
    for item in text.split(";"):
        key, equals, value = item.partition("=")
        if not equals:
            continue
        if (key, "") in pairs:
            pairs[pairs.index((key, ""))] = (key, value)
        else:
            pairs.append((key, value))
    return pairs


def render_args(pairs: Pairs) -> str:
    """Return the pairs as the text of a CNI_ARGS variable."""
    return ";".join(f"{key}={value}" for key, value in pairs)


def parse_mac_arg(text: str) -> str:
    """Return ``MAC`` of CNI_ARGS as sriov-cni reads it, "" when it is not given.

    Any other key needs IgnoreUnknown=1, as in libcni's LoadArgs. Raises ArgsError.
    """
    items = [item.partition("=") for item in text.split(";") if item]
    given = {key: value for key, _, value in items}
    ignore = _BOOLEANS.get(given.get("IgnoreUnknown", "").lower(), False)
    unknown = [key for key in given if key not in ("MAC", "IgnoreUnknown")]
    if unknown and not ignore:
        raise ArgsError(f"CNI_ARGS has unknown keys {', '.join(unknown)} and no IgnoreUnknown=true")
    return given.get("MAC", "")
