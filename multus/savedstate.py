"""Saved state in the formats of multus-cni and libcni, so that either can take over from the other.

``<cniDir>/<containerID>`` (the scratch) lists a container's delegates; ``<cniDir>/results/`` holds
libcni's record of every attachment made.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.errors import RecordTorn, StateError
from multus.delegates import Delegate, Request, load_delegate
from multus.jsonfields import FieldError, Fields, Json, decode, encode

if TYPE_CHECKING:
    from hwmgr.store import StateDir

_RESULTS = "results"
_CACHE_KIND = "cniCacheV1"
_SUMMARY = ("cniVersion", "name", "type", "capabilities", "dns")


@dataclass(frozen=True, slots=True)
class CachedResult:
    """libcni's record of one attachment; ``conf`` is the complete configuration it was made with.

    ``result`` is as the plugin gave it, None in a record without one.
    """

    container_id: str
    ifname: str
    network: str
    netns: str
    conf: Json
    cni_args: tuple[tuple[str, str], ...]
    capability_args: Json
    result: Json | None


class SavedState:
    """The state folder of one multus configuration (its ``cniDir``).

    The journal has all that an undo needs, so these need only be whole: see StateDir.write_bytes.
    """

    def __init__(self, store: StateDir) -> None:
        self._store = store

    def save_scratch(self, container_id: str, delegates: list[Delegate]) -> None:
        """Write a container's delegates; raises StateError."""
        entries = [scratch_entry(item) for item in delegates]
        self._store.write_json(entries, container_id, lasting=False)

    def load_scratch(self, container_id: str) -> list[Delegate] | None:
        """Return a container's delegates, None when there is no file.

        Raises RecordTorn for a file that does not parse or lists nothing.
        """
        value = self._store.read_json(container_id)
        if value is None:
            return None
        path = self._store.path(container_id)
        if not isinstance(value, list) or not value:
            raise RecordTorn(path, "it lists no delegates")
        try:
            return [delegate_of_entry(entry, master=i == 0) for i, entry in enumerate(value)]
        except FieldError as error:
            raise RecordTorn(path, str(error)) from error

    def remove_scratch(self, container_id: str) -> None:
        """Forget a container's delegates."""
        self._store.remove(container_id)

    def containers(self) -> list[str]:
        """Return the container ids that have a scratch file."""
        return [name for name in self._store.list() if name != _RESULTS]

    def save_result(self, cached: CachedResult) -> None:
        """Write libcni's record of an attachment; raises StateError."""
        import base64

        record: Json = {
            "kind": _CACHE_KIND,
            "containerId": cached.container_id,
            "config": base64.b64encode(encode(cached.conf)).decode(),
            "ifName": cached.ifname,
            "networkName": cached.network,
            "netns": cached.netns,
            "cniArgs": [list(pair) for pair in cached.cni_args],
        }
        if cached.capability_args:
            record["capabilityArgs"] = cached.capability_args
        record["result"] = cached.result
        name = _result_name(cached.network, cached.container_id, cached.ifname)
        self._store.write_json(record, _RESULTS, name, lasting=False)

    def load_result(self, network: str, container_id: str, ifname: str) -> CachedResult | None:
        """Return the record of an attachment, None when there is none that can be read."""
        return self._read_result(_result_name(network, container_id, ifname))

    def remove_result(self, network: str, container_id: str, ifname: str) -> None:
        """Forget an attachment."""
        self._store.remove(_RESULTS, _result_name(network, container_id, ifname))

    def results(self) -> list[CachedResult]:
        """Return every record that can be read (GC only: the folder may be large)."""
        found = [self._read_result(name) for name in self._store.list(_RESULTS)]
        return [cached for cached in found if cached is not None]

    def _read_result(self, name: str) -> CachedResult | None:
        try:
            value = self._store.read_json(_RESULTS, name)
            return None if value is None else _cached_result(value)
        except (RecordTorn, FieldError):
            # libcni drops a damaged record too: the plugin is then called without prevResult.
            return None
        except StateError as error:
            if error.errno != errno.EISDIR:
                raise
            return None


