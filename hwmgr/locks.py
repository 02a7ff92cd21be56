"""The locks and their one order: container, then PF, then the function itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hwmgr.store import StateDir

# sriov-cni waits this long for a function's lock (pkg/utils/pci_allocator.go); so do we, to be as
# patient with it as it is with us.
FUNCTION_LOCK_SECONDS = 60.0


class Locks:
    """flocks in the state directory; a killed holder frees them."""

    def __init__(self, state: StateDir, timeout: float = FUNCTION_LOCK_SECONDS) -> None:
        self._state = state
        self._timeout = timeout

    def container(
        self, container_id: str, timeout: float | None = None
    ) -> AbstractContextManager[None]:
        """One call at a time for a container, whoever makes it; its file goes with the call."""
        name = container_id[:200] + ".lock"
        limit = self._timeout if timeout is None else timeout
        return self._state.lock("locks", "container", name, timeout=limit, remove=True)

    def pf(self, address: str, timeout: float | None = None) -> AbstractContextManager[None]:
        """One at a time chooses VFs of a PF or speaks to its driver about them.

        Concurrent requests make some drivers refuse (i40e: "other operation is pending").
        """
        limit = self._timeout if timeout is None else timeout
        return self._state.lock("locks", "pf", address + ".lock", timeout=limit)

    def function(self, address: str, timeout: float | None = None) -> AbstractContextManager[None]:
        """The function's own lock: the very file that sriov-cni locks, so we exclude each other."""
        limit = self._timeout if timeout is None else timeout
        return self._state.lock("pci", "vf_lock", address + ".lock", timeout=limit)
