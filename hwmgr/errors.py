"""What can go wrong in the device plane, as types that carry their facts.

::

    HwmgrError
    ├── SysfsError          a read or write under /sys failed     (path, errno)
    │   └── WriteHangs        … the driver does not come back   (seconds)
    ├── NetlinkError        the kernel refused a netlink request  (what, errno)
    ├── NamespaceError      a network namespace cannot be entered (path, errno)
    ├── RunError            a program could not be started        (path, errno)
    │   └── RunTimeout      … or was ended at its time limit      (path, seconds)
    ├── StateError          the state directory cannot be used    (path, errno)
    │   ├── RecordTorn      a record does not parse               (path)
    │   ├── RecordUnusable  what apply remembers cannot be read   (address, path)
    │   └── LockTimeout     somebody else holds the lock          (path, holder)
    ├── DeviceError         a fact about one PCI function         (address)
    │   ├── NoSuchDevice    … it is not there, or not a VF or PF
    │   ├── DeviceBusy      … somebody else has it                (owner)
    │   └── BindError       … its driver cannot be changed        (driver, errno)
    ├── NoFreeVF            no VF of that PF is free              (pf, counts)
    ├── NameTaken           the interface name exists there       (ifname, netns)
    ├── NotAttached         no record of that attachment          (container_id, ifname)
    ├── CheckFailed         hardware differs from the record      (findings)
    ├── RequestError        the request contradicts itself
    ├── ConfigError         the node's configuration is wrong     (path, problems)
    └── UndoIncomplete      something is still held               (problems)
"""

from __future__ import annotations

from errno import EACCES, ETIMEDOUT
from os import strerror


def reason_of(error: BaseException) -> str:
    """Return in one line why something ended: the message, with all that was added on its way."""
    if not isinstance(error, HwmgrError):
        return "interrupted" if isinstance(error, KeyboardInterrupt) else repr(error)
    return "; ".join([error.message, *getattr(error, "__notes__", ())])


def reasons_of(error: BaseException) -> list[str]:
    """Return in lines why something ended: where several things are at fault, one for each."""
    if isinstance(error, ConfigError):
        found = [f"{error.path}: {problem}" for problem in error.problems]
    elif isinstance(error, PlanRefused):
        found = list(error.problems)
    else:
        return [reason_of(error)]
    return [*found, *getattr(error, "__notes__", ())]


def _why(errno: int) -> str:
    """Return the kernel's word, and what to do about the one that people meet first."""
    return strerror(errno) + ("; run it as root" if errno == EACCES else "")


class HwmgrError(Exception):
    """Base of every error that this package raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SysfsError(HwmgrError):
    """A read or write under the sysfs root failed; ``errno`` tells how (ENOENT, EBUSY, EINVAL…)."""

    def __init__(self, action: str, path: str, errno: int) -> None:
        super().__init__(f"cannot {action} {path}: {_why(errno)}")
        self.path = path
        self.errno = errno


class WriteHangs(SysfsError):
    """A driver did not come back from a write within ``seconds``; it may still do it."""

    def __init__(self, path: str, value: str, seconds: float) -> None:
        super().__init__(f"write {value!r} to", path, ETIMEDOUT)
        self.message = (
            f"writing {value!r} to {path} hangs in the kernel for over {seconds:.0f} s;"
            " see the kernel log for its driver"
        )
        self.args = (self.message,)
        self.seconds = seconds


class NetlinkError(HwmgrError):
    """The kernel refused a netlink request."""

    def __init__(self, what: str, errno: int) -> None:
        super().__init__(f"{what}: {strerror(errno)}")
        self.what = what
        self.errno = errno


class NamespaceError(HwmgrError):
    """A network namespace cannot be opened or entered."""

    def __init__(self, path: str, errno: int, reason: str = "") -> None:
        super().__init__(f"network namespace {path}: {reason or strerror(errno)}")
        self.path = path
        self.errno = errno


class RunError(HwmgrError):
    """A program could not be started."""

    def __init__(self, path: str, errno: int, message: str = "") -> None:
        super().__init__(message or f"cannot run {path}: {strerror(errno)}")
        self.path = path
        self.errno = errno


class RunTimeout(RunError):
    """A program ran longer than its limit (seconds); it and its children were ended.

    ``held`` is its process id if the kernel does not let go of it.
    """

    def __init__(self, path: str, seconds: float, held: int | None = None) -> None:
        ended = "was ended"
        if held is not None:
            ended = f"cannot be ended while the kernel holds it: see /proc/{held}/stack"
        super().__init__(path, 0, f"{path} did not finish within {seconds:.0f} s and {ended}")
        self.seconds = seconds
        self.held = held


class StateError(HwmgrError):
    """The state directory cannot be read or written."""

    def __init__(self, path: str, errno: int, message: str = "") -> None:
        super().__init__(message or f"state {path}: {_why(errno)}")
        self.path = path
        self.errno = errno


class RecordTorn(StateError):
    """A record is not the JSON that was written; it is kept for the administrator to see."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, 0, f"record {path} is damaged ({reason}); see 'hwmgr repair'")
        self.reason = reason


