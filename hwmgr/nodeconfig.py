"""The node's own configuration file, ``/etc/hwmgr/config.yaml``: read, checked as a whole."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwmgr import rootfile
from hwmgr.devbind import DISTRIBUTION_TOOLS
from hwmgr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PATH = "/etc/hwmgr/config.yaml"
LOG_LEVELS = ("error", "warning", "info", "debug")
_LOG_TARGETS = ("syslog", "stderr", "none")
_LOG_FORMATS = ("text", "json")
_KNOWN = (
    "allowed_dirs",
    "daemon",
    "dpdk_tools",
    "log",
    "missing_device",
    "state_dir",
    "time_limits",
)
_LIMITS = ("add", "delegate", "api_request", "api", "credentials")
_MISSING_DEVICE = ("fail", "ignore")
# kubelet ends a call after two minutes; the answer must be there before.
_LONGEST_SECONDS = 115.0
_LOG = ("target", "level", "format")
_DAEMON = ("drain_seconds", "metrics", "node_name", "socket", "workers")
_MOST_WORKERS = 1024
_LONGEST_DRAIN_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """What concerns the daemon alone.

    ``workers`` is how many calls are at work at once, None for a number by the cores. ``metrics``
    is where TCP clients may look at it, ``host:port``, "" for nowhere. ``node_name`` is this
    node's name in the cluster, "" when it is not known. A call that is at work when the daemon is
    told to end gets ``drain_seconds``: kubelet has given up on it after that.
    """

    socket: str = "/run/multus/multus.sock"
    workers: int | None = None
    metrics: str = ""
    node_name: str = ""
    drain_seconds: float = 100.0


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the administrator of this node has decided.

    ``allowed_dirs`` are the folders that ``cniDir`` and ``logFile`` of a Network object may name;
    ``log_target`` is ``syslog``, ``stderr``, ``none`` or an absolute path. ``missing_device`` is
    ``fail`` or ``ignore``: what happens to a pod whose network wants a device that kubelet did not
    give it.
    """

    state_dir: str = "/var/lib/cni/sriov"
    dpdk_tools: tuple[str, ...] = DISTRIBUTION_TOOLS
    add_seconds: float = 90.0
    delegate_seconds: float = 60.0
    api_request_seconds: float | None = None
    api_seconds: float | None = None
    credentials_seconds: float = 10.0
    missing_device: str = "fail"
    allowed_dirs: tuple[str, ...] = ("/var/lib/cni",)
    log_target: str = "syslog"
    log_level: str = "info"
    log_format: str = "text"
    daemon: DaemonConfig = DaemonConfig()


def load(env: Mapping[str, str]) -> NodeConfig:
    """Read the file that ``HWMGR_CONFIG`` names; one that is absent means the defaults.

    ``HWMGR_STATE_DIR`` wins over the file. Raises ConfigError with everything that is wrong.
    """
    path = env.get("HWMGR_CONFIG") or DEFAULT_PATH
    state_dir = env.get("HWMGR_STATE_DIR")
    text = rootfile.read(path)
    values = {} if text is None else _check(path, rootfile.mapping(path, text))
    if state_dir:
        values["state_dir"] = state_dir
    return NodeConfig(**values)


def _check(path: str, value: dict[str, Any]) -> dict[str, Any]:
    problems: list[str] = []
    found: dict[str, Any] = {}
    _refuse_unknown(value, _KNOWN, "", problems)
    if "state_dir" in value:
        found["state_dir"] = _folder(value["state_dir"], "state_dir", problems)
    for key in ("dpdk_tools", "allowed_dirs"):
        if key in value:
            found[key] = _folders(value[key], key, problems)
    limits = _section(value, "time_limits", _LIMITS, problems)
    for key in _LIMITS:
        if key in limits:
            found[f"{key}_seconds"] = _seconds(limits[key], f"time_limits.{key}", problems)
    if "missing_device" in value:
        found["missing_device"] = value["missing_device"]
        if value["missing_device"] not in _MISSING_DEVICE:
            problems.append("missing_device: must be one of " + ", ".join(_MISSING_DEVICE))
    found |= _log(_section(value, "log", _LOG, problems), problems)
    if "daemon" in value:
        found["daemon"] = _daemon(_section(value, "daemon", _DAEMON, problems), problems)
    if problems:
        raise ConfigError(path, problems)
    return found


def _log(section: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    if "target" in section and section["target"] not in _LOG_TARGETS:
        words = ", ".join(_LOG_TARGETS)
        hint = f"must be {words} or an absolute path"
        _folder(section["target"], "log.target", problems, hint)
    for key, known in (("level", LOG_LEVELS), ("format", _LOG_FORMATS)):
        if key in section and section[key] not in known:
            problems.append(f"log.{key}: must be one of " + ", ".join(known))
    return {f"log_{key}": text for key, text in section.items()}


def _daemon(section: dict[str, Any], problems: list[str]) -> DaemonConfig:
    found: dict[str, Any] = {}
    if "socket" in section:
        found["socket"] = _folder(section["socket"], "daemon.socket", problems)
    if "workers" in section:
        found["workers"] = workers = section["workers"]
        if type(workers) is not int or not 0 < workers <= _MOST_WORKERS:
            problems.append(f"daemon.workers: must be a number from 1 to {_MOST_WORKERS}")
    if "metrics" in section:
        found["metrics"] = section["metrics"]
        if not _is_address(section["metrics"]):
            problems.append("daemon.metrics: must be host:port, as in 127.0.0.1:9101")
    if "node_name" in section:
        found["node_name"] = section["node_name"]
        if not isinstance(section["node_name"], str):
            problems.append("daemon.node_name: must be a name")
    if "drain_seconds" in section:
        found["drain_seconds"] = _seconds(
            section["drain_seconds"], "daemon.drain_seconds", problems, _LONGEST_DRAIN_SECONDS
        )
    return DaemonConfig(**found)


def _is_address(value: object) -> bool:
    if not isinstance(value, str):
        return False
    host, colon, port = value.rpartition(":")
    return bool(host and colon and port.isascii() and port.isdigit() and int(port) < 65536)


def _refuse_unknown(
    value: dict[str, Any], known: tuple[str, ...], where: str, problems: list[str]
) -> None:
    hint = f"unknown key; known are {', '.join(known)}"
    problems += [f"{where}{key}: {hint}" for key in value if key not in known]


def _section(
    value: dict[str, Any], name: str, known: tuple[str, ...], problems: list[str]
) -> dict[str, Any]:
    section = value.get(name, {})
    if not isinstance(section, dict):
        problems.append(f"{name}: must have keys with values ({', '.join(known)})")
        return {}
    _refuse_unknown(section, known, f"{name}.", problems)
    return {key: item for key, item in section.items() if key in known}


def _folder(
    value: object, key: str, problems: list[str], hint: str = "must be an absolute path"
) -> str:
    if not isinstance(value, str) or not os.path.isabs(value) or "\0" in value:
        problems.append(f"{key}: {hint}")
        return ""
    return os.path.normpath(value)


def _folders(value: object, key: str, problems: list[str]) -> tuple[str, ...]:
    if not isinstance(value, list):
        problems.append(f"{key}: must be a list of absolute paths")
        return ()
    return tuple(_folder(item, f"{key}[{n}]", problems) for n, item in enumerate(value))


def _seconds(
    value: object, key: str, problems: list[str], longest: float = _LONGEST_SECONDS
) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < float(str(value)) <= longest:
        problems.append(f"{key}: must be seconds, above 0 and at most {longest:.0f}")
        return 0.0
    return float(str(value))
