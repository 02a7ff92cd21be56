"""Credentials that a kubeconfig's program gives (``exec``), asked for within a limit.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
No message quotes what the program printed: it may be a token.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from hwmgr.errors import RunError, RunTimeout
from multus.api.clusterapi import CredentialsError, KubeconfigError
from multus.jsonfields import FieldError, Fields, decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwmgr.run import Runner
    from multus.api.access import Access, Program

_KIND = "ExecCredential"
_BY_HAND = "run it by hand to see why"


def ask(access: Access, runner: Runner, env: Mapping[str, str], seconds: float) -> Access:
    """Return the access with the credentials of its program, if it has one.

    The program gets ``env`` and its own variables, and is killed with all that it started after so
    many seconds. Raises CredentialsError, and KubeconfigError where it cannot be run at all.
    """
    program = access.program
    if program is None:
        return access
    file = access.kubeconfig or ""
    path = _path(program, env)
    name = f"its credentials program {path}"
    if path is None:
        raise KubeconfigError(file, f"install its credentials program {program.command!r}")
    try:
        done = runner.run(
            [path, *program.arguments],
            env={**env, **dict(program.env), "KUBERNETES_EXEC_INFO": _told(program, access)},
            stdin=b"",
            timeout=seconds,
        )
    except RunTimeout as error:
        message = f"{name} did not answer within {seconds:g} s and was killed; {_BY_HAND}"
        raise CredentialsError(file, message) from error
    except RunError as error:
        message = f"{name} cannot be started: {os.strerror(error.errno)}"
        raise KubeconfigError(file, message) from error
    if done.returncode != 0:
        message = f"{name} failed with status {done.returncode}; {_BY_HAND}"
        raise CredentialsError(file, message)
    try:
        return _with_credentials(access, program, done.stdout)
    except (FieldError, ValueError):
        raise CredentialsError(file, f"{name} gave no {_KIND} that can be read") from None


def _path(program: Program, env: Mapping[str, str]) -> str | None:
    if "/" in program.command:
        return program.command
    return shutil.which(program.command, path=env.get("PATH") or os.defpath)


def _told(program: Program, access: Access) -> str:
    """Return what the program is told; nobody is there who could be asked for a password."""
    spec: dict[str, object] = {"interactive": False}
    if program.cluster is not None:
        spec["cluster"] = {**program.cluster, **_authority(access)}
    return json.dumps({"apiVersion": program.api_version, "kind": _KIND, "spec": spec})


def _authority(access: Access) -> dict[str, object]:
    """Return the authority's certificate as the program is told it, also where it is a file."""
    pem = access.authority
    if isinstance(pem, str):
        path = pem
        try:
            with open(path, "rb") as file:
                pem = file.read()
        except OSError as error:
            message = f"{path} cannot be read: {error.strerror}"
            raise KubeconfigError(access.kubeconfig or "", message) from error
    return {} if pem is None else {"certificate-authority-data": base64.b64encode(pem).decode()}


def _with_credentials(access: Access, program: Program, said: bytes) -> Access:
    """Return the access with what the program said. Raises FieldError, ValueError."""
    answer = Fields(decode(said, "its answer"), "its answer")
    if (answer.text("kind"), answer.text("apiVersion")) != (_KIND, program.api_version):
        raise FieldError("it answers in another form than it was asked in")
    status = Fields(answer.mapping("status"), "status")
    token = status.text("token")
    certificate, key = status.text("clientCertificateData"), status.text("clientKeyData")
    if not token and not (certificate and key):
        raise FieldError("neither token nor certificate")
    if certificate and key:
        access = replace(access, certificate=certificate.encode(), key=key.encode())
    access = replace(access, token_file=None, login=None, expires=_expires(status))
    return replace(access, token=token or access.token)


def _expires(status: Fields) -> float | None:
    """Return when the credentials expire; None also where they have, by a clock that is ahead.

    They are the newest that there are, and whether they are any good the server knows.
    """
    text = status.text("expirationTimestamp")
    expires = datetime.fromisoformat(text).timestamp() if text else None
    return None if expires is None or expires <= time.time() else expires
