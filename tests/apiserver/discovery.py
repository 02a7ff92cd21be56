"""What an API server says of itself: version, groups, resources, health."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.apiserver.store import Kind

_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
_VERSION = {
    "major": "1",
    "minor": "20",
    "gitVersion": "v1.20.2",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2021-01-13T13:28:09Z",
    "goVersion": "go1.19",
    "compiler": "gc",
    "platform": "linux/amd64",
}


def answer(path: str, kinds: list[Kind]) -> Any:
    """Return the document at a path, None where there is none."""
    parts = path.strip("/").split("/")
    if parts == ["version"]:
        return _VERSION
    if parts[0] in ("healthz", "livez", "readyz"):
        return "ok"
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if parts == ["api", "v1"]:
        return _resources("v1", [kind for kind in kinds if not kind.group])
    if parts == ["apis"]:
        names = sorted({kind.group for kind in kinds if kind.group})
        groups = [_group(name, kinds) for name in names]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    if parts[0] != "apis" or len(parts) > 3:
        return None
    found = [kind for kind in kinds if kind.group == parts[1]]
    if len(parts) == 3:
        found = [kind for kind in found if kind.version == parts[2]]
        return _resources("/".join(parts[1:]), found) if found else None
    whole = {"kind": "APIGroup", "apiVersion": "v1"}
    return whole | _group(parts[1], kinds) if found else None


def _group(name: str, kinds: list[Kind]) -> dict[str, Any]:
    versions = list(dict.fromkeys(kind.version for kind in kinds if kind.group == name))
    each = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": each, "preferredVersion": each[0]}


def _resources(version: str, kinds: list[Kind]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    for kind in kinds:
        entry = {"singularName": "", "namespaced": kind.namespaced, "kind": kind.name}
        found.append({"name": kind.plural, "verbs": _VERBS, **entry})
        if kind.status:
            verbs = ["get", "patch", "update"]
            found.append({"name": f"{kind.plural}/status", "verbs": verbs, **entry})
    return {"kind": "APIResourceList", "groupVersion": version, "resources": found}
