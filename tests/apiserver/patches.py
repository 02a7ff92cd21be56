"""The three kinds of patches that an API server takes: merge, JSON, and Kubernetes' own."""

from __future__ import annotations

import copy
from typing import Any

# The members by which Kubernetes' own kind tells the elements of a list apart (core/v1 types.go).
_MERGE_KEYS = {
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "podIPs": "ip",
    "resourceClaims": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}


class PatchError(ValueError):
    """The patch does not fit the object."""


def merge(target: Any, patch: Any) -> Any:
    """Apply a merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(target: Any, patch: Any) -> Any:
    """Apply a strategic merge patch: as merge, but known lists are merged element by element."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, list) and key in _MERGE_KEYS:
            result[key] = _by_key(result.get(key) or [], value, _MERGE_KEYS[key])
        elif isinstance(value, list) and key == "finalizers":
            old = result.get(key) or []
            result[key] = old + [item for item in value if item not in old]
        else:
            result[key] = strategic(result.get(key), value)
    return result


def _by_key(old: list[Any], patch: list[Any], key: str) -> list[Any]:
    if any(isinstance(item, dict) and item == {"$patch": "replace"} for item in patch):
        return [item for item in patch if item != {"$patch": "replace"}]
    result = list(old)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise PatchError(f"an element without {key}")
        index = next((i for i, each in enumerate(result) if each.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if index is not None:
                del result[index]
        elif index is None:
            result.append(strategic({}, item))
        else:
            result[index] = strategic(result[index], item)
    return result


def json_patch(target: Any, operations: Any) -> Any:
    """Apply a JSON patch (RFC 6902). Raises PatchError."""
    if not isinstance(operations, list):
        raise PatchError("a JSON patch is a list")
    document = {"": copy.deepcopy(target)}
    for operation in operations:
        try:
            _apply(document, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise PatchError(f"{operation}: {error}") from error
    return document[""]


def _apply(document: dict[str, Any], operation: dict[str, Any]) -> None:
    kind, path = operation["op"], _split(operation["path"])
    if kind in ("move", "copy"):
        source = _split(operation["from"])
        value = copy.deepcopy(_get(document, source))
        if kind == "move":
            _remove(document, source)
        _add(document, path, value)
    elif kind == "add":
        _add(document, path, copy.deepcopy(operation["value"]))
    elif kind == "remove":
        _remove(document, path)
    elif kind == "replace":
        _get(document, path)
        if isinstance(_get(document, path[:-1]), list):
            _remove(document, path)
        _add(document, path, copy.deepcopy(operation["value"]))
    elif kind == "test":
        if _get(document, path) != operation["value"]:
            raise PatchError("the test failed")
    else:
        raise PatchError("no such operation")


def _split(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise PatchError("a path begins with a slash")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")]


def _get(value: Any, path: list[str]) -> Any:
    for part in path:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def _add(document: Any, path: list[str], value: Any) -> None:
    parent = _get(document, path[:-1])
    if not isinstance(parent, list):
        if not isinstance(parent, dict):
            raise TypeError("nothing to add it to")
        parent[path[-1]] = value
    elif path[-1] == "-":
        parent.append(value)
    else:
        index = int(path[-1])
        if not 0 <= index <= len(parent):
            raise IndexError(index)
        parent.insert(index, value)


def _remove(document: Any, path: list[str]) -> None:
    parent = _get(document, path[:-1])
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]
