"""What twin.py seldom needs: errors, and calls while multus-daemon is down. See shim.c.

twin.py runs this file's text when it needs a function of it, and puts two of its own there.
"""

import posix
from time import time_ns

# As in multus/version.py, which cannot be imported: this stands in a folder of its own.
CURRENT = "1.1.0"
SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

LETTERS_DIGITS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multus.shim.twin import Caller, message, write  # noqa: TC004 - twin.py puts them here


def about(caller: "Caller") -> int:
    """Tell a person who tries the plugin by hand what it is."""
    versions = ", ".join(SUPPORTED)
    write(2, f"{caller.program}, a CNI plugin for CNI versions {versions}\n".encode())
    return 0


def fail(caller: "Caller", code: int, text: str) -> int:  # noqa: ARG001 - called as the others
    """Print an error as the specification wants it; shim.c tells why with this cniVersion."""
    line = f'{{"cniVersion": "{CURRENT}", "code": {code}, "msg": "'
    for byte in text.encode("utf-8", "surrogateescape")[:2047]:
        plain = 0x20 <= byte < 0x7F and byte not in b'"\\'
        line += chr(byte) if plain else f"\\u{byte:04x}"
    write(1, (line + '", "details": ""}\n').encode())
    return 1


def unavailable(caller: "Caller", text: str) -> int:
    """Fail for what is nobody's fault but the daemon's."""
    return fail(caller, 50 if caller.command == b"STATUS" else 11, text)


def endless_stdin(caller: "Caller") -> int:
    """Fail at the limit, before there was a call."""
    return fail(caller, 5, f"standard input did not end {limit(caller)}")


def late(caller: "Caller") -> int:
    """Fail at the limit."""
    where = f"multus-daemon did not answer at {path(caller, b'socket')} {limit(caller)}"
    return unavailable(caller, f"{where}; see 'journalctl -u multus-daemon'")


def no_answer(caller: "Caller") -> int:
    """Fail for an answer that is none."""
    where = path(caller, b"socket")
    text = f"what listens at {where} does not answer as multus-daemon does; see 'ss -xlp' for who"
    return unavailable(caller, f"{text} it is")


def broken(caller: "Caller") -> int:
    """Fail, or do what may be done twice."""
    where = f"multus-daemon ended the connection at {path(caller, b'socket')}"
    text = f"{where} before it had answered; see 'journalctl -u multus-daemon'"
    if caller.command in (b"DEL", b"VERSION"):
        return daemon_down(caller, text)
    return unavailable(caller, text)


def unreachable(caller: "Caller", problem: str) -> int:
    """Do without a daemon what can be done."""
    where = f"multus-daemon cannot be reached at {path(caller, b'socket')}: {problem}"
    return daemon_down(caller, f"{where}; is it running? See 'systemctl status multus-daemon'")


def daemon_down(caller: "Caller", why: str) -> int:
    """Do the call here, keep it, or refuse it: nobody works on it."""
    if b"thin" in caller.settings:
        problem = become_thin(caller)
        program = f"{path(caller, b'thin')}/{caller.program}"
        why = f"{why}; and {program} cannot be started: {problem}"
    if caller.command == b"VERSION":
        supported = ", ".join(f'"{version}"' for version in SUPPORTED)
        line = f'{{"cniVersion": "{CURRENT}", "supportedVersions": [{supported}]}}\n'
        return 0 if write(1, line.encode()) else 1
    if caller.command == b"DEL":
        return spool(caller, why)
    return unavailable(caller, why)


def become_thin(caller: "Caller") -> str:
    """Become the program that works without a daemon; returns why that fails."""
    program = caller.settings[b"thin"] + b"/" + caller.program.encode()
    environment: dict[bytes, bytes] = {}
    for item in caller.environment.split(b"\0"):
        name, equals, value = item.partition(b"=")
        if name and equals:
            environment.setdefault(name, value)
    try:
        fd = posix.memfd_create("stdin")
        write_all(fd, caller.stdin)
        posix.lseek(fd, 0, 0)
        posix.dup2(fd, 0)
        posix.close(fd)
        # The interpreter ignores it, and what is ignored stays so in another program.
        from _signal import SIG_DFL, SIG_IGN, SIGPIPE, signal  # type: ignore[import-not-found]

        signal(SIGPIPE, SIG_DFL)
        try:
            posix.execve(program, [program], environment)
        finally:
            signal(SIGPIPE, SIG_IGN)
    except OSError as error:
        return error.strerror or ""


def spool(caller: "Caller", why: str) -> int:
    """Leave a DEL for whoever works next on this container; success is said when it is on disk."""
    container, ifname = caller.variable(b"CNI_CONTAINERID"), caller.variable(b"CNI_IFNAME")
    if not container or container[0] in b"_.-" or container.strip(LETTERS_DIGITS + b"_.-"):
        what = f'CNI_CONTAINERID "{text_of(container[:300])}"'
        return fail(caller, 4, f"{what} may hold only letters, digits, '_', '.' and '-'")
    if not valid_ifname(ifname):
        return fail(caller, 4, f'CNI_IFNAME "{text_of(ifname[:300])}" is no interface name')
    name = b"%b.%b.%019d.%d" % (container, ifname, time_ns(), posix.getpid())
    try:
        folder = open_folder(caller.settings[b"spool"])
        write_file(folder, name, message(caller))
    except OSError as error:
        where = path(caller, b"spool")
        return fail(caller, 11, f"{why}; and the DEL cannot be kept in {where}: {error.strerror}")
    line = f"{caller.program}: {why}; the DEL is kept in {path(caller, b'spool')}\n"
    write(2, line.encode("utf-8", "surrogateescape"))
    return 0


def valid_ifname(name: bytes) -> bool:
    """Tell whether the kernel takes a name (dev_valid_name in net/core/dev.c)."""
    if not name or len(name) > 15 or name in (b".", b".."):
        return False
    return not any(byte <= 0x20 or byte in b"/:\x7f\xa0" for byte in name)


def open_folder(path: bytes) -> int:
    """Open a folder, and make it and those above it, 0700, where they are absent."""
    made = b""
    for name in path.split(b"/"):
        if not name:
            continue
        above, made = made or b"/", made + b"/" + name
        try:
            posix.mkdir(made, 0o700)
        except FileExistsError:
            continue
        parent = posix.open(above, posix.O_RDONLY | posix.O_DIRECTORY)
        posix.fsync(parent)
        posix.close(parent)
    return posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY)


def write_file(folder: int, name: bytes, data: bytes) -> None:
    """Write a file durably: all of it below its name, or nothing."""
    temporary = b"." + name
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW
    fd = posix.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        write_all(fd, data)
        posix.fsync(fd)
        posix.close(fd)
        posix.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        posix.unlink(temporary, dir_fd=folder)
        raise
    posix.fsync(folder)


def write_all(fd: int, data: bytes) -> None:
    """Write all, or raise OSError."""
    while data:
        data = data[posix.write(fd, data) :]


def limit(caller: "Caller") -> str:
    """Tell the limit of a call."""
    milliseconds = int(caller.settings[b"answer_ms"])
    return f"within {milliseconds} ms (answer_ms in {caller.folder}hwmgr-shim.conf)"


def path(caller: "Caller", key: bytes) -> str:
    """Return a setting that is a path, as text."""
    return text_of(caller.settings[key])


def text_of(data: bytes) -> str:
    """Return bytes as text that has them all."""
    return data.decode("utf-8", "surrogateescape")
