"""NetworkAttachmentDefinition objects as delegates (NPWG 1.3, section 3), devices included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multus import cnitypes, confdir
from multus.cnitypes import CNIError
from multus.delegates import Delegate, load_delegate
from multus.jsonfields import FieldError, Fields, Json, decode

if TYPE_CHECKING:
    from multus.devices.choice import Devices

_RESOURCE_NAME = "k8s.v1.cni.cncf.io/resourceName"


def delegate_of(
    definition: Json,
    element: Json,
    conf_dir: str,
    devices: Devices | None,
    *,
    selection: Json | None = None,
    master: bool = False,
) -> tuple[Delegate, str]:
    """Return the delegate of an object and where it is from.

    ``element`` has the name and namespace that it was looked up by; ``selection`` is the same when
    the pod selected it, with all its wishes. Raises FieldError, CNIError, ApiError.
    """
    namespace, name = str(element["namespace"]), str(element["name"])
    config = _config_of(definition, name, conf_dir)
    meta = Fields(Fields(definition, "the object").mapping("metadata") or {}, "its metadata")
    annotations = Fields(meta.mapping("annotations") or {}, "its annotations")
    resource = annotations.text(_RESOURCE_NAME)
    device_id = ""
    wanted = Fields(selection or {}, "the element").text("deviceID")
    if resource and devices is not None:
        device_id = _device_for(devices, resource, f"{namespace}/{name}", wanted)
    delegate = load_delegate(
        config,
        selection or {"namespace": namespace, "name": name},
        device_id=device_id,
        resource_name=resource if device_id else "",
        master=master,
    )
    return delegate, f"NetworkAttachmentDefinition {namespace}/{name}"


def _config_of(definition: Json, name: str, conf_dir: str) -> Json:
    """Return the configuration of a NetworkAttachmentDefinition; raises FieldError."""
    spec = Fields(Fields(definition, "the object").mapping("spec") or {}, "its spec")
    text = spec.text("config")
    if not text:
        found = confdir.find_by_name(conf_dir, name)
        if found is None:
            raise FieldError(f"its spec is empty and no file in {conf_dir} is named {name!r}")
        return found
    conf = decode(text, "its spec.config")
    if not isinstance(conf, dict):
        raise FieldError("its spec.config must be a JSON object")
    if Fields(conf, "its spec.config").text("name"):
        return conf
    return {**{key: value for key, value in conf.items() if key.lower() != "name"}, "name": name}


def _device_for(devices: Devices, resource: str, network: str, wanted: str) -> str:
    """Return the device of a network, "" when the pod names one itself."""
    from multus.devices.choice import DeviceError, DeviceSourceError

    try:
        if wanted:
            devices.check(resource, network, wanted)
            return ""
        return devices.take(resource, network) or ""
    except DeviceSourceError as error:
        raise CNIError(cnitypes.TRY_AGAIN_LATER, str(error)) from error
    except DeviceError as error:
        raise CNIError(cnitypes.INVALID_CONFIG, str(error)) from error
