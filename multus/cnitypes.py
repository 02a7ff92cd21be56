"""What the CNI protocol is made of: error codes, the error itself, one call's arguments, names."""

from __future__ import annotations

from dataclasses import dataclass

# CNI specification 1.1.0, section 2 "Error"; 8 is libcni's own ("invalid network namespace").
INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
INVALID_NETNS = 8
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50
LIMITED_CONNECTIVITY = 51
INTERNAL = 999

IFNAME_MAX_BYTES = 15  # IFNAMSIZ less the final zero, include/uapi/linux/if.h

_LETTERS_DIGITS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME_CHARACTERS = _LETTERS_DIGITS | frozenset("_.-")


class CNIError(Exception):
    """An error in the words of the specification: a code, one line, perhaps details.

    A delegate's own code is kept, so that the runtime sees 11, 50 or 51 as the plugin meant it.
    """

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details

    def within(self, where: str) -> CNIError:
        """Return the same error with the place it happened at in front of its message."""
        return type(self)(self.code, f"{where}: {self.msg}", self.details)

    def also(self, others: list[CNIError], heading: str) -> CNIError:
        """Return the same error with the messages of others in its details."""
        if not others:
            return self
        lines = f"{heading}: " + "; ".join(other.msg for other in others)
        details = f"{self.details}; {lines}" if self.details else lines
        return type(self)(self.code, self.msg, details)

    def to_json(self, cni_version: str) -> dict[str, object]:
        """Return what the specification wants on stdout."""
        value: dict[str, object] = {
            "cniVersion": cni_version,
            "code": self.code,
            "msg": self.msg,
        }
        if self.details:
            value["details"] = self.details
        return value


class PluginNotStartedError(CNIError):
    """A plugin could not be run at all, so whatever else is true, it did nothing."""


class PluginFailedError(CNIError):
    """A plugin ran to its end and reported a failure by itself; ``index`` is its place in a list.

    A plugin that was ended at a limit or by a signal reported nothing.
    """

    index = 0


class UnforeseenError(CNIError):
    """A bug of ours or a failure that nobody thought of; its traceback belongs in the log."""


@dataclass(frozen=True, slots=True)
class CmdArgs:
    """One call of the runtime: its environment, checked, and its standard input."""

    command: str
    container_id: str
    netns: str
    ifname: str
    args: str
    path: str
    stdin: bytes
    netns_override: bool = False


def valid_name(name: str) -> bool:
    """Tell whether a container id or network name follows the specification's character rule."""
    return bool(name) and name[0] in _LETTERS_DIGITS and _NAME_CHARACTERS.issuperset(name)


def ifname_fault(name: str) -> str | None:
    """Say what is wrong with an interface name, None when nothing is.

    The kernel's rule (dev_valid_name in net/core/dev.c), counted in bytes as the kernel does.
    """
    if not name:
        return "interface name is empty"
    try:
        length = len(name.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return f"interface name {name!r} is not text"
    if length > IFNAME_MAX_BYTES:
        return f"interface name {name!r} is longer than {IFNAME_MAX_BYTES} bytes"
    if name in (".", ".."):
        return f"interface name {name!r} is not allowed"
    if any(char in "/:\0" or char.isspace() for char in name):
        return f"interface name {name!r} contains '/', ':' or white space"
    return None
