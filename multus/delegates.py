"""Delegates: the networks a pod is to be attached to, and how a plugin is asked to do it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from multus.conflist import PluginList, parse_conflist, parse_single
from multus.jsonfields import FieldError, Fields, Json

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Request:
    """What the pod asks for of one attachment (the network selection element of NPWG 1.3)."""

    ifname: str = ""
    mac: str = ""
    guid: str = ""
    ips: tuple[str, ...] = ()
    gateways: tuple[str, ...] | None = None
    port_mappings: tuple[Json, ...] = ()
    bandwidth: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delegate:
    """One network to attach: the configuration of a plugin or list, and what the pod wants of it.

    ``conf`` is the complete configuration and is what gets saved; everything else describes it.
    ``filter_v4`` and ``filter_v6``: another network of the pod may have the default route.
    """

    conf: Json
    name: str
    conf_name: str
    conf_type: str
    is_list: bool
    master: bool = False
    request: Request = Request()
    device_id: str = ""
    resource_name: str = ""
    filter_v4: bool = False
    filter_v6: bool = False

    @property
    def cni_version(self) -> str:
        """The version that the configuration names, "" when none."""
        return Fields(self.conf, "the delegate").text("cniVersion")

    def plugin_list(self) -> PluginList:
        """Return the checked list of plugins; raises FieldError."""
        return parse_conflist(self.conf) if self.is_list else parse_single(self.conf)

    def completed(self, name: str, cni_version: str) -> Delegate:
        """Fill in the name and version that the configuration leaves out."""
        fields = Fields(self.conf, "the delegate")
        conf = dict(self.conf)
        if not fields.text("name"):
            conf = _with_member(conf, "name", name)
        if not fields.text("cniVersion") and not fields.value("cniVersions"):
            conf = _with_member(conf, "cniVersion", cni_version)
        if conf == self.conf:
            return self
        conf_name = Fields(conf, "the delegate").text("name")
        return replace(self, conf=conf, conf_name=conf_name, name=self.name or conf_name)

    def wants_master(self) -> bool:
        """Tell whether the configuration says ``masterplugin`` (2018); raises FieldError."""
        return Fields(self.conf, f"delegate {self.name!r}").flag("masterplugin")


def load_delegate(
    conf: object,
    element: Json | None = None,
    *,
    device_id: str = "",
    resource_name: str = "",
    master: bool = False,
) -> Delegate:
    """Make a delegate of a configuration and, when the pod selected it, of that selection.

    Raises FieldError.
    """
    fields = Fields(conf, "a delegate")
    conf_name, conf_type = fields.text("name"), fields.text("type")
    is_list = not conf_type
    if is_list:
        _check_list(fields)
    complete: Json = copy.deepcopy(conf) if isinstance(conf, dict) else {}
    wanted = Fields(element or {}, "the network selection")
    if wanted.mapping("cni-args"):
        complete = _each_plugin(complete, is_list, _merge_args, wanted.mapping("cni-args") or {})
    if device_id:
        member: Json = {"deviceID": device_id, "pciBusID": device_id}
        complete = _each_plugin(complete, is_list, _merge_members, member)
    name = conf_name
    if element is not None:
        name = f"{wanted.text('namespace')}/{wanted.text('name')}"
    return Delegate(
        conf=complete,
        name=name,
        conf_name=conf_name,
        conf_type=conf_type,
        is_list=is_list,
        master=master,
        request=_request(wanted),
        device_id=device_id or wanted.text("deviceID"),
        resource_name=resource_name,
    )


def _check_list(fields: Fields) -> None:
    plugins = fields.objects("plugins")
    if not plugins:
        raise FieldError(f"delegate {fields.text('name')!r} has neither a type nor plugins")
    if not Fields(plugins[0], "the first plugin").text("type"):
        raise FieldError(f"the first plugin of delegate {fields.text('name')!r} has no type")


def _request(wanted: Fields) -> Request:
    from multus.runtimeconf import bandwidth, port_mappings

    gateways = wanted.texts("default-route")
    return Request(
        ifname=wanted.text("interface") or wanted.text("interfaceRequest"),
        mac=wanted.text("mac"),
        guid=wanted.text("infiniband-guid"),
        ips=tuple(wanted.texts("ips") or ()),
        gateways=None if gateways is None else tuple(gateways),
        port_mappings=tuple(port_mappings(wanted.objects("portMappings"))),
        bandwidth=bandwidth(wanted.mapping("bandwidth")),
    )


def _each_plugin(conf: Json, is_list: bool, change: _Change, argument: Json) -> Json:
    if not is_list:
        return change(conf, argument)
    fields = Fields(conf, "the delegate")
    plugins = [change(plugin, argument) for plugin in fields.objects("plugins") or []]
    return _with_member(conf, "plugins", plugins)


def _merge_members(plugin: Json, members: Json) -> Json:
    for name, value in members.items():
        plugin = _with_member(plugin, name, value)
    return plugin


def _merge_args(plugin: Json, cni_args: Json) -> Json:
    """Merge the pod's ``cni-args`` into ``args.cni`` of one plugin; the pod's win."""
    args = dict(Fields(plugin, "the plugin").mapping("args") or {})
    own = Fields(args, "args").mapping("cni") or {}
    return _with_member(plugin, "args", _with_member(args, "cni", {**own, **cni_args}))


def _with_member(conf: Json, name: str, value: object) -> Json:
    """Set a member, replacing any spelling of its name, since Go readers take the last one."""
    kept = {key: member for key, member in conf.items() if key.lower() != name.lower()}
    return {**kept, name: value}


class _Change(Protocol):
    def __call__(self, conf: Json, argument: Json, /) -> Json: ...


@dataclass(frozen=True, slots=True)
class DelegateCall:
    """One plugin is asked for one verb: everything it gets on stdin and in its environment.

    ``conf`` is the complete stdin; ``deadline`` is on the monotonic clock, in seconds. ``plugin``
    names another plugin than the configuration's ``type``: its IPAM plugin gets the same stdin.
    """

    conf: Json
    command: str
    container_id: str
    netns: str
    ifname: str
    args: str
    path: tuple[str, ...]
    deadline: float
    plugin: str = ""


class PluginRunner(Protocol):
    """Has one plugin do one verb, by exec or in this process; every method raises CNIError."""

    def add(self, call: DelegateCall) -> Mapping[str, object]:
        """Attach and return the result as the plugin gave it."""

    def check(self, call: DelegateCall) -> None:
        """Verify that the attachment is as ``prevResult`` says."""

    def delete(self, call: DelegateCall) -> None:
        """Undo the attachment; fine when there is none."""

    def gc(self, call: DelegateCall) -> None:
        """Free what belongs to no valid attachment."""

    def status(self, call: DelegateCall) -> None:
        """Return when an ADD could be served."""
