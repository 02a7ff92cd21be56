"""IP addresses as text, in the spelling that Go's net package gives them."""

from __future__ import annotations

import socket

_V4_MAPPED = b"\0" * 10 + b"\xff\xff"


def parse_ip(text: str) -> str | None:
    """Return the canonical text of an address, None when it is not one."""
    packed = _pack(text)
    return None if packed is None else _unpack(packed)


def parse_cidr(text: str) -> str | None:
    """Return the canonical text of address/prefix with its host bits, None if it is not one."""
    address, slash, prefix = text.partition("/")
    packed = _pack(address)
    if packed is None or not slash or not (prefix.isascii() and prefix.isdigit()):
        return None
    if len(prefix) > 3 or int(prefix) > len(packed) * 8:
        return None
    length = int(prefix)
    if _mapped(packed):
        length -= 96  # an IPv4 address in IPv6 clothes
    return f"{_unpack(packed)}/{length}" if length >= 0 else None


def is_v4(text: str) -> bool:
    """Tell whether an address or CIDR is of IPv4."""
    return ":" not in text


def _pack(text: str) -> bytes | None:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_pton(family, text)
    except (OSError, ValueError):
        return None


def _mapped(packed: bytes) -> bool:
    return len(packed) == 16 and packed.startswith(_V4_MAPPED)


def _unpack(packed: bytes) -> str:
    if _mapped(packed):
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
