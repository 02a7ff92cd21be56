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
_KNOWN = ("allowed_dirs", "dpdk_tools", "log", "missing_device", "state_dir", "time_limits")
_LIMITS = ("add", "delegate", "api_request", "api")
_MISSING_DEVICE = ("fail", "ignore")
# kubelet ends a call after two minutes; the answer must be there before.
_LONGEST_SECONDS = 115.0


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
    missing_device: str = "fail"
    allowed_dirs: tuple[str, ...] = ("/var/lib/cni",)
    log_target: str = "syslog"
    log_level: str = "info"


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
    log = _section(value, "log", ("target", "level"), problems)
    if "target" in log and log["target"] not in _LOG_TARGETS:
        words = ", ".join(_LOG_TARGETS)
        hint = f"must be {words} or an absolute path"
        _folder(log["target"], "log.target", problems, hint)
    if "level" in log and log["level"] not in LOG_LEVELS:
        problems.append("log.level: must be one of " + ", ".join(LOG_LEVELS))
    found |= {f"log_{key}": text for key, text in log.items()}
    if problems:
        raise ConfigError(path, problems)
    return found


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


def _seconds(value: object, key: str, problems: list[str]) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < float(str(value)) <= _LONGEST_SECONDS:
        problems.append(f"{key}: must be seconds, above 0 and at most {_LONGEST_SECONDS:.0f}")
        return 0.0
    return float(str(value))
