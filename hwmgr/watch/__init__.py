"""Watching the node's SR-IOV functions."""
