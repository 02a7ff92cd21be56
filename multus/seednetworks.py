"""Networks as Multus had them in 2017 and 2018: annotations and objects before the NPWG standard.

``kubernetes.com/v1`` Network (as CRD or third-party resource, the path is the same) has ``plugin``
and ``args`` at its top level and is named by the annotation ``networks``;
``kubernetes.cni.cncf.io/v1`` Network has them in its spec.
"""

from __future__ import annotations

from multus.jsonfields import FieldError, Fields, Json, decode

FIRST_ANNOTATION = "networks"
FIRST_GROUP = "kubernetes.com"
SECOND_ANNOTATION = "kubernetes.v1.cni.cncf.io/networks"
SECOND_GROUP = "kubernetes.cni.cncf.io"
# Objects that the pod's own namespace lacks are looked up here; v1 knew no other place.
SHARED_NAMESPACE = "default"

_SECOND_VERSION = "0.3.1"  # what Multus 2.0 wrote into a configuration made of a plugin's name


def parse_names(text: str) -> list[str]:
    """Return the names that a ``networks`` annotation lists; raises FieldError."""
    items = decode(text, "the annotation 'networks'")
    if not isinstance(items, list):
        raise FieldError("the annotation 'networks' must be a list of objects with a name")
    names = [Fields(item, "an item of the annotation 'networks'").text("name") for item in items]
    if not all(names):
        raise FieldError("an item of the annotation 'networks' has no name")
    return names


def delegates_of(network: Json) -> list[Json]:
    """Return the configurations of a ``kubernetes.com/v1`` Network object; raises FieldError.

    Each object of the list in ``args`` becomes one: the plugin's configuration but for its type.
    """
    fields = Fields(network, "the Network object")
    plugin = fields.text("plugin")
    if not plugin:
        raise FieldError("the Network object names no plugin")
    args = decode(fields.text("args"), f"'args' of the Network object for plugin {plugin!r}")
    items = [args] if isinstance(args, dict) else args
    if not isinstance(items, list) or not items:
        raise FieldError(f"'args' for plugin {plugin!r} must be a list of objects")
    confs: list[Json] = []
    for item in items:
        if not isinstance(item, dict):
            raise FieldError(f"'args' for plugin {plugin!r} must hold objects only")
        kind = Fields(item, "'args'").text("type")
        if kind and kind != plugin:
            raise FieldError(f"'args' says type {kind!r}, the Network object plugin {plugin!r}")
        rest = {key: value for key, value in item.items() if key.lower() != "type"}
        confs.append({"type": plugin, **rest})
    return confs


def conf_of_second(network: Json, name: str) -> Json | None:
    """Return the configuration of a ``kubernetes.cni.cncf.io/v1`` Network object.

    None when the object leaves it to a file of that name. Raises FieldError.
    """
    spec = Fields(Fields(network, "the Network object").mapping("spec") or {}, "its spec")
    config, plugin = spec.text("config"), spec.text("plugin")
    if config and plugin:
        raise FieldError("the Network object has both config and plugin; only one can count")
    if plugin:
        return {"cniVersion": _SECOND_VERSION, "name": name, "type": plugin}
    if not config:
        return None
    conf = decode(config, "the config of the Network object")
    if not isinstance(conf, dict):
        raise FieldError("the config of the Network object must be a JSON object")
    return conf
