"""Leave a call for later, as a shim does while nobody can do it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from hwmgr.frames import Call, encode_call

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def leave(
    state_dir: Path,
    env: Mapping[str, str],
    conf: object,
    *,
    program: str = "multus",
    age: int = 0,
    stdin: bytes | None = None,
) -> Path:
    """Write one file of the spool, ``age`` seconds old by its name."""
    folder = state_dir / "spool"
    folder.mkdir(parents=True, exist_ok=True)
    subject = f"{env['CNI_CONTAINERID']}.{env['CNI_IFNAME']}"
    path = folder / f"{subject}.{time.time_ns() - age * 10**9:019}.77"
    data = json.dumps(conf).encode() if stdin is None else stdin
    path.write_bytes(encode_call(Call(program, env, data)))
    path.chmod(0o600)
    return path
