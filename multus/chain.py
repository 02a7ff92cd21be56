"""Run the plugins of one attachment in order, or back, passing the result along.

Specification section 4: what a runtime does with a list, done here on behalf of a pod.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multus import cnitypes
from multus import version as versions
from multus.cniargs import Pairs, render_args
from multus.cnitypes import CNIError, PluginFailedError, PluginNotStartedError
from multus.delegates import Delegate, DelegateCall
from multus.invoke import find_plugin
from multus.jsonfields import Fields, Json
from multus.result import Result, ResultError, parse_result
from multus.runtimeconf import offered
from multus.translate import to_cni

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from multus.conflist import PluginList
    from multus.delegates import PluginRunner


@dataclass(frozen=True, slots=True)
class Attachment:
    """One network on one interface of one container: all that its plugins have to be told."""

    delegate: Delegate
    container_id: str
    netns: str
    ifname: str
    cni_args: tuple[tuple[str, str], ...]
    capability_args: Json

    def pairs(self) -> Pairs:
        """Return CNI_ARGS as pairs."""
        return list(self.cni_args)

    def where(self) -> str:
        """Name the attachment for a message."""
        return f"network {self.delegate.name!r} as {self.ifname}"


class Chains:
    """Runs plugins: those with an entry in ``in_process`` here, all others by exec."""

    def __init__(
        self,
        exec_plugin: PluginRunner,
        in_process: Mapping[str, Callable[[], PluginRunner]],
    ) -> None:
        self._exec = exec_plugin
        self._in_process = in_process

    def locate(self, item: Attachment, path: tuple[str, ...]) -> None:
        """Make sure that every plugin can be found; raises PluginNotStartedError."""
        for plugin in item.delegate.plugin_list().plugins:
            kind = Fields(plugin, "a plugin").text("type")
            if kind not in self._in_process:
                try:
                    find_plugin(kind, path)
                except PluginNotStartedError as error:
                    raise error.within(item.where()) from error

    def add(
        self,
        item: Attachment,
        path: tuple[str, ...],
        deadline: float,
        ran: Callable[[int], None],
    ) -> Result:
        """Attach; returns the last plugin's result. ``ran`` hears of each plugin that finished.

        Raises PluginNotStartedError when not even the first plugin ran, PluginFailedError with the
        plugin's place when one reported a failure, else CNIError.
        """
        plugins = item.delegate.plugin_list()
        result: Result | None = None
        for index, plugin in enumerate(plugins.plugins):
            previous = _previous(result, plugins)
            call = _call("ADD", plugins, plugin, item, path, deadline, previous)
            try:
                result = self._add_one(plugin, call, plugins, item)
            except PluginNotStartedError as error:
                if index == 0:
                    raise
                raise CNIError(error.code, error.msg, error.details) from error
            except PluginFailedError as error:
                error.index = index
                raise
            ran(index)
        if result is None:
            raise CNIError(cnitypes.INVALID_CONFIG, f"{item.where()} has no plugins")
        return result

    def delete(
        self,
        item: Attachment,
        path: tuple[str, ...],
        deadline: float,
        result: Result | None,
        failed_at: int | None = None,
    ) -> list[CNIError]:
        """Undo an attachment, last plugin first; all are tried, the first error is raised.

        ``failed_at`` is the place of the plugin that reported the ADD as failed, if one did. That
        one and those after it attached nothing by their own account: what they say is returned.
        """
        plugins = item.delegate.plugin_list()
        known = result if versions.at_least(plugins.cni_version, "0.4.0") else None
        errors: list[CNIError] = []
        excused: list[CNIError] = []
        for index, plugin in reversed(list(enumerate(plugins.plugins))):
            previous = _previous(known, plugins)
            call = _call("DEL", plugins, plugin, item, path, deadline, previous)
            try:
                self._runner(plugin).delete(call)
            except CNIError as error:
                final = isinstance(error, PluginFailedError) and not _may_retry(error)
                attached_nothing = final and failed_at is not None and index >= failed_at
                (excused if attached_nothing else errors).append(error.within(_who(plugin, item)))
        if errors:
            raise errors[0].also(errors[1:] + excused, "other plugins of the list")
        return excused

    def check(
        self, item: Attachment, path: tuple[str, ...], deadline: float, result: Result | None
    ) -> None:
        """Have every plugin check the attachment; the first that objects ends it."""
        plugins = item.delegate.plugin_list()
        for plugin in plugins.plugins:
            previous = _previous(result, plugins)
            call = _call("CHECK", plugins, plugin, item, path, deadline, previous)
            try:
                self._runner(plugin).check(call)
            except CNIError as error:
                raise error.within(_who(plugin, item)) from error

    def gc(
        self, delegate: Delegate, valid: list[Json], path: tuple[str, ...], deadline: float
    ) -> None:
        """Tell every plugin which attachments are valid; all are tried, the first error raised.

        The list goes under both names: the specification's own, and the misspelt one that libcni
        sends beside it for plugins that were written to the first text of 1.1.0.
        """
        plugins = delegate.plugin_list()
        extra: Json = {"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid}
        errors: list[CNIError] = []
        for plugin in plugins.plugins:
            call = _bare_call("GC", plugins, {**plugin, **extra}, path, deadline)
            try:
                self._runner(plugin).gc(call)
            except CNIError as error:
                errors.append(error.within(f"network {plugins.name!r}"))
        if errors:
            raise errors[0].also(errors[1:], "other plugins of the list")

    def status(self, delegate: Delegate, path: tuple[str, ...], deadline: float) -> None:
        """Ask every plugin whether it could attach; the first that could not ends it."""
        plugins = delegate.plugin_list()
        for plugin in plugins.plugins:
            call = _bare_call("STATUS", plugins, plugin, path, deadline)
            try:
                self._runner(plugin).status(call)
            except CNIError as error:
                raise error.within(f"network {plugins.name!r}") from error

    def release_container(self, container_id: str) -> None:
        """Have the plugins of this process let go of whatever they hold for a container."""
        for make in self._in_process.values():
            release = getattr(make(), "release_container", None)
            if release is not None:
                release(container_id)

    def _add_one(
        self, plugin: Json, call: DelegateCall, plugins: PluginList, item: Attachment
    ) -> Result:
        try:
            raw = dict(self._runner(plugin).add(call))
            if not Fields(raw, "the result").text("cniVersion"):
                raw["cniVersion"] = plugins.cni_version or versions.OLDEST
            return parse_result(raw, plugins.cni_version)
        except (CNIError, ValueError) as error:
            raise to_cni(error).within(_who(plugin, item)) from error

    def _runner(self, plugin: Json) -> PluginRunner:
        make = self._in_process.get(Fields(plugin, "a plugin").text("type"))
        return self._exec if make is None else make()


def _call(
    command: str,
    plugins: PluginList,
    plugin: Json,
    item: Attachment,
    path: tuple[str, ...],
    deadline: float,
    previous: Json | None,
) -> DelegateCall:
    conf: Json = {**plugin, "name": plugins.name, "cniVersion": plugins.cni_version}
    capabilities = offered(item.capability_args, Fields(plugin, "a plugin").value("capabilities"))
    if capabilities:
        conf["runtimeConfig"] = capabilities
    if previous is not None:
        conf["prevResult"] = previous
    return DelegateCall(
        conf=conf,
        command=command,
        container_id=item.container_id,
        netns=item.netns,
        ifname=item.ifname,
        args=render_args(item.pairs()),
        path=path,
        deadline=deadline,
    )


def _bare_call(
    command: str, plugins: PluginList, plugin: Json, path: tuple[str, ...], deadline: float
) -> DelegateCall:
    """Make a call that is about no container."""
    conf: Json = {**plugin, "name": plugins.name, "cniVersion": plugins.cni_version}
    return DelegateCall(conf, command, "", "", "", "", path, deadline)


def _previous(result: Result | None, plugins: PluginList) -> Json | None:
    if result is None:
        return None
    try:
        return result.convert(plugins.cni_version).data
    except ResultError:
        # A result without addresses cannot be said in 0.2.0; a plugin that old expects none.
        return None


def _may_retry(error: CNIError) -> bool:
    return error.code == cnitypes.TRY_AGAIN_LATER


def _who(plugin: Json, item: Attachment) -> str:
    return f"{Fields(plugin, 'a plugin').text('type')}, {item.where()}"
