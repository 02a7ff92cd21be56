"""The CNI protocol around the engine: environment and stdin in, one JSON document out.

Specification 1.1.0, section 2. The one place that prints on stdout and may catch any exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol, TextIO

from multus import cnitypes
from multus import version as versions
from multus.cnitypes import CmdArgs, CNIError, UnforeseenError
from multus.jsonfields import FieldError, Fields, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from multus.jsonfields import Json

_ALL = frozenset(("ADD", "DEL", "CHECK", "GC", "STATUS"))
_REQUIRED_BY = {
    "CNI_CONTAINERID": frozenset(("ADD", "DEL", "CHECK")),
    "CNI_NETNS": frozenset(("ADD", "CHECK")),
    "CNI_IFNAME": frozenset(("ADD", "DEL", "CHECK")),
    "CNI_PATH": _ALL,
}
_TRUE = ("TRUE", "true", "1")


class Commands(Protocol):
    """The verbs that need more than the protocol; every method may raise CNIError."""

    def cmd_add(self, args: CmdArgs) -> Json:
        """Attach; returns the result to print."""

    def cmd_del(self, args: CmdArgs) -> None:
        """Detach."""

    def cmd_check(self, args: CmdArgs) -> None:
        """Verify."""

    def cmd_gc(self, args: CmdArgs) -> None:
        """Free what belongs to no valid attachment."""

    def cmd_status(self, args: CmdArgs) -> None:
        """Say whether an ADD could be served."""

    def take_back(self, args: CmdArgs) -> None:
        """Undo what the ADD of this very call attached; another call's is not touched."""


@dataclass(frozen=True, slots=True)
class Process:
    """The process that a call came in by."""

    env: Mapping[str, str]
    stdin: BinaryIO
    stdout: TextIO
    stderr: TextIO


def serve(
    process: Process,
    make_engine: Callable[[], Commands],
    complain: Callable[[str], None],
    *,
    take_back: bool = False,
) -> int:
    """Answer one call and return the exit status: 0, or 1 with an error document on stdout.

    With ``take_back`` the call was an ADD whose answer nobody took. ``complain`` hears every error
    in one line, and the traceback of one that is a bug of ours.
    """
    version = versions.CURRENT
    command = process.env.get("CNI_COMMAND", "")
    try:
        args = read_args(process)
        version = negotiate(command, args.stdin)
        if take_back:
            make_engine().take_back(args)
            return 0
        result = _dispatch(make_engine(), args)
    except Exception as error:  # noqa: BLE001 the runtime must get JSON whatever happens
        failure = _as_cni(error, complain)
        subject = f"{command} {process.env.get('CNI_CONTAINERID', '')}".strip()
        detail = f" ({failure.details})" if failure.details else ""
        complain(f"{subject} failed with code {failure.code}: {failure.msg}{detail}")
        return _print(process, failure.to_json(version)) or 1
    return 0 if result is None else _print(process, result)


def read_args(process: Process) -> CmdArgs:
    """Read and check the environment and stdin; raises CNIError 4, 5."""
    env = process.env
    command = env.get("CNI_COMMAND", "")
    if command not in _ALL:
        raise CNIError(
            cnitypes.INVALID_ENVIRONMENT,
            f"CNI_COMMAND {command!r} is none of {', '.join(sorted(_ALL))}, VERSION",
        )
    missing = [
        name for name, verbs in _REQUIRED_BY.items() if command in verbs and not env.get(name)
    ]
    if missing:
        raise CNIError(
            cnitypes.INVALID_ENVIRONMENT,
            f"required environment variables are missing: {', '.join(missing)}",
        )
    about_container = command in _REQUIRED_BY["CNI_CONTAINERID"]
    container_id, ifname = env.get("CNI_CONTAINERID", ""), env.get("CNI_IFNAME", "")
    if about_container and not cnitypes.valid_name(container_id):
        raise CNIError(
            cnitypes.INVALID_ENVIRONMENT,
            f"CNI_CONTAINERID {container_id!r} may hold only letters, digits, '_', '.' and '-'",
        )
    fault = cnitypes.ifname_fault(ifname) if about_container else None
    if fault:
        raise CNIError(cnitypes.INVALID_ENVIRONMENT, f"CNI_IFNAME: {fault}")
    try:
        stdin = process.stdin.read()
    except (OSError, ValueError) as error:
        raise CNIError(cnitypes.IO_FAILURE, f"standard input cannot be read: {error}") from error
    return CmdArgs(
        command=command,
        container_id=container_id,
        netns=env.get("CNI_NETNS", ""),
        ifname=ifname,
        args=env.get("CNI_ARGS", ""),
        path=env["CNI_PATH"],
        stdin=stdin,
        netns_override=env.get("CNI_NETNS_OVERRIDE") in _TRUE,
    )


def negotiate(command: str, stdin: bytes) -> str:
    """Return the version to speak; raises CNIError 6, 7, or 1 when we do not speak it."""
    try:
        fields = Fields(decode(stdin, "the configuration on stdin"), "the configuration on stdin")
        version, name = fields.text("cniVersion"), fields.text("name")
    except FieldError as error:
        raise CNIError(cnitypes.DECODING_FAILURE, str(error)) from error
    if not name:
        raise CNIError(cnitypes.INVALID_CONFIG, "the configuration has no name")
    if not cnitypes.valid_name(name):
        raise CNIError(
            cnitypes.INVALID_CONFIG,
            f"network name {name!r} may hold only letters, digits, '_', '.' and '-'",
        )
    version = version or versions.OLDEST
    if version not in versions.SUPPORTED:
        raise CNIError(
            cnitypes.INCOMPATIBLE_VERSION,
            f"cniVersion {version!r} is not supported",
            f"supported versions: {', '.join(versions.SUPPORTED)}",
        )
    if not versions.knows(version, command):
        raise CNIError(
            cnitypes.INCOMPATIBLE_VERSION,
            f"{command} needs a configuration of version {versions.FIRST_WITH[command]} or later, "
            f"this one has {version}",
        )
    return version


def _dispatch(engine: Commands, args: CmdArgs) -> Json | None:
    if args.command == "ADD":
        return engine.cmd_add(args)
    verbs = {
        "DEL": engine.cmd_del,
        "CHECK": engine.cmd_check,
        "GC": engine.cmd_gc,
        "STATUS": engine.cmd_status,
    }
    verbs[args.command](args)
    return None


def _as_cni(error: Exception, complain: Callable[[str], None]) -> CNIError:
    from multus.translate import to_cni

    failure = to_cni(error)
    if isinstance(failure, UnforeseenError):
        import traceback

        complain("".join(traceback.format_exception(error)))
    return failure


def _print(process: Process, document: Json) -> int:
    """Print the one document; 1 when nobody is there to read it any more."""
    import json

    try:
        process.stdout.write(json.dumps(document, indent=4) + "\n")
        process.stdout.flush()
    except (OSError, ValueError):
        return 1
    return 0
