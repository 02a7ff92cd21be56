"""Network configurations in files: in multus' own folder by name, or where clusterNetwork points.

By the rules of libcni: ``*.conf`` and ``*.json`` hold one plugin, ``*.conflist`` a list; a list
takes further plugins from ``<folder>/<its name>/*.conf`` unless it says loadOnlyInlinedPlugins.
"""

from __future__ import annotations

import os

from multus import cnitypes
from multus.conflist import parse_conflist
from multus.jsonfields import FieldError, Fields, Json, decode

_SINGLE = (".conf", ".json")
_LIST = ".conflist"


def find_by_name(folder: str, name: str) -> Json | None:
    """Return the configuration whose ``name`` is that, None when the folder has none.

    Raises FieldError when a file that comes before it, in the order of names, cannot be read.
    """
    for file in _files(folder, (*_SINGLE, _LIST)):
        conf = read_conf(file)
        if Fields(conf, file).text("name") == name:
            return conf
    return None


def load_path(path: str) -> Json:
    """Return the configuration of a file, or of the first file in a folder; raises FieldError."""
    if os.path.isdir(path):
        # The order of names decides, as it does for the container runtime.
        files = _files(path, (".conf", _LIST))
        if not files:
            raise FieldError(f"no network configuration (*.conf, *.conflist) in {path}")
        path = files[0]
    return read_conf(path)


def read_conf(path: str) -> Json:
    """Return one file's configuration, checked; raises FieldError."""
    conf = _read_object(path)
    fields = Fields(conf, path)
    if not path.endswith(_LIST):
        if not fields.text("type"):
            raise FieldError(f"{path} has no type; a list of plugins belongs into *{_LIST}")
        return conf
    if not cnitypes.valid_name(fields.text("name")):
        raise FieldError(f"{path} has no usable name")
    inlined = fields.objects("plugins") or []
    # A list may have all its plugins in files; the flag is read with a stand-in for them.
    only_inlined = parse_conflist({**conf, "plugins": [{"type": "x"}]}).load_only_inlined
    if not only_inlined:
        folder = os.path.join(os.path.dirname(path), fields.text("name"))
        extra = chained(folder)
        if extra:
            kept = {key: value for key, value in conf.items() if key.lower() != "plugins"}
            conf = {**kept, "plugins": [*inlined, *extra]}
    parse_conflist(conf)
    return conf


def chained(folder: str) -> list[Json]:
    """Return the plugins that a folder adds to a list, in the order of file names."""
    plugins = []
    for file in _files(folder, (".conf",)):
        plugin = _read_object(file)
        if not Fields(plugin, file).text("type"):
            raise FieldError(f"{file} has no type")
        plugins.append(plugin)
    return plugins


def _files(folder: str, endings: tuple[str, ...]) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise FieldError(f"{folder} cannot be listed: {error.strerror}") from error
    paths = [os.path.join(folder, name) for name in names if name.endswith(endings)]
    return [path for path in paths if os.path.isfile(path)]


def _read_object(path: str) -> Json:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise FieldError(f"{path} cannot be read: {error.strerror}") from error
    value = decode(data, path)
    if not isinstance(value, dict):
        raise FieldError(f"{path} must hold a JSON object")
    return value
