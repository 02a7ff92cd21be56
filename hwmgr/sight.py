"""What a recorded namespace path that leads nowhere means where we run: gone, or out of sight.

In a container, paths of the host lead nowhere while their namespaces live: ``/proc`` shows other
processes, ``/run/netns`` is another folder, or one whose mounts are not passed on (mount
propagation, mount_namespaces(7)) and shows plain files.
"""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING

from hwmgr.errors import NamespaceError
from hwmgr.holders import mounted_namespaces, sees_all_processes
from hwmgr.netns import identity

if TYPE_CHECKING:
    from hwmgr.holders import NamespaceKey


class Life(StrEnum):
    """What can be said of a namespace; what is out of sight is not to be taken for gone."""

    LIVES = "alive"
    GONE = "gone"
    UNSEEN = "out of sight"


UNSEEN_HINT = (
    "whether its namespace lives cannot be seen from here: 'hwmgr repair' on the host gives back"
    " what is nobody's, and with hostPID: true this container could tell"
)


class Sight:
    """How far we see from one process; all is looked up at most once."""

    def __init__(self, proc: str, all_processes: bool | None = None) -> None:
        self._proc = proc
        self.all_processes = sees_all_processes(proc) if all_processes is None else all_processes
        self._folders: frozenset[str] | None = None

    def namespace(self, path: str) -> NamespaceKey | None:
        """Return the namespace that a path of the host leads to, None when to none."""
        for seen in self._ways(path):
            try:
                netns = identity(seen)
            except NamespaceError:
                continue
            return netns.dev, netns.inode
        return None

    def life(self, path: str) -> Life:
        """Say whether a path of the host leads to a namespace, as far as can be seen."""
        if self.namespace(path) is not None:
            return Life.LIVES
        return Life.UNSEEN if self.says_nothing(path) else Life.GONE

    def says_nothing(self, path: str) -> bool:
        """Tell whether a path that leads nowhere may be one that we cannot follow.

        Who sees every process sees every mount and descriptor as well. Others have only the folder
        to go by: it is the host's if there are namespaces in it, and not if the name is there and
        is none.
        """
        if self.all_processes:
            return False
        if not path or path.startswith("/proc/") or os.path.lexists(path):
            return True
        return os.path.realpath(os.path.dirname(path)) not in self._with_namespaces()

    def _ways(self, path: str) -> tuple[str, ...]:
        """Return the path, and the one by which the first process would follow it."""
        if not path or not self.all_processes or path.startswith("/proc/"):
            return (path,)
        return (path, f"{self._proc}/1/root{path}")

    def _with_namespaces(self) -> frozenset[str]:
        if self._folders is None:
            self._folders = frozenset(self._mounted())
        return self._folders

    def _mounted(self) -> list[str]:
        mounted = mounted_namespaces(f"{self._proc}/self/mountinfo")
        return [os.path.dirname(path) for _inode, path in mounted]
