"""A node whose process can be killed, or refused, at any single effect that it has on the world."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from hwmgr.errors import NetlinkError, RunError, StateError, SysfsError
from hwmgr.store import StateDir
from hwmgr.sysfs import Sysfs
from tests.fakes.machine import replace_node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hwmgr.links import Links, Netlink
    from hwmgr.node import Node
    from hwmgr.run import Completed, Runner

_CHANGES = ("set_vf", "move", "rename", "set_up", "set_mtu", "set_mac", "set_alias",
            "add_altname", "del_altname", "add_address", "add_route")  # fmt: skip


class Killed(BaseException):
    """The process is no more; no handler of the product may run to an effect after this."""


class Life:
    """Counts effects. At number ``at`` the process dies, or the effect is refused.

    Dying before effect n+1 is dying after effect n, so going through all n leaves nothing out.
    ``lasting``: every effect from there on is refused, as on a full disk or with a dead card.
    """

    def __init__(self, at: int = 0, *, dies: bool = True, lasting: bool = False) -> None:
        self.at = at
        self.dies = dies
        self.lasting = lasting
        self.names: list[str] = []
        self.dead = False

    def effect(self, name: str, refusal: Callable[[], Exception] | None = None) -> None:
        """Be told of an effect that is about to happen."""
        if self.dead:
            raise Killed
        if refusal is None and not self.dies:
            return
        self.names.append(name)
        count = len(self.names)
        if not self.at or count < self.at or (count > self.at and not self.lasting):
            return
        if self.dies:
            self.dead = True
            raise Killed
        if refusal is not None:
            raise refusal()


def mortal(node: Node, life: Life) -> Node:
    """Return a node whose every effect is told to ``life`` first."""
    return replace_node(
        node,
        sysfs=_Sysfs(node.sysfs, life),
        netlink=_Netlink(node.netlink, life),
        runner=_Runner(node.runner, life),
        state=_State(node.state.root, life),
        checkpoint=life.effect,
    )


class _Sysfs(Sysfs):
    def __init__(self, real: Sysfs, life: Life) -> None:
        super().__init__(real.root)
        self._real = real
        self._life = life

    def write(self, path: str, value: str) -> None:
        self._life.effect(f"write {path}", lambda: SysfsError("write", path, errno.EIO))
        self._real.write(path, value)

    def write_within(self, path: str, value: str, seconds: float) -> None:
        self._life.effect(f"write {path}", lambda: SysfsError("write", path, errno.EIO))
        self._real.write_within(path, value, seconds)


class _State(StateDir):
    def __init__(self, root: str, life: Life) -> None:
        super().__init__(root)
        self._life = life

    def write_bytes(self, data: bytes, *names: str, lasting: bool = True) -> None:
        path = "/".join(names)
        self._life.effect(f"save {path}", lambda: StateError(path, errno.ENOSPC))
        super().write_bytes(data, *names, lasting=lasting)

    def remove(self, *names: str) -> None:
        path = "/".join(names)
        self._life.effect(f"remove {path}", lambda: StateError(path, errno.EROFS))
        super().remove(*names)

    def move(self, names: Sequence[str], to: Sequence[str]) -> None:
        path = "/".join(names)
        self._life.effect(f"move {path}", lambda: StateError(path, errno.EROFS))
        super().move(names, to)


class _Runner:
    def __init__(self, real: Runner, life: Life) -> None:
        self._real = real
        self._life = life

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str], stdin: bytes, timeout: float
    ) -> Completed:
        self._life.effect(f"run {argv[0]}", lambda: RunError(argv[0], errno.EACCES))
        return self._real.run(argv, env=env, stdin=stdin, timeout=timeout)


class _Netlink:
    def __init__(self, real: Netlink, life: Life) -> None:
        self._real = real
        self._life = life

    @contextmanager
    def links(self, ns_fd: int | None = None) -> Iterator[Links]:
        with self._real.links(ns_fd) as links:
            yield cast("Links", _Links(links, self._life))


class _Links:
    def __init__(self, real: Links, life: Life) -> None:
        self._real = real
        self._life = life

    def __getattr__(self, verb: str) -> Any:
        function = getattr(self._real, verb)
        if verb not in _CHANGES:
            return function

        def call(*arguments: object, **named: object) -> object:
            text = f"{verb} {' '.join(str(a) for a in arguments)}"
            self._life.effect(text, lambda: NetlinkError(text, errno.EIO))
            return function(*arguments, **named)

        return call