def scratch_entry(delegate: Delegate) -> Json:
    """Return one delegate in the scratch format; ``Bytes`` is what counts, the rest a summary."""
    import base64

    request = delegate.request
    entry: Json = {
        "Conf": _summary(delegate.conf, with_type=not delegate.is_list),
        "ConfList": _list_summary(delegate) if delegate.is_list else {},
        "Name": delegate.name,
    }
    optional: Json = {
        "ifnameRequest": request.ifname,
        "macRequest": request.mac,
        "infinibandGUIDRequest": request.guid,
        "ipRequest": list(request.ips),
    }
    entry.update({name: value for name, value in optional.items() if value})
    if request.gateways is not None:
        entry["default-route"] = list(request.gateways)
    entry["IsFilterV4Gateway"] = delegate.filter_v4
    entry["IsFilterV6Gateway"] = delegate.filter_v6
    if delegate.device_id:
        entry["deviceID"] = delegate.device_id
    if delegate.resource_name:
        entry["resourceName"] = delegate.resource_name
    entry["Bytes"] = base64.b64encode(encode(delegate.conf)).decode()
    return entry


def delegate_of_entry(entry: object, *, master: bool) -> Delegate:
    """Return a delegate that was saved; raises FieldError."""
    fields = Fields(entry, "a saved delegate")
    conf = _decode_base64(fields.text("Bytes"))
    gateways = fields.texts("default-route")
    plain = load_delegate(conf, master=master)
    request = Request(
        ifname=fields.text("ifnameRequest"),
        mac=fields.text("macRequest"),
        guid=fields.text("infinibandGUIDRequest"),
        ips=tuple(fields.texts("ipRequest") or ()),
        gateways=None if gateways is None else tuple(gateways),
    )
    return Delegate(
        conf=plain.conf,
        name=fields.text("Name") or plain.name,
        conf_name=plain.conf_name,
        conf_type=plain.conf_type,
        is_list=plain.is_list,
        master=plain.master,
        request=request,
        device_id=fields.text("deviceID"),
        resource_name=fields.text("resourceName"),
        filter_v4=fields.flag("IsFilterV4Gateway"),
        filter_v6=fields.flag("IsFilterV6Gateway"),
    )


def _cached_result(value: object) -> CachedResult:
    fields = Fields(value, "a cached result")
    if fields.text("kind") != _CACHE_KIND:
        raise FieldError("not a record of libcni")
    conf = _decode_base64(fields.text("config"))
    if not isinstance(conf, dict):
        raise FieldError("the saved configuration is not an object")
    pairs = [pair for pair in fields.items("cniArgs") or [] if isinstance(pair, list)]
    return CachedResult(
        container_id=fields.text("containerId"),
        ifname=fields.text("ifName"),
        network=fields.text("networkName"),
        netns=fields.text("netns"),
        conf=conf,
        cni_args=tuple((str(pair[0]), str(pair[1])) for pair in pairs if len(pair) == 2),
        capability_args=fields.mapping("capabilityArgs") or {},
        result=fields.mapping("result"),
    )


def _summary(conf: Json, *, with_type: bool = True) -> Json:
    """Return the members of a configuration that Go's PluginConf has."""
    fields = Fields(conf, "the configuration")
    names = [name for name in _SUMMARY if with_type or name != "type"]
    summary = {name: fields.value(name) for name in names if fields.value(name)}
    ipam = fields.value("ipam")
    kind = Fields(ipam, "ipam").value("type") if isinstance(ipam, dict) else None
    summary["ipam"] = {"type": kind} if kind else {}
    return summary


def _list_summary(delegate: Delegate) -> Json:
    fields = Fields(delegate.conf, "the list")
    names = ("cniVersion", "name", "disableCheck")
    summary: Json = {name: fields.value(name) for name in names if fields.value(name)}
    summary["plugins"] = [_summary(plugin) for plugin in fields.objects("plugins") or []]
    return summary


def _decode_base64(text: str) -> object:
    import base64

    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise FieldError(f"not base64: {error}") from error
    return decode(data, "the saved configuration")


def _result_name(network: str, container_id: str, ifname: str) -> str:
    return f"{network}-{container_id}-{ifname}"
