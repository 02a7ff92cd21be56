"""Look up the networks of a pod whose annotations are of 2017 or 2018."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from multus import annotation, cnitypes, confdir, seednetworks
from multus.api.clusterapi import ApiNotFoundError
from multus.cnitypes import CNIError
from multus.delegates import Delegate, load_delegate
from multus.jsonfields import FieldError, Fields, Json

if TYPE_CHECKING:
    from collections.abc import Callable

    from multus.api.cluster import Cluster

Found = list[tuple[Delegate, str]]


class SeedLookup:
    """The lookups of one pod; delegates come with where they are from.

    What the pod names is added to ``selections``. Every method raises CNIError and ApiError.
    """

    def __init__(
        self, conf_dir: str, namespace: str, api: Callable[[], Cluster], selections: list[Json]
    ) -> None:
        self._conf_dir = conf_dir
        self._namespace = namespace
        self._api = api
        self._selections = selections

    def first_generation(
        self, annotations: Fields, check: Callable[[Json], None], log: Callable[[str], None]
    ) -> Found:
        """Return what the annotation ``networks`` names, the master first; [] without it."""
        text = annotations.text(seednetworks.FIRST_ANNOTATION)
        if not text:
            return []
        if annotations.text(annotation.NETWORKS) or not text.lstrip().startswith(("[", "{")):
            # The key is no standard; others may use it for what they like.
            log(f"annotation {seednetworks.FIRST_ANNOTATION!r} is left alone")
            return []
        confs: list[tuple[Json, str, str]] = []
        try:
            for name in seednetworks.parse_names(text):
                network, where = self._object(name, seednetworks.FIRST_GROUP, self._namespace)
                source = f"Network {where}/{name} ({seednetworks.FIRST_GROUP})"
                check({"name": name, "namespace": where})
                self._selections.append({"name": name, "namespace": where})
                confs += [
                    ({"name": name, **conf}, f"{where}/{name}", source)
                    for conf in seednetworks.delegates_of(network)
                ]
            return _ordered(confs)
        except FieldError as error:
            raise _bad(seednetworks.FIRST_ANNOTATION, error) from error

    def second_generation(self, annotations: Fields, check: Callable[[Json], None]) -> Found:
        """Return what the annotation of Multus 2 names; ``check`` judges each selection."""
        text = annotations.text(seednetworks.SECOND_ANNOTATION)
        if not text:
            return []
        try:
            elements = annotation.parse_selections(text, self._namespace)
            for element in elements:
                check(element)
            return [self._selected(element, check) for element in elements]
        except FieldError as error:
            raise _bad(seednetworks.SECOND_ANNOTATION, error) from error

    def _selected(self, element: Json, check: Callable[[Json], None]) -> tuple[Delegate, str]:
        name, group = str(element["name"]), seednetworks.SECOND_GROUP
        network, where = self._object(name, group, str(element["namespace"]))
        check({**element, "namespace": where})
        conf = seednetworks.conf_of_second(network, name)
        if conf is None:
            conf = confdir.find_by_name(self._conf_dir, name)
        if conf is None:
            raise FieldError(f"no file in {self._conf_dir} is named {name!r}")
        self._selections.append(element)
        named = conf if Fields(conf, "the configuration").text("name") else {"name": name, **conf}
        delegate = load_delegate(named, {**element, "namespace": where})
        return delegate, f"Network {where}/{name} ({group})"

    def _object(self, name: str, group: str, namespace: str) -> tuple[Json, str]:
        """Return an object of the pod's namespace, else of ``default``, and where it was."""
        places = dict.fromkeys((namespace, seednetworks.SHARED_NAMESPACE))
        for place in places:
            try:
                return self._api().network(place, name, group), place
            except ApiNotFoundError:
                continue
        raise CNIError(
            cnitypes.INVALID_CONFIG,
            f"there is no Network {name!r} of {group}/v1 in namespace {' or '.join(places)}",
        )


def _ordered(confs: list[tuple[Json, str, str]]) -> Found:
    """Put the master first and name the others net0, net1, … as Multus 1 did."""
    masters = [index for index, (conf, _, _) in enumerate(confs) if _says_master(conf)]
    if len(masters) > 1:
        raise FieldError("more than one of the pod's networks says masterplugin: true")
    first = masters[0] if masters else 0
    rest = [index for index in range(len(confs)) if index != first]
    found: Found = []
    for position, index in enumerate([first, *rest] if confs else []):
        conf, name, source = confs[index]
        master = position == 0
        delegate = load_delegate({**conf, "masterplugin": True} if master else conf, master=master)
        request = delegate.request
        if not master:
            request = replace(request, ifname=f"net{position - 1}")
        found.append((replace(delegate, name=name, request=request), source))
    return found


def _says_master(conf: Json) -> bool:
    return Fields(conf, "the configuration").flag("masterplugin")


def _bad(key: str, error: ValueError) -> CNIError:
    return CNIError(cnitypes.INVALID_CONFIG, f"annotation {key}: {error}")
