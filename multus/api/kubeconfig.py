"""What a kubeconfig file says: where the API server is and what proves who we are.

https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/. No message has anything from the
file's values in it: they are secrets, and a value at a wrong place is one too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from multus.api.access import Access, Program, of_pod
from multus.api.clusterapi import KubeconfigError
from multus.jsonfields import FieldError, Fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multus.jsonfields import Json

# Configuration for the program, in the cluster's part of the file.
_FOR_PROGRAM = "client.authentication.k8s.io/exec"
_TOLD_OF_CLUSTER = (
    "server",
    "tls-server-name",
    "insecure-skip-tls-verify",
    "proxy-url",
)


def find(kubeconfig: str, env: Mapping[str, str], service_account: str) -> Access | None:
    """Return what a kubeconfig file says, else what the pod that we run in has; None without both.

    ``service_account`` is the folder where a pod's account is mounted. Raises KubeconfigError.
    """
    return read(kubeconfig) if kubeconfig else of_pod(env, service_account)


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

    def value(self, name: str) -> object:
        return self._fields.value(name)

    def texts(self, name: str) -> list[str]:
        try:
            return self._fields.texts(name) or []
        except FieldError as error:
            raise KubeconfigError(self._path, str(error)) from error

    def objects(self, name: str) -> list[Json]:
        try:
            return self._fields.objects(name) or []
        except FieldError as error:
            raise KubeconfigError(self._path, str(error)) from error

    def section(self, name: str) -> _Section:
        return _Section(self._fields.value(name), self._path, name)

    def named(self, kind: str, member: str, name: str) -> _Section:
        """Return what a list of named things has under this name."""
        for item in self.objects(kind):
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
        program=_program(path, cluster, user) if user.present("exec") else None,
        provider=user.present("auth-provider"),
    )


def _program(path: str, cluster: _Section, user: _Section) -> Program:
    section = user.section("exec")
    if section.text("interactiveMode") == "Always":
        raise KubeconfigError(path, "its credentials program wants a terminal, and there is none")
    command = section.need("command")
    if "/" in command:
        command = os.path.join(os.path.dirname(os.path.abspath(path)), command)
    told = None
    if section.flag("provideClusterInfo"):
        told = {name: cluster.value(name) for name in _TOLD_OF_CLUSTER if cluster.present(name)}
        for extension in cluster.objects("extensions"):
            if extension.get("name") == _FOR_PROGRAM:
                told["config"] = extension.get("extension")
    return Program(
        command,
        tuple(section.texts("args")),
        tuple((str(pair.get("name")), str(pair.get("value"))) for pair in section.objects("env")),
        section.need("apiVersion"),
        told,
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
