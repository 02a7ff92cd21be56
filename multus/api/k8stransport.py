"""The transport of the Kubernetes client library, without the rest of it.

Importing any part of the package runs its top level, which loads every typed object: 0.1 s. So its
parts are loaded below stand-ins for their parents, which are forgotten afterwards: a later import
of the package gets the whole. Python runs a module once, whatever threads import it: nobody sees
the stand-ins but this one, and who imports the package imports this first.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

_PARENTS = ("kubernetes", "kubernetes.client", "kubernetes.utils")
_PARTS = ("kubernetes.client.rest", "kubernetes.client.configuration")


def _stand_in(package: str) -> ModuleType:
    spec = find_spec(package)
    if spec is None:
        raise ImportError(name=package)
    return module_from_spec(spec)


def _forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "kubernetes"]:
        del sys.modules[name]


def _parts() -> list[Any]:
    if "kubernetes" in sys.modules:
        return [import_module(name) for name in _PARTS]
    try:
        for parent in _PARENTS:
            sys.modules[parent] = _stand_in(parent)
        found = [import_module(name) for name in _PARTS]
    except (ImportError, AttributeError):
        found = None
    _forget()
    # None: a release whose parts need more of each other.
    return found or [import_module(name) for name in _PARTS]


_rest, _configuration = _parts()
RESTClientObject: Any = _rest.RESTClientObject
Configuration: Any = _configuration.Configuration
