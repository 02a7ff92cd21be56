"""The units that run the daemon under systemd; ``multus-daemon --unit`` prints them.

No sandboxing options: each of them gives the service a mount namespace of its own, and network
namespaces that are mounted later would not be seen by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwmgr.systemfiles import environment_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE = """\
[Unit]
Description=Answers CNI calls: multus and sriov
Before=kubelet.service

[Service]
Type=notify
{environment}ExecStart={program} --socket {socket}
Restart=always
# Slow enough that however often it is killed it never meets DefaultStartLimitBurst=, which would
# end the socket unit too. Wrong settings do not mend themselves: calls get an error, and at once.
RestartSec=2s
RestartPreventExitStatus=2
# What a plugin has started for good stays, as it does under containerd.
KillMode=process
# More than daemon.drain_seconds.
TimeoutStopSec={stop_seconds}
WatchdogSec=30
LimitNOFILE=65536
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
"""

SOCKET = """\
[Unit]
Description=Where CNI calls come in

[Socket]
ListenStream={socket}
SocketMode=0600
DirectoryMode=0700
Backlog=65535

[Install]
WantedBy=sockets.target
"""
KINDS = ("service", "socket")
_SECONDS_FOR_THE_REST = 10


def unit(
    kind: str,
    *,
    program: str,
    socket: str,
    drain_seconds: float,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Return the text of the service's or the socket's unit, for an installation of the daemon.

    ``environment`` is hwmgr.systemfiles.settings(). Raises UnitError for what cannot stand there.
    """
    stop_seconds = round(drain_seconds) + _SECONDS_FOR_THE_REST
    text = SERVICE if kind == "service" else SOCKET
    return text.format(
        program=program,
        socket=socket,
        stop_seconds=stop_seconds,
        environment=environment_lines(environment or {}),
    )
