"""Saved attachments as people and scripts see them: from our journal and multus-cni's files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmgr.errors import HwmgrError
from multus.cnitypes import ifname_fault, valid_name
from multus.intents import Intents
from multus.jsonfields import FieldError, Fields, Json
from multus.result import ResultError, parse_result
from multus.savedstate import SavedState

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmgr.store import StateDir
    from multus.delegates import Delegate
    from multus.intents import Record, StepState
    from multus.savedstate import CachedResult


@dataclass(frozen=True, slots=True)
class Found:
    """What the files say; ``problems`` name files that cannot be read."""

    attachments: list[Json]
    problems: list[str]


def find_all(state: StateDir, cni_dir: str, open_state: Callable[[str], StateDir]) -> Found:
    """Read every container's saved attachments; nothing is changed."""
    found, problems = [], []
    intents = Intents(state)
    journal = intents.containers()
    for container_id in journal:
        try:
            record = intents.load(container_id)
        except HwmgrError as error:
            problems.append(error.message)
            continue
        if record is not None:
            results = _Results(open_state(record.cni_dir), problems)
            found.append(_of_record(record, results))
    folder = open_state(cni_dir)
    saved, results = SavedState(folder), _Results(folder, problems)
    for container_id in saved.containers():
        if container_id in journal or not valid_name(container_id):
            continue
        try:
            delegates = saved.load_scratch(container_id)
        except HwmgrError as error:
            problems.append(error.message)
            continue
        if delegates is not None:
            found.append(_of_scratch(container_id, delegates, results))
    return Found(sorted(found, key=lambda each: str(each["containerId"])), problems)


class _Results:
    """libcni's records in one folder; of those that cannot be read, the problems are kept."""

    def __init__(self, folder: StateDir, problems: list[str]) -> None:
        self._folder, self._problems = folder, problems

    def of(self, delegate: Delegate, container_id: str, ifname: str) -> CachedResult | None:
        """Return the record of one interface, None when there is none, or a damaged one."""
        # The names come from files and become part of a path.
        if not valid_name(delegate.conf_name) or ifname_fault(ifname):
            return None
        name = f"{delegate.conf_name}-{container_id}-{ifname}"
        try:
            if self._folder.read_bytes("results", name) is None:
                return None
            saved = SavedState(self._folder)
            cached = saved.load_result(delegate.conf_name, container_id, ifname)
            # It may have been removed since.
            if cached is None and self._folder.read_bytes("results", name) is not None:
                path = self._folder.path("results", name)
                self._problems.append(f"{path} is no record of libcni; addresses are unknown")
        except HwmgrError as error:
            self._problems.append(error.message)
            return None
        return cached


def _of_record(record: Record, results: _Results) -> Json:
    steps = []
    for step in record.steps:
        item = step.attachment
        cached = results.of(item.delegate, item.container_id, item.ifname)
        steps.append(_network(item.delegate, item.ifname, cached, step.state))
    pairs = dict(record.steps[0].attachment.cni_args) if record.steps else {}
    return {
        "containerId": record.container_id,
        **_pod(pairs),
        "state": record.phase.value,
        "since": record.since,
        "netns": record.netns_path,
        "source": "journal",
        "networks": steps,
    }


def _of_scratch(container_id: str, delegates: list[Delegate], results: _Results) -> Json:
    networks, pairs, netns = [], {}, None
    for index, delegate in enumerate(delegates):
        ifname = delegate.request.ifname or ("eth0" if index == 0 else f"net{index}")
        cached = results.of(delegate, container_id, ifname)
        if cached is not None:
            pairs, netns = dict(cached.cni_args), cached.netns
        networks.append(_network(delegate, ifname, cached, None))
    return {
        "containerId": container_id,
        **_pod(pairs),
        "state": "attached",
        "since": None,
        "netns": netns,
        "source": "multus-cni",
        "networks": networks,
    }


def _pod(pairs: dict[str, str]) -> Json:
    return {
        "podNamespace": pairs.get("K8S_POD_NAMESPACE") or None,
        "podName": pairs.get("K8S_POD_NAME") or None,
        "podUid": pairs.get("K8S_POD_UID") or None,
    }


def _network(
    delegate: Delegate, ifname: str, cached: CachedResult | None, state: StepState | None
) -> Json:
    try:
        kind = ",".join(delegate.plugin_list().types())
    except FieldError:
        kind = delegate.conf_type
    result = _modern(None if cached is None else cached.result)
    return {
        "name": delegate.name,
        "ifname": ifname,
        "podIfname": _pod_ifname(delegate, ifname, result),
        "type": kind,
        "ips": [str(item.get("address", "")) for item in _objects(result, "ips")],
        "deviceID": delegate.device_id or None,
        "state": "added" if state is None else state.value,
    }


def _pod_ifname(delegate: Delegate, ifname: str, result: Json) -> str:
    """Return the interface's name in the pod: a plugin may choose another than it was asked for."""
    interfaces = [item for item in _objects(result, "interfaces") if item.get("sandbox")]
    names = [str(item.get("name", "")) for item in interfaces]
    if names:
        return ifname if ifname in names else names[0]
    # Results of CNI 0.2.0 name no interfaces.
    try:
        plugins = [Fields(plugin, "a plugin") for plugin in delegate.plugin_list().plugins]
        chosen = [p.text("if0name") for p in plugins if p.text("type") == "sriov"]
    except FieldError:
        return ifname
    return next(filter(None, chosen), ifname)


def _objects(result: Json, key: str) -> list[Json]:
    try:
        return Fields(result, "the saved result").objects(key) or []
    except FieldError:
        return []


def _modern(result: Json | None) -> Json:
    """Return a result in the form of CNI 1.0.0, an empty one where it is none."""
    if result is None:
        return {}
    try:
        own = Fields(result, "the saved result").text("cniVersion")
        return parse_result(result, own).convert("1.0.0").data
    except (FieldError, ResultError):
        return {}
