"""The one door to other programs: what they get, how they end, and that nothing stays behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hwmgr.errors import RunError, RunTimeout
from hwmgr.pipes import LONGEST_OUTPUT
from hwmgr.run import Completed, KernelRunner

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ENV = {"PATH": "/usr/bin:/bin"}


def sh(script: str, stdin: bytes = b"", timeout: float = 30.0, **env: str) -> Completed:
    argv = ["/bin/sh", "-c", script]
    return KernelRunner().run(argv, env={**ENV, **env}, stdin=stdin, timeout=timeout)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    descriptors, before = os.listdir("/proc/self/fd"), children()
    yield
    assert os.listdir("/proc/self/fd") == descriptors
    assert children() <= before


def children() -> set[str]:
    """Return the ids of our processes, those among them that nobody has waited for."""
    found: set[str] = set()
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            found |= set(file.read().split())
    return found


def test_streams_environment_and_status() -> None:
    done = sh('cat; echo "$A" >&2; env | wc -l; exit 7', b"in", A="a=\udcff b")
    assert (done.returncode, done.stdout[:2], done.stderr) == (7, b"in", b"a=\xff b\n")
    assert int(done.stdout[2:]) <= 5  # ours and what the shell adds


def test_an_end_by_a_signal_is_negative() -> None:
    assert sh("kill -TERM $$").returncode == -signal.SIGTERM


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3_000_000])
def test_any_amount_goes_through(size: int) -> None:
    data = os.urandom(1000) * (size // 1000) + b"x" * (size % 1000)
    done = KernelRunner().run(["/bin/cat"], env=ENV, stdin=data, timeout=30)
    assert done == Completed(0, data, b"")


def test_a_program_that_reads_nothing_gets_more_than_a_pipe_holds() -> None:
    assert sh("echo done", b"x" * 1_000_000) == Completed(0, b"done\n", b"")


def test_output_has_a_bound() -> None:
    done = sh(f"head -c {LONGEST_OUTPUT + 70_000} /dev/zero; echo end >&2")
    assert (done.returncode, len(done.stdout), done.stderr) == (0, LONGEST_OUTPUT, b"end\n")


def test_both_outputs_at_once() -> None:
    done = sh("head -c 300000 /dev/zero >&2 & head -c 300000 /dev/zero; wait")
    assert (len(done.stdout), len(done.stderr)) == (300_000, 300_000)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/nonexistent", errno.ENOENT), ("/etc/passwd", errno.EACCES), ("/bin/a\0b", errno.EINVAL)],
)
def test_what_cannot_be_started_says_why(path: str, expected: int) -> None:
    with pytest.raises(RunError) as caught:
        KernelRunner().run([path], env=ENV, stdin=b"", timeout=5)
    assert caught.value.errno == expected
    assert not isinstance(caught.value, RunTimeout)


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("just text\n")
    path.chmod(0o755)
    with pytest.raises(RunError) as caught:
        KernelRunner().run([str(path)], env=ENV, stdin=b"", timeout=5)
    assert caught.value.errno == errno.ENOEXEC


def test_a_file_that_is_being_written_is_busy(tmp_path: Path) -> None:
    path = tmp_path / "busy"
    path.write_bytes(Path("/bin/true").read_bytes())
    path.chmod(0o755)
    with path.open("ab"), pytest.raises(RunError) as caught:
        KernelRunner().run([str(path)], env=ENV, stdin=b"", timeout=5)
    assert caught.value.errno == errno.ETXTBSY


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended, also one that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


HANGING = ["sleep 60 & echo $! > $F; wait", "exec >&- 2>&-; exec sleep 60"]


@pytest.mark.parametrize("script", HANGING)
def test_at_the_limit_the_whole_group_is_killed(tmp_path: Path, script: str) -> None:
    file = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(RunTimeout):
        sh(script, timeout=0.3, F=str(file))
    assert time.monotonic() - began < 5
    if file.exists():
        child = int(file.read_text())
        pidfd_gone = time.monotonic() + 5
        while not is_gone(child) and time.monotonic() < pidfd_gone:
            os.sched_yield()
        assert is_gone(child)


@pytest.mark.parametrize("script", HANGING)
def test_what_the_kernel_holds_is_left_to_it_and_reaped_later(tmp_path: Path, script: str) -> None:
    """A process in uninterruptible sleep does not end by SIGKILL: here it is not sent."""
    spared: list[int] = []

    def spare(group: int, number: int) -> None:
        assert number == signal.SIGKILL
        spared.append(group)

    argv, env = ["/bin/sh", "-c", script], {**ENV, "F": str(tmp_path / "pid")}
    with pytest.raises(RunTimeout, match="cannot be ended while the kernel holds it") as caught:
        KernelRunner(spare, 0.1).run(argv, env=env, stdin=b"", timeout=0.3)
    assert spared == [caught.value.held]
    os.killpg(spared[0], signal.SIGKILL)
    end = time.monotonic() + 20
    while str(spared[0]) in children():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_daemon_that_keeps_the_output_open_holds_us_no_longer_than_the_limit(
    tmp_path: Path,
) -> None:
    file = tmp_path / "pid"
    with pytest.raises(RunTimeout):
        sh("setsid sh -c 'echo $$ > $F; exec sleep 60' &", timeout=0.5, F=str(file))
    os.kill(int(file.read_text()), signal.SIGKILL)


def test_the_limit_holds_while_input_is_not_taken() -> None:
    with pytest.raises(RunTimeout):
        sh("sleep 60", b"x" * 1_000_000, timeout=0.2)


def test_descriptors_of_ours_are_not_inherited() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        assert sh("ls /proc/self/fd").stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is ls's own
    finally:
        os.close(reader)
        os.close(writer)


def test_signals_are_as_a_program_expects_them() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        status = sh("cat /proc/self/status").stdout.decode()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert int(fields["SigBlk"], 16) == 0
    assert not int(fields["SigIgn"], 16) & (1 << (signal.SIGPIPE - 1))


def test_many_threads_at_once() -> None:
    def one(number: int) -> bool:
        data = str(number).encode() * 20_000
        return sh("cat; exit $N", data, N=str(number % 200)) == Completed(number % 200, data, b"")

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(one, range(200)))


@pytest.mark.parametrize("closed", [(0,), (0, 1), (0, 1, 2), (1,)])
def test_a_process_that_lacks_some_of_its_own_streams(tmp_path: Path, closed: tuple[int]) -> None:
    file = tmp_path / "said"
    code = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); from hwmgr.run import KernelRunner\n"
        f"[os.close(fd) for fd in {closed}]\n"
        "done = KernelRunner().run(['/bin/sh', '-c', 'cat; echo e >&2'], env={}, stdin=b'in', "
        "timeout=9)\n"
        f"open({str(file)!r}, 'w').write(repr(done)); os._exit(0)"
    )
    subprocess.run([sys.executable, "-IS", "-c", code], check=True, capture_output=True)
    assert file.read_text() == repr(Completed(0, b"in", b"e\n"))


def test_where_the_kernel_keeps_no_account_of_children_it_is_no_success() -> None:
    code = (
        "import signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        f"sys.path.insert(0, {str(ROOT)!r}); from hwmgr.run import KernelRunner\n"
        "done = KernelRunner().run(['/bin/echo', 'x'], env={}, stdin=b'', timeout=9)\n"
        "print(done.returncode, done.stdout)"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", code], check=True, capture_output=True)
    assert done.stdout == b"255 b'x\\n'\n"


@pytest.mark.parametrize("spare", range(7))
def test_without_descriptors_nothing_is_started_and_none_is_lost(spare: int) -> None:
    code = (
        f"import os, resource, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from hwmgr.errors import RunError; from hwmgr.run import KernelRunner\n"
        "import errno, fcntl, select\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))\n"
        f"kept = [os.dup(0) for _ in range(40 - 3 - {spare})]\n"
        "for _ in range(3):\n"
        "    try:\n"
        "        KernelRunner().run(['/bin/true'], env={}, stdin=b'', timeout=9)\n"
        "    except RunError as error:\n"
        "        assert error.errno == errno.EMFILE, error\n"
        f"assert len([os.dup(0) for _ in range({spare})]) == {spare}\n"
    )
    subprocess.run(
        [sys.executable, "-IS", "-c", code], check=True, stdin=subprocess.DEVNULL, close_fds=True
    )
