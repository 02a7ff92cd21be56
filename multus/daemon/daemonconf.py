"""The file of multus-cni's daemon: its keys lie over every call's configuration.

A few of them are for the daemon itself; what those mean here is in docs/daemon.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from multus.jsonfields import FieldError, Fields, Json, decode, encode

DEFAULT_PATH = "/etc/cni/net.d/multus.d/daemon-config.json"
_READINESS = "readinessindicatorfile"
_AUTO = "auto"
_MOST_CONNECTIONS = 1024


class DaemonFileError(ValueError):
    """The file cannot be used; the message says which key, and what to do."""


@dataclass(frozen=True, slots=True)
class DaemonFile:
    """What the file says to the daemon; ``keys`` is all of it, None without a file.

    ``connections`` is the most calls at once, ``metrics_port`` a TCP port, None where not given.
    With ``waits`` the daemon waits for the readiness file once, at its start, and calls do not.
    """

    keys: Json | None = None
    socket_dir: str = ""
    connections: int | None = None
    metrics_port: int | None = None
    readiness_file: str = ""
    waits: bool = False
    log_file: str = ""
    log_to_stderr: bool = False

    def over(self, stdin: bytes) -> bytes:
        """Return a call's input with the file's keys over it; raises FieldError."""
        return stdin if self.keys is None else over(stdin, self.keys, without_readiness=self.waits)


def read_file(path: str, *, needed: bool) -> DaemonFile:
    """Read the file; one that is absent and not needed is an empty one. Raises DaemonFileError."""
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError as error:
        if needed:
            raise DaemonFileError(f"{path} does not exist; correct --config") from error
        return DaemonFile()
    except OSError as error:
        raise DaemonFileError(f"{path}: {error.strerror}") from error
    try:
        return understand(parse_keys(text))
    except FieldError as error:
        raise DaemonFileError(f"{path}: {error}") from error


def parse_keys(text: bytes) -> Json | None:
    """Return the file's keys, None for an empty one; raises FieldError."""
    if not text:
        return None
    value = decode(text, "the daemon's configuration")
    if not isinstance(value, dict):
        raise FieldError("the daemon's configuration must be a JSON object")
    return value


def understand(keys: Json | None) -> DaemonFile:
    """Find in the keys what is for the daemon itself; raises FieldError."""
    if keys is None:
        return DaemonFile()
    fields = Fields(keys, "the daemon's configuration")
    if fields.text("chrootDir"):
        raise FieldError(
            "chrootDir is not served: run the daemon in the host's mount namespace, or mount the "
            "plugins' folders at their own paths, and remove the key"
        )
    connections, port = fields.number("connectionLimit"), fields.number("metricsPort")
    if connections is not None and not 0 < connections <= _MOST_CONNECTIONS:
        raise FieldError(f"connectionLimit must be a number from 1 to {_MOST_CONNECTIONS}")
    if port is not None and not 0 < port < 65536:
        raise FieldError("metricsPort must be a port number")
    return DaemonFile(
        keys=keys,
        socket_dir=fields.text("socketDir"),
        connections=connections,
        metrics_port=port,
        readiness_file=fields.text(_READINESS),
        waits=fields.text("multusConfigFile") == _AUTO,
        log_file=fields.text("logFile"),
        log_to_stderr=fields.flag("logToStderr"),
    )


def over(stdin: bytes, keys: Json, *, without_readiness: bool) -> bytes:
    """Return a configuration with the top-level members that ``keys`` has replaced by its own.

    A member is replaced whatever the case of its name, since readers know no case.
    ``without_readiness`` leaves the readiness file out. Raises FieldError.
    """
    conf = decode(stdin, "the configuration on stdin")
    if not isinstance(conf, dict):
        raise FieldError("the configuration on stdin must be a JSON object")
    ours = {name.lower() for name in keys}
    merged = {name: value for name, value in conf.items() if name.lower() not in ours} | keys
    if without_readiness:
        merged = {name: value for name, value in merged.items() if name.lower() != _READINESS}
    return encode(merged)