class RecordUnusable(StateError):
    """What apply remembers of a PF (``address``) cannot be read; other PFs are not concerned."""

    def __init__(self, address: str, path: str, reason: str, message: str = "") -> None:
        damaged = (
            f"record {path} is damaged ({reason}); move it away to go on without it:"
            f" what was there of {address} before apply is forgotten then"
        )
        super().__init__(path, 0, message or damaged)
        self.address = address


class LockTimeout(StateError):
    """Somebody else holds a lock for longer than we may wait."""

    def __init__(self, path: str, seconds: float, holder: int | None) -> None:
        who = f"process {holder}" if holder else "another process"
        super().__init__(path, 0, f"lock {path} is held by {who} for over {seconds:.0f} s")
        self.seconds = seconds
        self.holder = holder


class DeviceError(HwmgrError):
    """A fact about one PCI function stands in the way."""

    def __init__(self, address: str, message: str) -> None:
        super().__init__(f"{address}: {message}")
        self.address = address


class NoSuchDevice(DeviceError):
    """There is no such function, or it is not what the request takes it for."""


class DeviceBusy(DeviceError):
    """Somebody else has the function; ``owner`` says who, as far as that is known."""

    def __init__(self, address: str, message: str, owner: str | None = None) -> None:
        super().__init__(address, message)
        self.owner = owner


class BindError(DeviceError):
    """The driver of a function cannot be changed."""

    def __init__(self, address: str, driver: str | None, message: str, errno: int = 0) -> None:
        super().__init__(address, message)
        self.driver = driver
        self.errno = errno


class NoFreeVF(HwmgrError):
    """No VF of the PF is free; ``counts`` gives how many are in which state."""

    def __init__(self, pf: str, counts: dict[str, int], hint: str = "") -> None:
        total = sum(counts.values())
        detail = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()) if n)
        hint = hint or ("see 'hwmgr vf list'" if total else "create VFs by writing sriov_numvfs")
        super().__init__(f"PF {pf} has no free VF ({detail or 'it has no VFs'}); {hint}")
        self.pf = pf
        self.counts = counts


class NameTaken(HwmgrError):
    """The interface name that the attachment wants exists already."""

    def __init__(self, ifname: str, netns: str) -> None:
        super().__init__(f"interface {ifname} exists already in {netns}")
        self.ifname = ifname
        self.netns = netns


class NotAttached(HwmgrError):
    """No record of that attachment."""

    def __init__(self, container_id: str, ifname: str) -> None:
        super().__init__(f"container {container_id} holds no device as {ifname}")
        self.container_id = container_id
        self.ifname = ifname


class CheckFailed(HwmgrError):
    """The hardware is not as the record says; one finding a line."""

    def __init__(self, findings: list[str]) -> None:
        super().__init__("; ".join(findings))
        self.findings = findings


class RequestError(HwmgrError):
    """The request asks for what cannot be, or contradicts itself."""


class ConfigError(HwmgrError):
    """The node's configuration file cannot be used; ``problems`` has one line for each fault."""

    def __init__(self, path: str, problems: list[str]) -> None:
        super().__init__(f"{path}: " + "; ".join(problems))
        self.path = path
        self.problems = problems


class PlanRefused(HwmgrError):
    """What is desired cannot be had, or would hit somebody; nothing has been touched."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class ApplyIncomplete(HwmgrError):
    """Changes were made and the hardware does not show them; applying again goes on."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("not as desired: " + "; ".join(problems))
        self.problems = problems


class UndoIncomplete(HwmgrError):
    """Something is still held after an undo; the record stays, so detach or repair can go on."""

    def __init__(self, what: str, problems: list[str]) -> None:
        super().__init__(f"{what} is not back as it was: " + "; ".join(problems))
        self.problems = problems
