"""What the device plane asks of rtnetlink, as protocols that hwmgr.netlink and fakes answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from hwmgr.model import Netdev, VFSettings


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """One default route of the main table; ``request`` is what rtnetlink needs to name it again."""

    index: int
    gateway: str | None
    request: Mapping[str, Any]


class Links(Protocol):
    """The netdevs of one namespace."""

    def find(self, name: str) -> Netdev | None:
        """Return the netdev of that name or alternative name, None when there is none."""

    def get(self, index: int) -> Netdev | None:
        """Return the netdev of that index, None when there is none."""

    def permanent_mac(self, index: int) -> str | None:
        """Return the MAC that the hardware has of itself, None where its driver does not tell."""

    def list(self) -> list[Netdev]:
        """Return every netdev, without addresses (one dump)."""

    def addresses(self) -> dict[int, tuple[str, ...]]:
        """Return the addresses of global scope by the index of their netdev (one dump)."""

    def vf_settings(self, pf_index: int) -> dict[int, VFSettings]:
        """Return what the PF's driver says of each of its VFs, by VF index."""

    def set_vf(self, pf_index: int, vf: int, change: VFSettings) -> None:
        """Set one group of a VF's settings: the kernel applies a message up to its first error, so
        a message carries one attribute and the error names it."""

    def move(self, index: int, ns_fd: int, name: str) -> None:
        """Move a netdev into another namespace under a new name, in one message.

        On EEXIST the kernel may have moved it already, under its old name (do_setlink() changes the
        namespace before the name), so the caller must look for it in both.
        """

    def rename(self, index: int, name: str) -> None:
        """Rename a netdev; EBUSY before Linux 6.3 while it is up."""

    def set_up(self, index: int, *, up: bool) -> None:
        """Set a netdev up or down."""

    def set_mtu(self, index: int, mtu: int) -> None:
        """Set the MTU, in bytes."""

    def set_mac(self, index: int, mac: str) -> None:
        """Set the effective MAC."""

    def set_alias(self, index: int, alias: str | None) -> None:
        """Set or clear the alias (IFLA_IFALIAS, at most 255 bytes)."""

    def add_altname(self, index: int, name: str) -> None:
        """Add an alternative name."""

    def del_altname(self, index: int, name: str) -> None:
        """Remove an alternative name."""

    def add_address(self, index: int, address: str) -> None:
        """Add ``address/prefix``; one that is there already is fine."""

    def add_route(
        self, index: int, dst: str, gateway: str | None, extra: Mapping[str, int]
    ) -> bool:
        """Add a route by the netdev; False when that destination is routed already (it stays)."""

    def default_routes(self, *, v6: bool) -> tuple[DefaultRoute, ...]:
        """Return the unicast default routes of one family in the main table, by any netdev."""

    def remove_default_route(self, route: DefaultRoute) -> None:
        """Remove one of them."""

    def add_default_route(self, route: DefaultRoute) -> None:
        """Put one back that was removed."""

    def wait_running(self, index: int, timeout: float) -> bool:
        """Wait at most ``timeout`` s until a netdev has carrier; tell whether it has."""


class Netlink(Protocol):
    """Opens the netdevs of a namespace."""

    def links(self, ns_fd: int | None = None) -> AbstractContextManager[Links]:
        """Open the namespace behind a descriptor, or our own."""
