"""The only module that reads the administrator's YAML: whose file it is, and what it says."""

from __future__ import annotations

import os
import stat
from typing import Any

from hwmgr.errors import ConfigError


def read(path: str, *, roots_alone: bool = True) -> bytes | None:
    """Return a file's content, None when it is absent. Raises ConfigError.

    ``roots_alone`` refuses a file that others could write: it decides what happens as root.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(path, [getattr(error, "strerror", None) or str(error)]) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(path, ["it is not a file"])
        loose = status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if roots_alone and loose:
            raise ConfigError(path, [f"not root's alone; run: chown root {path}; chmod 644 {path}"])
        return os.read(fd, status.st_size)
    finally:
        os.close(fd)


def mapping(path: str, text: bytes) -> dict[str, Any]:
    """Return a file's keys with values, as YAML has them; {} for an empty file.

    Raises ConfigError.
    """
    import yaml

    return _mapping(path, text, yaml.SafeLoader)


def texts(path: str, text: bytes) -> dict[str, Any]:
    """Return a file's keys with values, each scalar as the text that stands there.

    YAML would read the address 0000:01:00.0 as 60.0 and the vendor 0808 as a number, so whoever
    knows the keys decides what is a number. A key that stands twice is refused. Raises ConfigError.
    """
    import yaml

    class Loader(yaml.BaseLoader):
        """Reads scalars as text and keys once."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _value in node.value:
                line = key.start_mark.line + 1
                if not isinstance(key.value, str):
                    raise ConfigError(path, [f"line {line}: a key must be a word"])
                if key.value in seen:
                    raise ConfigError(path, [f"line {line}: {key.value!r} stands here twice"])
                seen.add(key.value)
            found: dict[Any, Any] = super().construct_mapping(node, deep)
            return found

    return _mapping(path, text, Loader)


def _mapping(path: str, text: bytes, loader: Any) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.load(text, loader)  # noqa: S506 - both loaders make plain values only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(path, ["it is not YAML: " + " ".join(str(error).split())]) from error
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise ConfigError(path, ["the top level must be keys with values"])
    return value
