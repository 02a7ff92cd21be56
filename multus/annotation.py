"""Network selections: the annotation that says which networks a pod wants (NPWG 1.3, section 4).

Two spellings: a JSON list of objects, or the short form ``[namespace/]name[@interface],…``.
"""

from __future__ import annotations

from multus import cnitypes
from multus.addresses import parse_cidr, parse_ip
from multus.jsonfields import FieldError, Fields, Json, decode
from multus.runtimeconf import bandwidth, port_mappings

NETWORKS = "k8s.v1.cni.cncf.io/networks"
DEFAULT_NETWORK = "v1.multus-cni.io/default-network"

_LABEL_ENDS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_LABEL_CHARACTERS = _LABEL_ENDS | {"-"}
_HARDWARE_ADDRESS_BYTES = (6, 8, 20)  # Ethernet, EUI-64, IP over InfiniBand
_TEXTS = ("interface", "interfaceRequest", "mac", "infiniband-guid", "deviceID")


def parse_selections(text: str, namespace: str) -> list[Json]:
    """Return the selection elements of an annotation, each with name and namespace.

    ``namespace`` is where names without one are looked up. Whether the names are any good is
    judged where they are looked up. Raises FieldError.
    """
    if not text:
        raise FieldError("the network selection is empty")
    if any(char in text for char in '[{"'):
        items = decode(text, "the network selection")
        if not isinstance(items, list):
            raise FieldError("the network selection must be a list of objects")
        return [_element(item, namespace) for item in items]
    return [_short(item, namespace) for item in text.split(",")]


def _short(text: str, namespace: str) -> Json:
    prefix, slash, rest = text.partition("/")
    if not slash:
        prefix, rest = "", text
    if "/" in rest:
        raise FieldError(f"network selection {text!r} has more than one '/' before an interface")
    name, at, ifname = rest.partition("@")
    if "@" in ifname:
        raise FieldError(f"network selection {text!r} has more than one '@'")
    prefix, name, ifname = prefix.strip(), name.strip(), ifname.strip()
    for label in (prefix, name):
        if label and not is_label(label):
            raise FieldError(f"{label!r} in network selection {text!r} is not a DNS label")
    element: Json = {"name": name, "namespace": prefix if slash else namespace}
    if at and ifname:
        fault = cnitypes.ifname_fault(ifname.replace(":", "_"))
        if fault and ifname not in (".", ".."):
            raise FieldError(f"network selection {text!r}: {fault}")
        element["interface"] = ifname
    return element


def is_label(text: str) -> bool:
    """Tell whether a name is a DNS label but for its length (RFC 1123, section 2.1)."""
    ends = text[:1] in _LABEL_ENDS and text[-1:] in _LABEL_ENDS
    return bool(text) and ends and _LABEL_CHARACTERS.issuperset(text)


def _element(item: object, namespace: str) -> Json:
    fields = Fields(item, "a network selection element")
    name = fields.text("name")
    element: Json = {"name": name, "namespace": fields.text("namespace") or namespace}
    for key in _TEXTS:
        if fields.text(key):
            element[key] = fields.text(key)
    for key in ("mac", "infiniband-guid"):
        if fields.text(key) and not is_hardware_address(fields.text(key)):
            raise FieldError(f"{key} {fields.text(key)!r} of network {name!r} is no address")
    ips = fields.texts("ips") or []
    for ip in ips:
        if parse_ip(ip) is None and parse_cidr(ip) is None:
            raise FieldError(f"{ip!r} in ips of network {name!r} is no address")
    gateways = fields.texts("default-route")
    for gateway in gateways or []:
        if gateway and parse_ip(gateway) is None:
            raise FieldError(f"{gateway!r} in default-route of network {name!r} is no address")
    optional: Json = {
        "ips": ips or None,
        "default-route": gateways,
        "portMappings": port_mappings(fields.objects("portMappings")) or None,
        "bandwidth": bandwidth(fields.mapping("bandwidth")) or None,
        "cni-args": fields.mapping("cni-args"),
    }
    element.update({key: value for key, value in optional.items() if value is not None})
    return element


def is_hardware_address(text: str) -> bool:
    """Tell whether a text is a MAC or GUID in one of the spellings that Go's net.ParseMAC takes."""
    if ":" in text or "-" in text:
        groups, width = text.split(":" if ":" in text else "-"), 2
    else:
        groups, width = text.split("."), 4
    digits = "".join(groups)
    return (
        all(len(group) == width for group in groups)
        and len(digits) // 2 in _HARDWARE_ADDRESS_BYTES
        and all(char in "0123456789abcdefABCDEF" for char in digits)
    )
