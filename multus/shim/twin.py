#!/usr/bin/python3 -IS
"""The twin of shim.c, for where no C compiler was: the same behaviour under the same tests.

Python compiles this file at every start, so it holds what each call needs and imports built-in
modules alone; what is seldom needed is in twin_down.py, which is installed beside it.
"""
# hwmgr-shim: put here by multusctl install

import posix
import sys
from time import monotonic

HEADER = b"\x8eCNI\x01"  # as in hwmgr/frames.py, and so are the limits
LONGEST_ENVIRONMENT = 8 << 20
LONGEST_INPUT = 16 << 20
LONGEST_SETTINGS = 64 << 10
DOWN = "hwmgr-shim-down.py"


class Caller:
    """Who called, and all of the call that leaves this process."""

    program = "multus"
    folder = ""
    settings: dict[bytes, bytes]
    environment = b""
    command = b""
    stdin = b""
    began = 0.0
    deadline = 0.0

    def variable(self, name: bytes) -> bytes:
        """Return a variable's value, that of the first where there are two, b"" without one."""
        start = (b"\0" + self.environment).find(b"\0" + name + b"=")
        if start < 0:
            return b""
        start += len(name) + 1
        return self.environment[start : self.environment.index(b"\0", start)]

    def rest(self, name: str, *facts: object) -> int:
        """Run a function of twin_down.py; returns the exit status."""
        try:
            code = read(posix.open(self.folder + DOWN, posix.O_RDONLY), 1 << 20)
        except OSError:
            return plain_failure(f"{DOWN} is missing beside it; run 'multusctl install' again")
        functions: dict[str, object] = {"write": write, "message": message}
        exec(code, functions)  # noqa: S102 - our own file, root's as this one is
        return functions[name](self, *facts)  # type: ignore[operator, no-any-return]


def main() -> int:
    """Answer one call; returns the exit status."""
    caller = Caller()
    caller.began = monotonic()
    for fd in (0, 1, 2):
        try:
            posix.fstat(fd)
        except OSError:
            # Closed: it becomes something that fails, or the next file would be taken for it.
            posix.open("/dev/null", posix.O_RDONLY if fd else posix.O_WRONLY)
            posix.set_inheritable(fd, True)
    script = sys.argv[0]
    if script.rpartition("/")[2] == "sriov":
        caller.program = "sriov"
    try:
        while True:
            link = posix.readlink(script)
            script = link if link[0] == "/" else script[: script.rfind("/") + 1] + link
    except OSError:
        caller.folder = script[: script.rfind("/") + 1]
    try:
        # Not posix.environ: the interpreter adds LC_CTYPE to that.
        caller.environment = read(posix.open("/proc/self/environ", posix.O_RDONLY), 1 << 30)
    except OSError:
        items = posix.environ.items()
        caller.environment = b"".join(name + b"=" + value + b"\0" for name, value in items)
    caller.command = caller.variable(b"CNI_COMMAND")
    if not caller.command:
        return caller.rest("about")
    caller.deadline = caller.began + 1
    problem = load_settings(caller)
    if problem:
        return caller.rest("unavailable", problem)
    settings = caller.settings
    caller.deadline = caller.began + int(settings[b"answer_ms"]) / 1000
    if caller.command == b"VERSION":
        if b"version" in settings:
            return 0 if write(1, settings[b"version"] + b"\n") else 1
        settings[b"connect_ms"] = b"0"
    settings.setdefault(b"connect_ms", b"0" if b"thin" in settings else b"2000")
    return read_stdin(caller) or forward(caller)


def read(fd: int, limit: int) -> bytes:
    """Return what a file has, at most limit bytes and 64 KiB, and close it."""
    try:
        parts, used = [], 0
        while used < limit and (part := posix.read(fd, 65536)):
            parts.append(part)
            used += len(part)
        return b"".join(parts)
    finally:
        posix.close(fd)


def write(fd: int, data: bytes) -> bool:
    """Write all; False where nobody reads."""
    try:
        while data:
            data = data[posix.write(fd, data) :]
    except BlockingIOError:
        from select import POLLOUT, poll

        waiting = poll()
        waiting.register(fd, POLLOUT)
        return bool(waiting.poll(10000)) and write(fd, data)
    except OSError:
        return False
    return True


def load_settings(caller: Caller) -> str:
    """Read the settings, defaults where there is no file; returns what is wrong with it."""
    path = caller.folder + "hwmgr-shim.conf"
    settings = caller.settings = {
        b"socket": b"/run/multus/multus.sock",
        b"spool": b"/var/lib/cni/sriov/spool",
        b"answer_ms": b"115000",
    }
    try:
        text = read(posix.open(path, posix.O_RDONLY), LONGEST_SETTINGS + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}; run 'multusctl install' again"
    if len(text) > LONGEST_SETTINGS:
        why = "it is longer than 65536 bytes"
        return f"{path} cannot be read: {why}; run 'multusctl install' again"
    for number, line in enumerate(text.split(b"\n"), 1):
        key, equals, value = line.strip(b" \t\r").partition(b"=")
        key, value, problem = key.rstrip(b" \t\r"), value.lstrip(b" \t\r"), ""
        if b"\0" in line:
            problem = "there is a zero byte in it"
        elif not equals:
            problem = "it is not key=value" if key and key[:1] != b"#" else ""
        elif key in (b"socket", b"thin", b"spool"):
            if value[:1] != b"/":
                problem = "the path is not absolute"
            elif len(value) >= (108 if key == b"socket" else 4080):
                problem = "the path is too long"
        elif key in (b"connect_ms", b"answer_ms") and not (value.isdigit() and len(value) <= 9):
            problem = "it is no number of milliseconds"
        if problem:
            what = f"{path}, line {number}: {problem}"
            return f"{what}; correct it, or run 'multusctl install' again"
        settings[key] = value
    return ""


