"""The ``sriov`` executable: the hardware layer as a CNI plugin of its own.

A drop-in for sriov-cni (``deviceID`` …) and for the plugin of 2018 (``if0``, ``dpdk`` …).
"""

import sys

from multus.__main__ import answer_without_engine


def main() -> int:
    """Answer the call that the environment describes; returns the exit status."""
    answered = answer_without_engine("sriov")
    if answered is not None:
        return answered
    from multus.wiring import run_sriov

    return run_sriov()


if __name__ == "__main__":
    sys.exit(main())
