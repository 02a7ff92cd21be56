"""What stands in the way while nobody is at work: VFs that are being made look like a pod's."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from hwmgr import claims
from hwmgr.desired.observed import observe_pf
from hwmgr.desired.takeback import refuse
from hwmgr.errors import DeviceBusy, PlanRefused
from hwmgr.model import USERSPACE_DRIVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hwmgr.desired.changes import Plan
    from hwmgr.desired.observed import VfNow
    from hwmgr.node import Node

_NETDEVS_SECONDS = 10.0
_NO_NETDEV = (None, *USERSPACE_DRIVERS)


def refuse_at_rest(
    node: Node, pfs: Iterable[str], look: Callable[[], Plan], *, force: bool
) -> None:
    """As ``refuse``, of what is seen while nobody is at work on these PFs.

    A VF that has been made just now, by an apply or by hand, is without its netdev for a moment.
    Only where something stands in the way is that waited for, and are the locks of the PFs taken.
    Raises LockTimeout too.
    """
    try:
        refuse(look(), force=force)
    except (PlanRefused, DeviceBusy):
        # All who take several take them in this order.
        addresses = sorted(pfs)
        for address in addresses:
            await_netdevs(node, address)
        with ExitStack() as held:
            for address in addresses:
                held.enter_context(node.locks.pf(address))
            refuse(look(), force=force)


def await_netdevs(node: Node, address: str) -> None:
    """Wait for the netdevs of VFs that somebody has just made: theirs come after the VFs.

    One that is in another namespace, without a record or a claim, is waited for in vain.
    """

    def there() -> bool | None:
        late = any(_is_late(node, vf) for vf in observe_pf(node, address).vfs)
        return None if late else True

    node.udev.wait(there, _NETDEVS_SECONDS)


def _is_late(node: Node, vf: VfNow) -> bool:
    if vf.record is not None or vf.vf.netdevs or vf.driver in _NO_NETDEV:
        return False
    claim = claims.claimed_by(node.state, vf.vf.address)
    return claim is None or not claims.is_live(claim)
