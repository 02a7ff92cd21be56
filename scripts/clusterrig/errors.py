"""What can go wrong with the cluster."""

from __future__ import annotations


class ClusterError(Exception):
    """Something failed; the message says what, and where to look."""
