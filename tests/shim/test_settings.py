"""The settings file: what is read from it, and what is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.shim.rig import FakeDaemon

if TYPE_CHECKING:
    from tests.shim.rig import Shim


def test_comments_white_space_and_unknown_keys_are_fine(shim: Shim) -> None:
    lines = [
        "",
        "# c",
        "  # d",
        f"\tsocket =  {shim.socket}\t\r",
        "future=1",
        "=x",
        "answer_ms=9999",
    ]
    shim.conf.write_text("\n".join(lines))
    with FakeDaemon(shim.socket):
        assert shim.run("ADD").status == 0


def test_the_last_of_two_lines_counts(shim: Shim) -> None:
    shim.conf.write_text(f"socket=/nonexistent\nsocket={shim.socket}\n")
    with FakeDaemon(shim.socket):
        assert shim.run("ADD").status == 0


def test_without_a_file_there_are_defaults(shim: Shim) -> None:
    shim.conf.unlink()
    assert b'"supportedVersions"' in shim.run("VERSION").stdout


@pytest.mark.parametrize("verb", ["DEL", "STATUS"])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"\nno equals\n", "line 2: it is not key=value"),
        (b"socket=relative/path", "line 1: the path is not absolute"),
        (b"socket=", "line 1: the path is not absolute"),
        (b"thin=bin", "line 1: the path is not absolute"),
        (b"spool=~/x", "line 1: the path is not absolute"),
        (b"socket=/" + b"x" * 107, "line 1: the path is too long"),
        (b"spool=/" + b"x" * 5000, "line 1: the path is too long"),
        (b"answer_ms=soon", "line 1: it is no number of milliseconds"),
        (b"answer_ms=-1", "line 1: it is no number of milliseconds"),
        (b"answer_ms=1.5", "line 1: it is no number of milliseconds"),
        (b"answer_ms=", "line 1: it is no number of milliseconds"),
        (b"connect_ms=9999999999", "line 1: it is no number of milliseconds"),
        (b"a=b\nc=\0d\n", "line 2: there is a zero byte in it"),
        (b"#" * 65537, "it is longer than 65536 bytes"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_done(
    shim: Shim, verb: str, text: bytes, why: str
) -> None:
    shim.conf.write_bytes(text)
    error = shim.run(verb).error()
    assert error["code"] == (50 if verb == "STATUS" else 11)
    assert str(shim.conf) in error["msg"]
    assert why in error["msg"]
    assert "multusctl install" in error["msg"]


def test_a_file_that_cannot_be_read_is_an_error(shim: Shim) -> None:
    shim.conf.unlink()
    shim.conf.mkdir()
    assert "Is a directory" in shim.run("DEL").error()["msg"]


def test_the_longest_file_and_socket_are_taken(shim: Shim) -> None:
    name = "s" * (107 - len(os.fsencode(shim.folder)) - 1)
    path = shim.folder / name
    line = f"socket={path}\n".encode()
    shim.conf.write_bytes(b"#" * (65535 - len(line)) + b"\n" + line)
    with FakeDaemon(path):
        assert shim.run("ADD").status == 0
