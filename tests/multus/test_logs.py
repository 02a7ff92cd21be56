"""Logging: one syslog line a verb, and the logging keys of multus-cni."""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING

import pytest

from multus.config import LogConfig
from multus.logs import NodeLog, node_sink, one_line, send_to_syslog

if TYPE_CHECKING:
    from pathlib import Path


def log(config: LogConfig) -> tuple[NodeLog, list[tuple[int, str]], io.StringIO]:
    lines: list[tuple[int, str]] = []
    stderr = io.StringIO()
    made = NodeLog(
        config,
        syslog=lambda severity, text: lines.append((severity, text)),
        stderr=stderr,
        now=lambda: "now",
    )
    return made, lines, stderr


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("", []),
        ("panic", []),
        ("error", ["[error] b"]),
        ("Verbose", ["[verbose] a", "[error] b"]),
        ("debug", ["[verbose] a", "[error] b", "[debug] c"]),
    ],
)
def test_levels(tmp_path: Path, level: str, expected: list[str]) -> None:
    file = tmp_path / "logs/multus.log"
    made, syslog, stderr = log(LogConfig(file=str(file), level=level))
    made.did("a")
    made.problem("b")
    made.detail("c")
    assert stderr.getvalue().splitlines() == [f"now {line}" for line in expected]
    written = file.read_text().splitlines() if file.exists() else []
    assert written == [f"now {line}" for line in expected]
    assert syslog == [(6, "a"), (3, "b")]


def test_stderr_can_be_turned_off() -> None:
    made, _, stderr = log(LogConfig(level="debug", to_stderr=False))
    made.did("a")
    assert stderr.getvalue() == ""


def test_an_unknown_level_is_told_and_means_panic() -> None:
    made, _, stderr = log(LogConfig(level="loud"))
    made.problem("b")
    assert "not known" in stderr.getvalue()
    assert "b\n" not in stderr.getvalue()


def test_a_log_file_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    made, syslog, _ = log(LogConfig(file=str(tmp_path), level="error"))
    made.problem("b")
    assert [text for _, text in syslog][-1].startswith("logFile")


def test_rotation_keeps_the_newest(tmp_path: Path) -> None:
    file = tmp_path / "multus.log"
    config = LogConfig(file=str(file), level="error", max_size=1, max_backups=2, compress=True)
    for index in range(4):
        (tmp_path / f"multus-2020-01-0{index + 1}T00-00-00.log").touch()
    file.write_bytes(b"x" * 1024 * 1024)
    made, _, _ = log(config)
    made.problem("b")
    assert file.read_text() == "now [error] b\n"
    old = sorted(path.name for path in tmp_path.iterdir() if path != file)
    assert len(old) == 2
    assert old[-1].endswith(".log.gz")


def test_a_record_is_one_line() -> None:
    assert one_line("a\nb\x1b[31m\tc") == "a b [31m c"


def test_syslog_datagram(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        send_to_syslog(6, "hello", path=path)
        text = server.recv(1000).decode()
    assert text.startswith("<30>multus[")
    assert text.endswith("]: hello")
    send_to_syslog(6, "nobody listens", path=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("tag", "line"), [("multus", "now multus: one\n"), ("", "one\n")], ids=["text", "json"]
)
def test_a_line_of_text_in_a_file_has_its_time(tmp_path: Path, tag: str, line: str) -> None:
    file = tmp_path / "multus.log"
    node_sink(str(file), "info", stderr=io.StringIO(), tag=tag, now=lambda: "now")(6, "one")
    assert file.read_text() == line


class Unread(io.StringIO):
    """Standard error of a process whose other end is closed."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_a_log_that_nobody_reads_fails_no_call() -> None:
    sink = node_sink("stderr", "info", stderr=Unread(), tag="multus", now=lambda: "now")
    sink(6, "one line")
