"""Which networks a pod gets: the node's own, then what the pod's annotations and their objects say.

The one place that decides it, for ADD, for a DEL without records, and for ``multusctl explain``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from multus import annotation, cnitypes, confdir, definitions, gateways
from multus.api.clusterapi import ApiNotFoundError
from multus.cnitypes import CNIError
from multus.delegates import Delegate, load_delegate
from multus.jsonfields import FieldError, Fields, Json
from multus.seedlookup import SeedLookup

if TYPE_CHECKING:
    from collections.abc import Callable

    from multus.api.cluster import Cluster
    from multus.config import NetConf
    from multus.devices.choice import Devices

_PASSTHRU: Json = {"type": "passthru", "name": "passthru-cni"}


@dataclass(frozen=True, slots=True)
class Selected:
    """The delegates of a pod, master first; ``source`` says for each where it comes from."""

    delegates: tuple[Delegate, ...]
    sources: tuple[str, ...]
    selections: tuple[Json, ...]


class PodNetworks:
    """Resolves the networks of one pod; ``pod`` and ``cluster`` are None outside Kubernetes."""

    def __init__(
        self,
        conf: NetConf,
        pod: Json | None,
        cluster: Cluster | None,
        devices: Devices | None,
        log: Callable[[str], None],
    ) -> None:
        self._conf = conf
        self._cluster = cluster
        self._devices = devices
        self._log = log
        meta = Fields(Fields(pod or {}, "the pod").mapping("metadata") or {}, "its metadata")
        self._namespace = meta.text("namespace")
        self._annotations = Fields(meta.mapping("annotations") or {}, "its annotations")
        self._pod = pod
        self._selections: list[Json] = []

    def resolve(self) -> Selected:
        """Return the pod's delegates; raises CNIError 7, 11, DeviceError and ApiError.

        Nothing is left out: a network that cannot be had fails the whole pod.
        """
        # Devices that the pod names are kept for those networks before any other takes one.
        elements = [] if self._pod is None else self._pod_elements()
        self._reserve(elements)
        delegates, sources = self._node_networks()
        if self._pod is not None:
            override = self._default_network()
            if override is not None:
                delegates[:1], sources[:1] = [override[0]], [override[1]]
            first = self._of_2018().first_generation(
                self._annotations, self._check_isolation, self._log
            )
            if first:
                # In 2018 the pod's networks took the place of the node's.
                delegates, sources = [item[0] for item in first], [item[1] for item in first]
            for delegate, source in self._pod_networks(elements):
                delegates.append(delegate)
                sources.append(source)
        self._add_auxiliary_chain(delegates, sources)
        if not delegates:
            raise CNIError(
                cnitypes.INVALID_CONFIG,
                "the pod asks for no network and the configuration has no delegates for it",
            )
        return Selected(_filtered(delegates), tuple(sources), tuple(self._selections))

    def selections(self) -> list[Json]:
        """Return the pod's selections as far as resolve has read them."""
        return list(self._selections)

    def default_network(self) -> Delegate:
        """Return the node's default network alone; raises as resolve."""
        if self._conf.cluster_network:
            return self._cluster_network(self._conf.cluster_network, master=True)[0]
        if not self._conf.delegates:
            raise CNIError(cnitypes.INVALID_CONFIG, "the configuration has no delegates")
        return self._conf.delegates[0]

    # ---- the node's own -----------------------------------------------------------------------

    def _node_networks(self) -> tuple[list[Delegate], list[str]]:
        conf = self._conf
        if not conf.cluster_network:
            count = len(conf.delegates)
            return list(conf.delegates), [f"delegates[{index}]" for index in range(count)]
        found = [self._cluster_network(conf.cluster_network, master=True)]
        if self._namespace not in conf.system_namespaces:
            found += [self._cluster_network(name) for name in conf.default_networks]
        return [item[0] for item in found], [item[1] for item in found]

    def _cluster_network(self, name: str, *, master: bool = False) -> tuple[Delegate, str]:
        """Resolve a name of clusterNetwork or defaultNetworks: a path, an object, or a file."""
        conf = self._conf
        try:
            if "/" in name:
                return load_delegate(confdir.load_path(name), master=master), f"file {name}"
            if self._cluster is not None:
                try:
                    element: Json = {"name": name, "namespace": conf.multus_namespace}
                    return self._attachment_definition(element, master=master)
                except ApiNotFoundError:
                    pass
            found = confdir.find_by_name(conf.conf_dir, name)
        except FieldError as error:
            raise _bad(f"network {name!r}", error) from error
        if found is None:
            raise CNIError(
                cnitypes.INVALID_CONFIG,
                f"network {name!r} is neither a NetworkAttachmentDefinition in "
                f"{conf.multus_namespace} nor named by a file in {conf.conf_dir}",
            )
        return load_delegate(found, master=master), f"a file in {conf.conf_dir}"

    def _add_auxiliary_chain(self, delegates: list[Delegate], sources: list[str]) -> None:
        conf = self._conf
        name = conf.auxiliary_chain_name
        if not name:
            return
        if "/" not in conf.cluster_network:
            raise CNIError(
                cnitypes.INVALID_CONFIG,
                "auxiliaryCNIChainName needs a clusterNetwork that is a path: its folder is "
                "where the chain's plugins are",
            )
        if not cnitypes.valid_name(name):
            raise CNIError(cnitypes.INVALID_CONFIG, f"auxiliaryCNIChainName {name!r} is no name")
        folder = os.path.join(os.path.dirname(conf.cluster_network), name)
        try:
            plugins = confdir.chained(folder)
            if plugins:
                chain: Json = {
                    "cniVersion": conf.cni_version,
                    "name": name,
                    "plugins": [_PASSTHRU, *plugins],
                }
                delegates.append(load_delegate(chain))
                sources.append(f"files in {folder}")
        except FieldError as error:
            raise _bad(f"auxiliary chain {name!r}", error) from error

    # ---- the pod's ----------------------------------------------------------------------------

    def _default_network(self) -> tuple[Delegate, str] | None:
        if not self._annotations.present(annotation.DEFAULT_NETWORK):
            return None
        text = self._annotations.text(annotation.DEFAULT_NETWORK)
        try:
            elements = annotation.parse_selections(text, self._conf.multus_namespace)
        except FieldError as error:
            raise _bad(f"annotation {annotation.DEFAULT_NETWORK}", error) from error
        if len(elements) != 1:
            raise CNIError(
                cnitypes.INVALID_CONFIG,
                f"annotation {annotation.DEFAULT_NETWORK} must name exactly one network",
            )
        self._selections += elements
        self._reserve(elements)
        return self._selected(elements[0], master=True)

    def _pod_elements(self) -> list[Json]:
        text = self._annotations.text(annotation.NETWORKS)
        if not text:
            return []
        try:
            return annotation.parse_selections(text, self._namespace)
        except FieldError as error:
            raise _bad(f"annotation {annotation.NETWORKS}", error) from error

    def _pod_networks(self, elements: list[Json]) -> list[tuple[Delegate, str]]:
        if not self._annotations.text(annotation.NETWORKS):
            return self._of_2018().second_generation(self._annotations, self._check_isolation)
        self._selections += elements
        for place, element in enumerate(elements, 1):
            if not element["name"]:
                raise CNIError(
                    cnitypes.INVALID_CONFIG,
                    f"annotation {annotation.NETWORKS}: element {place} has no name",
                )
            self._check_isolation(element)
        return [self._selected(element) for element in elements]

    def _reserve(self, elements: list[Json]) -> None:
        if self._devices is not None:
            for element in elements:
                device_id = Fields(element, "the element").text("deviceID")
                if device_id:
                    self._devices.reserve(device_id)

    def _check_isolation(self, element: Json) -> None:
        conf, namespace = self._conf, str(element["namespace"])
        allowed = (self._namespace, *conf.global_namespaces)
        if conf.namespace_isolation and namespace not in allowed:
            raise CNIError(
                cnitypes.INVALID_CONFIG,
                f"pods of namespace {self._namespace} may not use networks of {namespace}; "
                f"namespaceIsolation allows {', '.join(allowed)}",
            )

    def _selected(self, element: Json, *, master: bool = False) -> tuple[Delegate, str]:
        try:
            return self._attachment_definition(element, selection=element, master=master)
        except ApiNotFoundError as error:
            where = f"{element['namespace']}/{element['name']}"
            if self._pod is not None:
                text = f"there is no NetworkAttachmentDefinition {where}"
                self._api().event(self._pod, "Warning", "NoNetworkFound", text)
            raise CNIError(
                cnitypes.INVALID_CONFIG,
                f"there is no NetworkAttachmentDefinition {where}; create it or correct the "
                f"annotation of the pod",
            ) from error
        except FieldError as error:
            raise _bad(f"network {element['namespace']}/{element['name']}", error) from error

    def _attachment_definition(
        self, element: Json, *, selection: Json | None = None, master: bool = False
    ) -> tuple[Delegate, str]:
        definition = self._api().network_attachment(str(element["namespace"]), str(element["name"]))
        return definitions.delegate_of(
            definition,
            element,
            self._conf.conf_dir,
            self._devices,
            selection=selection,
            master=master,
        )

    def _of_2018(self) -> SeedLookup:
        return SeedLookup(self._conf.conf_dir, self._namespace, self._api, self._selections)

    def _api(self) -> Cluster:
        if self._cluster is None:
            raise CNIError(
                cnitypes.INVALID_CONFIG, "the pod's networks need a kubeconfig; none is configured"
            )
        return self._cluster


def _filtered(delegates: list[Delegate]) -> tuple[Delegate, ...]:
    """Mark the families of default routes that each delegate must leave to others."""
    wanted = [delegate.request.gateways for delegate in delegates]
    if all(gateway is None for gateway in wanted):
        return tuple(delegates)
    try:
        filters = gateways.filters(wanted)
    except ValueError as error:
        raise CNIError(cnitypes.INVALID_CONFIG, str(error)) from error
    return tuple(
        replace(delegate, filter_v4=flags.v4, filter_v6=flags.v6)
        for delegate, flags in zip(delegates, filters, strict=True)
    )


def _bad(where: str, error: ValueError) -> CNIError:
    return CNIError(cnitypes.INVALID_CONFIG, f"{where}: {error}")
