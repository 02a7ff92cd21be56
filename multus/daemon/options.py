"""The command line of ``multus-daemon``: its options and its help."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hwmgr import nodeconfig
from multus.daemon import daemonconf, units

if TYPE_CHECKING:
    from collections.abc import Sequence

_WHAT = """Answers the CNI calls that multus and sriov in the plugins' folder hand over.

It stays in the foreground and says what it does in its log: log.target in /etc/hwmgr/config.yaml,
syslog where that says nothing. SIGTERM ends it when the calls at work are done."""
_MORE = """Examples:
  multus-daemon --unit service > /etc/systemd/system/multus-daemon.service
  multus-daemon --socket /tmp/try/multus.sock

Exit status: 0 told to end and all calls done, 1 ended otherwise, 2 wrong settings."""
_SOCKET = nodeconfig.DaemonConfig().socket


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return config, socket, unit and version as given; ends the process where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="multus-daemon",
        description=_WHAT,
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        "-config",
        metavar="FILE",
        help=f"keys that lie over every call's configuration (default: {daemonconf.DEFAULT_PATH})",
    )
    parser.add_argument(
        "--socket",
        metavar="PATH",
        help=f"where to listen (default: daemon.socket of the node's file, {_SOCKET})",
    )
    parser.add_argument(
        "--unit", choices=units.KINDS, help="print the unit for systemd with these settings and end"
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    return parser.parse_args(argv)
