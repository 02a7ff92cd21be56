"""The node's configuration file: defaults, values, and refusals that say everything at once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hwmgr.errors import ConfigError
from hwmgr.nodeconfig import DaemonConfig, NodeConfig, load

if TYPE_CHECKING:
    from pathlib import Path

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the file must be owned by root")


def write(folder: Path, text: str, mode: int = 0o644) -> dict[str, str]:
    path = folder / "config.yaml"
    path.write_text(text)
    path.chmod(mode)
    return {"HWMGR_CONFIG": str(path)}


def test_an_absent_file_means_the_defaults(tmp_path: Path) -> None:
    assert load({"HWMGR_CONFIG": str(tmp_path / "none")}) == NodeConfig()


def test_yaml_is_not_loaded_for_an_absent_file(tmp_path: Path) -> None:
    code = (
        "import sys; from hwmgr.nodeconfig import load;"
        f"load({{'HWMGR_CONFIG': {str(tmp_path / 'none')!r}}}); sys.exit('yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_root
def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path, "# nothing\n")) == NodeConfig()


@needs_root
def test_every_key(tmp_path: Path) -> None:
    env = write(
        tmp_path,
        """
        state_dir: /srv/state/
        dpdk_tools: [/opt/dpdk/dpdk-devbind.py]
        time_limits: {add: 60, delegate: 20.5}
        allowed_dirs: [/var/lib/cni, /srv/cni]
        log: {target: /var/log/hwmgr.log, level: debug, format: json}
        daemon:
          socket: /run/hwmgr/multus.sock
          workers: 16
          metrics: 127.0.0.1:9101
          node_name: node1
          drain_seconds: 30
        """,
    )
    assert load(env) == NodeConfig(
        state_dir="/srv/state",
        dpdk_tools=("/opt/dpdk/dpdk-devbind.py",),
        add_seconds=60.0,
        delegate_seconds=20.5,
        allowed_dirs=("/var/lib/cni", "/srv/cni"),
        log_target="/var/log/hwmgr.log",
        log_level="debug",
        log_format="json",
        daemon=DaemonConfig("/run/hwmgr/multus.sock", 16, "127.0.0.1:9101", "node1", 30.0),
    )


@needs_root
def test_the_environment_wins_for_the_state_directory(tmp_path: Path) -> None:
    env = write(tmp_path, "state_dir: /srv/state")
    assert load({**env, "HWMGR_STATE_DIR": "/run/x"}).state_dir == "/run/x"


@needs_root
def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    env = write(
        tmp_path,
        """
        statedir: /x
        state_dir: relative
        dpdk_tools: /usr/bin/dpdk-devbind.py
        time_limits: {add: 600, delegate: yes, del: 3}
        allowed_dirs: [/ok, 7]
        log: {target: 3, level: chatty, format: xml}
        daemon: {socket: x, workers: 0, metrics: "9101", node_name: 3, drain_seconds: 0, port: 1}
        """,
    )
    with pytest.raises(ConfigError) as caught:
        load(env)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "statedir",
        "state_dir",
        "dpdk_tools",
        "allowed_dirs[1]",
        "time_limits.del",
        "time_limits.add",
        "time_limits.delegate",
        "log.target",
        "log.level",
        "log.format",
        "daemon.port",
        "daemon.socket",
        "daemon.workers",
        "daemon.metrics",
        "daemon.node_name",
        "daemon.drain_seconds",
    ]
    assert "\n" not in str(caught.value)


@needs_root
@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\x00", "just words", "log: 3"])
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load(write(tmp_path, text))


@needs_root
@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="root's alone"):
        load(write(tmp_path, "log: {level: info}", mode))


@needs_root
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    env = write(tmp_path, "log: {level: info}")
    os.chown(env["HWMGR_CONFIG"], 1000, 1000)
    with pytest.raises(ConfigError, match="root's alone"):
        load(env)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load({"HWMGR_CONFIG": str(tmp_path)})
