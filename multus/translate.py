"""Errors of other layers in the words of CNI: one table, used wherever one of them can surface."""

from __future__ import annotations

from hwmgr.errors import HwmgrError, LockTimeout, NamespaceError
from multus import cnitypes
from multus.api.clusterapi import ApiError, ApiNameError
from multus.cnitypes import CNIError, UnforeseenError
from multus.jsonfields import FieldError
from multus.result import ResultError


def to_cni(error: Exception) -> CNIError:
    """Return the CNI error for an error of ours; 999 for one that has no code of its own."""
    if isinstance(error, CNIError):
        return error
    if isinstance(error, LockTimeout):
        return CNIError(cnitypes.TRY_AGAIN_LATER, error.message)
    if isinstance(error, NamespaceError):
        return CNIError(cnitypes.INVALID_NETNS, error.message)
    if isinstance(error, ApiNameError):
        return CNIError(cnitypes.INVALID_CONFIG, str(error))
    if isinstance(error, ApiError):
        # Whatever it is, an administrator or time can mend it, and the runtime comes again.
        return CNIError(cnitypes.TRY_AGAIN_LATER, f"Kubernetes API: {error}")
    if isinstance(error, HwmgrError):
        return CNIError(cnitypes.INTERNAL, error.message)
    if isinstance(error, FieldError):
        return CNIError(cnitypes.INVALID_CONFIG, str(error))
    if isinstance(error, ResultError):
        return CNIError(cnitypes.INTERNAL, str(error))
    return UnforeseenError(cnitypes.INTERNAL, f"internal error: {type(error).__name__}: {error}")
