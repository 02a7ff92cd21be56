"""Network configuration lists: one or more plugins that make one attachment, by libcni's rules."""

from __future__ import annotations

from dataclasses import dataclass

from multus import version as versions
from multus.jsonfields import FieldError, Fields, Json
from multus.runtimeconf import declared


@dataclass(frozen=True, slots=True)
class PluginList:
    """A checked list; a single plugin's configuration is a list of one."""

    name: str
    cni_version: str
    plugins: tuple[Json, ...]
    disable_check: bool = False
    disable_gc: bool = False
    load_only_inlined: bool = False

    def types(self) -> list[str]:
        """Return the plugins' types in order."""
        return [str(Fields(plugin, "a plugin").value("type")) for plugin in self.plugins]


def parse_conflist(value: object) -> PluginList:
    """Check a configuration list; raises FieldError."""
    fields = Fields(value, "the network configuration list")
    name = fields.text("name")
    if not name:
        raise FieldError("the network configuration list has no name")
    plugins = fields.objects("plugins")
    if not plugins:
        raise FieldError(f"network configuration list {name!r} has no plugins")
    return PluginList(
        name=name,
        cni_version=negotiate(fields.text("cniVersion"), fields.texts("cniVersions") or []),
        plugins=tuple(_plugin(plugin, name) for plugin in plugins),
        disable_check=_loose_flag(fields, "disableCheck"),
        disable_gc=_loose_flag(fields, "disableGC"),
        load_only_inlined=_loose_flag(fields, "loadOnlyInlinedPlugins"),
    )


def parse_single(value: object) -> PluginList:
    """Check one plugin's configuration and return it as a list of one; raises FieldError."""
    fields = Fields(value, "the network configuration")
    name = fields.text("name")
    if not name:
        raise FieldError("the network configuration has no name")
    if not isinstance(value, dict):
        raise FieldError("the network configuration must be a JSON object")
    return PluginList(name, fields.text("cniVersion"), (_plugin(value, name),))


def negotiate(version: str, offered: list[str]) -> str:
    """Choose the version of a list: the highest on offer that we speak, else its ``cniVersion``.

    Specification 1.1.0, section 1 "cniVersions". Raises FieldError on a malformed version.
    """
    if not offered:
        return version
    candidates = [*offered, version] if version else offered
    parsed = {text: versions.parse(text) for text in candidates}
    for text, numbers in parsed.items():
        if numbers is None:
            raise FieldError(f"{text!r} is not a CNI version")
    usable = [text for text in candidates if versions.at_least(versions.CURRENT, text)]
    return max(usable, key=lambda text: parsed[text] or (0, 0, 0)) if usable else version


def _plugin(plugin: Json, name: str) -> Json:
    fields = Fields(plugin, f"a plugin of {name!r}")
    if not fields.text("type"):
        raise FieldError(f"a plugin of network {name!r} has no type")
    declared(fields.value("capabilities"))
    return plugin


def _loose_flag(fields: Fields, name: str) -> bool:
    """Read a flag that may be written as a string (libcni accepts both)."""
    value = fields.value(name)
    if isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise FieldError(f"{name!r} must be true or false, not {value!r}")
        return value.lower() == "true"
    return fields.flag(name)
