"""What starting costs: a runtime starts us for every verb of every pod."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "asyncio",
    "grpc",
    "importlib.metadata",
    "kubernetes",
    "logging",
    "pathlib",
    "pyroute2",
    "pyudev",
    "rich",
    "socketserver",
    "ssl",
    "subprocess",
    "typer",
    "urllib.request",
    "yaml",
}
LAUNCH = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from multus.__main__ import main; "


def python(code: str, *, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-IS", "-c", code],
        env={"CNI_COMMAND": "VERSION", **(env or {})},
        capture_output=True,
        text=True,
        check=True,
    )


def modules_after(code: str) -> set[str]:
    done = python(f"{LAUNCH}{code}; sys.stderr.write(' '.join(sys.modules))")
    return set(done.stderr.split())


def test_version_imports_nothing_of_ours_but_the_list() -> None:
    modules = modules_after("main()")
    ours = {name for name in modules if name.split(".")[0] in ("multus", "hwmgr")}
    assert ours == {"multus", "multus.__main__", "multus.version"}
    assert not modules & {"json", "re", "typing", "dataclasses", "socket", *HEAVY}


@pytest.mark.parametrize(
    "module",
    ["multus.__main__", "multus.wiring", "multus.commands", "multus.sriov_main", "multus.hardware"],
)
def test_the_engine_starts_without_the_heavy_modules(module: str) -> None:
    assert not modules_after(f"import {module}") & HEAVY


def test_a_delete_without_hardware_loads_no_client_library(tmp_path: Path) -> None:
    code = (
        "import io, os; sys.stdin = io.TextIOWrapper(io.BytesIO("
        'b\'{"cniVersion":"1.0.0","name":"n","cniDir":"\' + os.environ["DIR"].encode() + '
        'b\'","delegates":[{"type":"x"}]}\')); main()'
    )
    env = {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/nonexistent",
        "HWMGR_STATE_DIR": str(tmp_path / "state"),
        "DIR": str(tmp_path / "cni"),
    }
    (tmp_path / "cni").mkdir()
    (tmp_path / "cni/c1").write_text("[]")
    done = python(f"{LAUNCH}{code}; sys.stderr.write(' '.join(sys.modules))", env=env)
    assert not set(done.stderr.split()) & {"kubernetes", "pyroute2", "typer", "rich", "logging"}
