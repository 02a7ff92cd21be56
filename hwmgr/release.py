"""Which version of the project is installed."""

from __future__ import annotations

from importlib import metadata


def installed() -> str:
    """Return the version, or that it runs from a checkout."""
    try:
        return metadata.version("hwmgr")
    except metadata.PackageNotFoundError:
        return "(not installed)"
