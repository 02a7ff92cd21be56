"""Where the API server is and what proves who we are: a kubeconfig file, or a pod's own account.

https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ and, inside a cluster, the variables
and the folder that every pod has. No message has anything from the file's values in it: they are
secrets, and a value at a wrong place is one too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from multus.clusterapi import KubeconfigError
from multus.jsonfields import FieldError, Fields

if TYPE_CHECKING:
    from collections.abc import Mapping

# What client-go knows that needs a program or a conversation of its own.
_BY_PLUGIN = ("exec", "auth-provider")


@dataclass(frozen=True, slots=True)
class Access:
    """One API server and our credentials there.

    Certificates and keys are the content (bytes) or the path of a file (str), PEM. ``by_plugin``
    means that the credentials come from what ``kubeconfig`` names: a program, or a provider.
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
    by_plugin: bool = False


def read(path: str) -> Access:
    """Read what the current context of a kubeconfig file says.

    Raises KubeconfigError, whose message says what to put right.
    """
    whole = _Section(_load(path), path, "the file")
    context = whole.named("contexts", "context", whole.need("current-context"))
    cluster = whole.named("clusters", "cluster", context.need("cluster"))
    name = context.text("user")
    user = whole.named("users", "user", name) if name else _Section({}, path, "no user")
    return _access(path, cluster, user)


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


def files(access: Access) -> tuple[str, ...]:
    """Return the files that it was read from and those that are read once, when it is used.

    Token files are none of them: they are read for every request.
    """
    named = (access.kubeconfig, access.authority, access.certificate, access.key)
    return tuple(path for path in named if isinstance(path, str))


class _Section:
    """A part of the file: values by name, and where they should have been."""

    def __init__(self, value: object, path: str, where: str) -> None:
        self._path, self._where = path, where
        try:
            self._fields = Fields(value, where)
        except FieldError as error:
            raise KubeconfigError(path, str(error)) from error

    def text(self, name: str) -> str | None:
        try:
            return self._fields.text(name) or None
        except FieldError as error:
            raise KubeconfigError(self._path, str(error)) from error

    def need(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise KubeconfigError(self._path, f"set {name!r} in {self._where}")
        return value

    def flag(self, name: str) -> bool:
        try:
            return self._fields.flag(name)
        except FieldError as error:
            raise KubeconfigError(self._path, str(error)) from error

    def present(self, name: str) -> bool:
        return self._fields.present(name)

    def named(self, kind: str, member: str, name: str) -> _Section:
        """Return what a list of named things has under this name."""
        try:
            items = self._fields.objects(kind) or []
        except FieldError as error:
            raise KubeconfigError(self._path, str(error)) from error
        for item in items:
            if item.get("name") == name:
                return _Section(item.get(member) or {}, self._path, f"{member} {name!r}")
        raise KubeconfigError(self._path, f"there is no {name!r} in {kind!r}")

    def pem(self, name: str) -> str | bytes | None:
        """Return a certificate or key: its content, or the path of its file."""
        data = self.text(f"{name}-data")
        if data is None:
            return self.file(name)
        import base64

        try:
            return base64.b64decode(data)
        except ValueError:
            raise KubeconfigError(
                self._path, f"{name}-data in {self._where} is not base64"
            ) from None

    def file(self, name: str) -> str | None:
        """Return the path of a file, which may be given relative to the kubeconfig's folder."""
        value = self.text(name)
        if value is None:
            return None
        return os.path.join(os.path.dirname(os.path.abspath(self._path)), value)


def _access(path: str, cluster: _Section, user: _Section) -> Access:
    server = cluster.need("server").rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise KubeconfigError(path, "'server' must begin with https://")
    authority = cluster.pem("certificate-authority")
    verify = not cluster.flag("insecure-skip-tls-verify")
    if authority is not None and not verify:
        raise KubeconfigError(path, "take out certificate-authority or insecure-skip-tls-verify")
    certificate, key = user.pem("client-certificate"), user.pem("client-key")
    if (certificate is None) != (key is None):
        raise KubeconfigError(path, "set client-certificate and client-key, or neither")
    login, password = user.text("username"), user.text("password")
    return Access(
        server=server,
        authority=authority,
        certificate=certificate,
        key=key,
        token=user.text("token"),
        token_file=user.file("tokenFile"),
        login=(login, password or "") if login else None,
        verify=verify,
        server_name=cluster.text("tls-server-name"),
        proxy=cluster.text("proxy-url"),
        kubeconfig=path,
        by_plugin=any(user.present(name) for name in _BY_PLUGIN),
    )


def _load(path: str) -> object:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        why = f"cannot be read: {error.strerror}; write it, or take kubeconfig out of multus' file"
        raise KubeconfigError(path, why) from error
    except UnicodeDecodeError:
        raise KubeconfigError(path, "is not text in UTF-8") from None
    if text.lstrip().startswith("{"):
        import json

        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError):
            pass  # braces are YAML too
        else:
            return value
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        # Its own message quotes the line, which may be a key.
        line = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        raise KubeconfigError(path, f"is not YAML{line}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise KubeconfigError(path, "is not YAML") from None
