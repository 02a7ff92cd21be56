"""Runtime configuration: what the runtime or the pod asks for, offered to plugins by capability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multus.jsonfields import FieldError, Fields, Json

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORT_NUMBERS = ("hostPort", "containerPort")
_RATES = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")


def parse_runtime_config(value: object) -> Json:
    """Check the ``runtimeConfig`` of a call and keep the members that are known and not empty.

    Raises FieldError on a wrong type.
    """
    if value is None:
        return {}
    fields = Fields(value, "runtimeConfig")
    config: Json = {
        "portMappings": port_mappings(fields.objects("portMappings")),
        "bandwidth": bandwidth(fields.mapping("bandwidth")),
        "ips": fields.texts("ips"),
    }
    for name in ("mac", "infinibandGUID", "deviceID", "CNIDeviceInfoFile"):
        config[name] = fields.text(name)
    return {name: member for name, member in config.items() if member}


def port_mappings(items: list[Json] | None) -> list[Json]:
    """Check port mappings and leave their empty members out."""
    mappings = []
    for item in items or []:
        fields = Fields(item, "portMappings")
        mapping: Json = {name: fields.number(name) or 0 for name in _PORT_NUMBERS}
        for name in ("protocol", "hostIP"):
            if fields.text(name):
                mapping[name] = fields.text(name)
        mappings.append(mapping)
    return mappings


def bandwidth(value: Json | None) -> Json:
    """Check rates (bit per second) and bursts (bits); {} when not given."""
    if value is None:
        return {}
    fields = Fields(value, "bandwidth")
    return {name: fields.number(name) or 0 for name in _RATES}


def declared(capabilities: object) -> frozenset[str]:
    """Return the capabilities that a plugin declares as true; raises FieldError."""
    if capabilities is None:
        return frozenset()
    if not isinstance(capabilities, dict):
        raise FieldError("'capabilities' must be an object")
    if not all(isinstance(flag, bool) for flag in capabilities.values()):
        raise FieldError("every member of 'capabilities' must be true or false")
    return frozenset(name for name, flag in capabilities.items() if flag)


def offered(args: Mapping[str, object], capabilities: object) -> Json:
    """Filter capability arguments to those that one plugin declares."""
    wanted = declared(capabilities)
    return {name: member for name, member in args.items() if name in wanted}
