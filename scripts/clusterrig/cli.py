"""The command line of scripts/cluster."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from clusterrig import cluster, programs
from clusterrig.errors import ClusterError
from clusterrig.folder import Folder

CLUSTER_FAILED = 125

EPILOG = """\
One node: etcd, kube-apiserver, kubelet and containerd, in namespaces of their own over the
machine's files. /var, /etc, /opt and /run of the machine are not written. No scheduler and no
controllers: name the node in the pod (nodeName: node1), or bind the pod to it.
The first `up` builds Kubernetes out of Debian's source package, which takes some minutes.
"""
USE = """\
KUBECONFIG={folder}/kubeconfig (the server is on the loopback of the cluster's namespace)
  scripts/cluster run{option} COMMAND   in the cluster's namespaces, with KUBECONFIG set
  scripts/cluster down{option}          end it; logs are in {folder}/log until then"""


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    parsed, rest = _parser().parse_known_args(arguments)
    if rest and parsed.command != "test":
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    # A test run that is told to end must take its cluster along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return _dispatch(parsed, rest)
    except ClusterError as error:
        cluster.say(str(error))
        return CLUSTER_FAILED
    except KeyboardInterrupt:
        return 130


def _dispatch(parsed: argparse.Namespace, rest: list[str]) -> int:
    if parsed.command == "build":
        print(programs.ensure_programs())
        return 0
    folder = Folder(parsed.dir)
    if parsed.command == "up":
        cluster.up(folder)
        option = "" if parsed.dir == cluster.DEFAULT_FOLDER else f" --dir {parsed.dir}"
        print(USE.format(folder=folder.path, option=option))
        return 0
    if parsed.command == "down":
        cluster.down(folder)
        return 0
    if parsed.command == "run":
        return cluster.run(folder, [parsed.program, *parsed.arguments])
    return _test(folder, [*rest, *parsed.arguments])


def _test(folder: Folder, arguments: list[str]) -> int:
    python = f"{programs.bootstrap('python', '--print')}/bin/python"
    selection = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not any(Path(each.partition("::")[0]).exists() for each in selection):
        selection = [*selection, str(programs.CHECKOUT / "tests" / "cluster")]
    cluster.up(folder)
    try:
        pytest = [python, "-m", "pytest", "-q", "-rs", "-m", "cluster"]
        return cluster.run(folder, [*pytest, *selection])
    finally:
        cluster.down(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/cluster",
        allow_abbrev=False,
        description="A Kubernetes cluster of one node on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--dir",
        type=Path,
        default=cluster.DEFAULT_FOLDER,
        help=f"the cluster's folder ({cluster.DEFAULT_FOLDER})",
    )

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, allow_abbrev=False, parents=[common], help=text)

    add("up", "start it; print how to use it")
    test = add("test", "start it, run the tests that need it, end it")
    test.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="for pytest")
    run = add("run", "run a command in its namespaces")
    run.add_argument("program", metavar="COMMAND")
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS")
    add("down", "end it and leave nothing")
    add("build", "build what is missing; print its folder")
    return parser
