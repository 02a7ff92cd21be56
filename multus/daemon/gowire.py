"""Requests in the form of multus-cni's own shim, and of what speaks to its daemon in the same way.

POST /cni has the shim's whole environment and its input; POST /delegate has one delegate's
configuration, and what the pod wants of that attachment.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from multus.jsonfields import Fields, Json, decode

# The daemon of multus-cni needs these to be there; they may be empty.
_ABOUT_A_CONTAINER = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_ARGS")
_WITHOUT_A_CONTAINER = ("STATUS", "GC")
_USUAL_IFNAME = "eth0"


class RequestError(ValueError):
    """The request cannot be understood; the message says why."""


@dataclass(frozen=True, slots=True)
class GoRequest:
    """One request: ``attributes`` is the pod's wish for one attachment, in the words of NPWG."""

    env: dict[str, str]
    config: bytes
    attributes: Json | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """What a request is about."""

    command: str
    container_id: str
    ifname: str


def read_request(body: bytes) -> GoRequest:
    """Read a request's body. Raises RequestError."""
    try:
        fields = Fields(decode(body, "the request"), "the request")
        env = fields.mapping("env") or {}
        config = base64.b64decode(fields.text("config"), validate=True)
        attributes = fields.mapping("interfaceAttributes")
    except ValueError as error:  # FieldError, binascii.Error, and a config that is not ASCII
        raise RequestError(str(error)) from error
    wrong = [name for name, value in env.items() if not isinstance(value, str)]
    if wrong:
        raise RequestError(f"env: {wrong[0]} must be a string")
    return GoRequest({name: str(value) for name, value in env.items()}, config, attributes)


def named(env: dict[str, str]) -> Named:
    """Say what a request is about. Raises RequestError for what multus-cni refuses too."""
    command = env.get("CNI_COMMAND", "")
    if not command:
        raise RequestError("unexpected or missing CNI_COMMAND")
    if command in _WITHOUT_A_CONTAINER:
        return Named(command, "", "")
    missing = [name for name in _ABOUT_A_CONTAINER if name not in env]
    if missing:
        raise RequestError(f"missing {', '.join(missing)}")
    return Named(command, env["CNI_CONTAINERID"], env.get("CNI_IFNAME") or _USUAL_IFNAME)


def pairs(text: str) -> dict[str, str]:
    """Read CNI_ARGS as multus-cni's daemon does: every item has one ``=``. Raises RequestError."""
    found: dict[str, str] = {}
    for item in text.split(";"):
        name, equals, value = item.partition("=")
        if not equals or "=" in value:
            raise RequestError(f"invalid CNI_ARGS {item!r}: it must be NAME=VALUE")
        found[name.strip()] = value.strip()
    return found