def read_stdin(caller: Caller) -> int:
    """Read standard input; returns 0, or the exit status after a failure."""
    if len(caller.environment) > LONGEST_ENVIRONMENT:
        text = f"the environment is longer than {LONGEST_ENVIRONMENT} bytes"
        return caller.rest("fail", 4, text)
    from select import POLLIN, poll

    waiting = poll()
    waiting.register(0, POLLIN)
    parts, used = [], 0
    while True:
        if not waiting.poll(max(0, caller.deadline - monotonic()) * 1000):
            return caller.rest("endless_stdin")
        try:
            part = posix.read(0, 65536)
        except BlockingIOError:
            continue
        except OSError as error:
            return caller.rest("fail", 5, f"standard input cannot be read: {error.strerror}")
        if not part:
            break
        parts.append(part)
        used += len(part)
        if used > LONGEST_INPUT:
            return caller.rest("fail", 5, f"standard input is longer than {LONGEST_INPUT} bytes")
    caller.stdin = b"".join(parts)
    return 0


def forward(caller: Caller) -> int:
    """Send the call and print the answer; returns the exit status."""
    try:
        connection = Connection(caller)
        connection.send(message(caller))
        header = connection.receive(16)
        stdout_bytes = int.from_bytes(header[8:12], "big")
        stderr_bytes = int.from_bytes(header[12:], "big")
        right = header[:5] == HEADER and header[6:8] == b"\0\0"
        if not right or max(stdout_bytes, stderr_bytes) > LONGEST_INPUT:
            return caller.rest("no_answer")
        body = connection.receive(stdout_bytes + stderr_bytes)
    except BlockingIOError:
        return caller.rest("late")
    except ConnectionAbortedError:
        return caller.rest("broken")
    except OSError as error:
        return caller.rest("unreachable", error.strerror)
    write(2, body[stdout_bytes:])
    return header[5] if write(1, body[:stdout_bytes]) else header[5] or 1


class Connection:
    """A connection to the daemon; BlockingIOError is the caller's deadline."""

    def __init__(self, caller: Caller) -> None:
        import _socket

        self._deadline = caller.deadline
        until = min(caller.began + int(caller.settings[b"connect_ms"]) / 1000, caller.deadline)
        while True:
            self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            # connect(2) itself waits while the backlog is full, for as long as this; EAGAIN then.
            self._limit()
            try:
                self._socket.connect(caller.settings[b"socket"])
                break
            except (FileNotFoundError, ConnectionRefusedError):
                # It is bound before it is listened on: no event of the folder tells when to try.
                if monotonic() + 0.02 > until:
                    raise
            from time import sleep

            sleep(0.02)

    def send(self, data: bytes) -> None:
        """Send all. The daemon may end that by an answer, which can still be read."""
        view = memoryview(data)
        try:
            while view:
                self._limit()
                view = view[self._socket.send(view) :]
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self, count: int) -> bytes:
        """Receive so many bytes. Raises ConnectionAbortedError where it ends before."""
        data = b""
        while len(data) < count:
            self._limit()
            try:
                part = self._socket.recv(count - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                raise ConnectionAbortedError
            data += part
        return data

    def _limit(self) -> None:
        """Let the next step take no longer than the call may."""
        left = max(1, int((self._deadline - monotonic()) * 1000000))
        native = 8 if sys.maxsize > 1 << 32 else 4  # a long of struct timeval
        value = b"".join(part.to_bytes(native, sys.byteorder) for part in divmod(left, 1000000))
        for option in (20, 21):  # SO_RCVTIMEO, SO_SNDTIMEO
            self._socket.setsockopt(1, option, value)  # SOL_SOCKET


def message(caller: Caller) -> bytes:
    """Return the call as hwmgr/frames.py has it."""
    lengths = (len(caller.environment), len(caller.stdin))
    kind = b"\2\0\0" if caller.program == "sriov" else b"\1\0\0"
    sizes = b"".join(length.to_bytes(4, "big") for length in lengths)
    return HEADER + kind + sizes + caller.environment + caller.stdin


def plain_failure(text: str) -> int:
    """Print an error whose text needs no escapes; returns the exit status."""
    line = f'{{"cniVersion": "1.1.0", "code": 11, "msg": "{text}", "details": ""}}\n'
    write(1, line.encode())
    return 1


if __name__ == "__main__":
    status = 1
    try:
        status = main()
    except Exception as error:  # noqa: BLE001 - the runtime must get JSON whatever happens
        plain_failure(f"the shim failed: {type(error).__name__}; try again")
    finally:
        # The interpreter has nothing to tidy up, and that would cost a tenth of the call.
        posix._exit(status)  # noqa: SLF001 - its name
