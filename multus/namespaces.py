"""Network namespaces as the engine asks about them: which one a path is, what names are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hwmgr.model import NetnsIdentity

OWN_NAMESPACE = "/proc/thread-self/ns/net"


class Namespaces(Protocol):
    """What the engine wants to know of namespaces."""

    def identity(self, path: str) -> NetnsIdentity:
        """Say which namespace a path stands for; raises NamespaceError."""

    def has_interface(self, path: str, ifname: str) -> bool:
        """Tell whether an interface of that name exists there; raises NamespaceError."""


class KernelNamespaces:
    """The kernel's namespaces; only the calling thread ever moves."""

    def identity(self, path: str) -> NetnsIdentity:
        """See Namespaces.identity."""
        from hwmgr.netns import identity

        return identity(path)

    def has_interface(self, path: str, ifname: str) -> bool:
        """See Namespaces.has_interface."""
        import os

        from hwmgr.netns import has_interface, open_namespace

        fd = open_namespace(path)
        try:
            return has_interface(fd, ifname)
        finally:
            os.close(fd)
