"""One API server and what proves there who we are; a pod has it by its own account."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from multus.api.clusterapi import KubeconfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multus.jsonfields import Json


@dataclass(frozen=True, slots=True)
class Program:
    """A program that gives credentials (``exec``), see multus.api.credentialsprogram.

    ``cluster`` is what it is told of the cluster beside the authority's certificate, None where it
    does not want to know.
    """

    command: str
    arguments: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = field(repr=False)
    api_version: str = ""
    cluster: Json | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """One API server and our credentials there.

    Certificates and keys are the content (bytes) or the path of a file (str), PEM. ``program``
    gives the credentials, or (``provider``) what the client library knows how to ask. They are no
    good any more after ``expires`` (seconds since the epoch).
    """

    server: str
    authority: str | bytes | None = None
    certificate: str | bytes | None = None
    key: str | bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    login: tuple[str, str] | None = field(default=None, repr=False)
    verify: bool = True
    server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    kubeconfig: str | None = None
    program: Program | None = None
    provider: bool = False
    expires: float | None = None


def of_pod(env: Mapping[str, str], folder: str) -> Access | None:
    """Return the access that a pod has by its service account, None outside a cluster.

    ``folder`` is where the account is mounted. Raises KubeconfigError.
    """
    host, port = env.get("KUBERNETES_SERVICE_HOST"), env.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        return None
    token_file, authority = os.path.join(folder, "token"), os.path.join(folder, "ca.crt")
    if not os.access(token_file, os.R_OK):
        raise KubeconfigError(
            token_file, "cannot be read; mount the service account's token, or set kubeconfig"
        )
    return Access(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        authority=authority if os.path.exists(authority) else None,
        token_file=token_file,
    )


def files_of(access: Access) -> tuple[str, ...]:
    """Return the files that it was read from and those that are read once, when it is used.

    Token files are none of them: they are read for every request.
    """
    named = (access.kubeconfig, access.authority, access.certificate, access.key)
    return tuple(path for path in named if isinstance(path, str))
