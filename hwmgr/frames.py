"""One call of a program as bytes, and the answer to it: what a shim and the daemon exchange.

A call is a program's name, its environment and its standard input, as they are: nothing in here
looks into them. The same bytes, in a file, are a call that was left for later (see hwmgr.spool).

Numbers are big-endian. A call: 4 bytes ``MAGIC``, 1 byte version (1), 1 byte program (1 multus,
2 sriov), 2 bytes zero, 4 bytes length of the environment, 4 bytes length of the input; then the
environment as ``NAME=VALUE`` items, each ended by a zero byte; then the input. An answer: the same
magic and version, 1 byte exit status, 2 bytes zero, 4 bytes length of standard output, 4 bytes
length of standard error; then both.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# No request of HTTP begins like this, so both can come in by one socket.
MAGIC = b"\x8eCNI"
VERSION = 1
HEADER_BYTES = 16
# execve(2) takes 128 KiB an item and 6 MiB in all (fs/exec.c, bprm_stack_limits).
LONGEST_ENVIRONMENT = 8 << 20
LONGEST_INPUT = 16 << 20
PROGRAMS = {"multus": 1, "sriov": 2}

_HEADER = struct.Struct(">4sBBHII")
_NAMES = {number: name for name, number in PROGRAMS.items()}


class FrameError(ValueError):
    """The bytes are no call and no answer; the message says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """A program that was started: ``program`` is ``multus`` or ``sriov``."""

    program: str
    env: Mapping[str, str]
    stdin: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended, and what it printed."""

    status: int
    stdout: bytes = b""
    stderr: bytes = b""


@dataclass(frozen=True, slots=True)
class Head:
    """The first ``HEADER_BYTES`` of a call."""

    program: str
    env_bytes: int
    stdin_bytes: int


def encode_call(call: Call) -> bytes:
    """Return a call as bytes. Raises FrameError for a program that has no number."""
    number = PROGRAMS.get(call.program)
    if number is None:
        raise FrameError(f"program {call.program!r} is none of {', '.join(PROGRAMS)}")
    items = (os.fsencode(f"{name}={value}") + b"\0" for name, value in call.env.items())
    env = b"".join(items)
    return _HEADER.pack(MAGIC, VERSION, number, 0, len(env), len(call.stdin)) + env + call.stdin


def read_head(data: bytes) -> Head:
    """Read the header of a call. Raises FrameError, also for lengths that no caller can mean."""
    number, env_bytes, stdin_bytes = _header(data)
    program = _NAMES.get(number)
    if program is None:
        raise FrameError(f"program number {number} is not known")
    if env_bytes > LONGEST_ENVIRONMENT or stdin_bytes > LONGEST_INPUT:
        raise FrameError(
            f"{env_bytes} bytes of environment and {stdin_bytes} of input are too many"
        )
    return Head(program, env_bytes, stdin_bytes)


def decode_call(data: bytes) -> Call:
    """Return bytes as a call. Raises FrameError."""
    head = read_head(data)
    return read_body(head, data[HEADER_BYTES:])


def read_body(head: Head, body: bytes) -> Call:
    """Return what follows a header as a call. Raises FrameError."""
    if len(body) != head.env_bytes + head.stdin_bytes:
        raise FrameError(f"{len(body)} bytes follow the header, not as many as it says")
    return Call(head.program, _environment(body[: head.env_bytes]), body[head.env_bytes :])


def encode_answer(answer: Answer) -> bytes:
    """Return an answer as bytes; the exit status is one byte, as for the kernel."""
    lengths = (len(answer.stdout), len(answer.stderr))
    head = _HEADER.pack(MAGIC, VERSION, answer.status & 0xFF, 0, *lengths)
    return head + answer.stdout + answer.stderr


def decode_answer(data: bytes) -> Answer:
    """Return bytes as an answer. Raises FrameError."""
    status, stdout_bytes, stderr_bytes = _header(data)
    if len(data) != HEADER_BYTES + stdout_bytes + stderr_bytes:
        raise FrameError("the answer is cut off, or followed by something")
    middle = HEADER_BYTES + stdout_bytes
    return Answer(status, data[HEADER_BYTES:middle], data[middle:])


def _header(data: bytes) -> tuple[int, int, int]:
    if len(data) < HEADER_BYTES:
        raise FrameError("the header is cut off")
    magic, version, number, zero, first, second = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise FrameError("it does not begin as a call or an answer does")
    if version != VERSION or zero:
        raise FrameError(f"version {version} is not known, this is {VERSION}")
    return number, first, second


def _environment(block: bytes) -> dict[str, str]:
    if not block:
        return {}
    if not block.endswith(b"\0"):
        raise FrameError("the environment does not end with a zero byte")
    env: dict[str, str] = {}
    for item in block[:-1].split(b"\0"):
        name, equals, value = item.partition(b"=")
        # getenv(3) finds the first of two; an item without a name or a sign is nobody's variable.
        if equals and name:
            env.setdefault(os.fsdecode(name), os.fsdecode(value))
    return env
